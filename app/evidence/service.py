"""Makes evidence packs. A pack is written into a temporary folder, which is renamed at the end. A folder with the name
of a pack is therefore always complete.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from app.audit.verification.receipts import EVENT_EXTENSION, PROOF_EXTENSION, Receipt
from app.evidence import store
from app.evidence.files import PackWriter, PublishedLog, require_new_folder
from app.evidence.index import compose_index
from app.evidence.model import Pack, Range, SectionReport
from app.evidence.receipts import find_receipt
from app.evidence.sections import SECTIONS, OnProgress, Sources
from app.postgres.database import Database

SEAL_SECONDS: Final = 120
"""How long the command waits for the receipt of the event that records the pack. If the log has witnesses, they
cosign at most once a minute."""

_NAME: Final = "evidence"


@dataclass(frozen=True)
class EvidenceOrder:
    """The request for a pack: its range of time, its new folder, and the reports of restore drills."""

    wanted: Range
    folder: Path
    drills: Sequence[Path] = ()


class EvidencePacks:
    """Makes packs. `policy` is the policy with the keys of the audit log (tlog-policy)."""

    def __init__(
        self,
        database: Database,
        log: PublishedLog,
        *,
        deployment: str,
        policy: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        seal_seconds: int = SEAL_SECONDS,
    ) -> None:
        self._database = database
        self._log = log
        self._deployment = deployment
        self._policy = policy
        self._sleep = sleep
        self._seal_seconds = seal_seconds

    async def make(
        self, order: EvidenceOrder, on_progress: OnProgress = lambda _name, _done, _total: None
    ) -> Pack:
        """Make a pack, and record it in the audit log: the event evidence.export has the SHA-256 of manifest.json. If
        the receipt of this event is not available in time, the pack is made without it.

        Raises InvalidInput (evidence_folder_exists), UpstreamFailed, Timeout.
        """
        making = require_new_folder(order.folder)
        writer, pack_id = PackWriter(making), uuid4()
        sources = Sources(
            self._database,
            self._log,
            order.wanted,
            self._deployment,
            self._policy,
            order.drills,
            writer,
            on_progress,
        )
        reports: list[SectionReport] = []
        for number, (name, collect) in enumerate(SECTIONS):
            on_progress(name, number, len(SECTIONS))
            reports.append(await collect(sources))
        index = compose_index(self._deployment, pack_id, order.wanted, reports)
        writer.write("INDEX.md", index.encode())
        files = writer.digests
        writer.write_json("manifest.json", files)
        sha256 = hashlib.sha256((making / "manifest.json").read_bytes()).hexdigest()
        async with self._database.as_service("make_evidence") as tx:
            event_id = await store.record_pack(tx, pack_id, sha256, len(files), writer.size_bytes)
        receipt = await self._await_receipt(event_id, on_progress)
        if receipt is not None:
            writer.write(f"{_NAME}{PROOF_EXTENSION}", receipt.proof)
            writer.write(f"{_NAME}.event{EVENT_EXTENSION}", receipt.event)
        making.rename(order.folder)
        return Pack(len(files), writer.size_bytes, sha256, tuple(reports), receipt is not None)

    async def _await_receipt(self, event_id: UUID, on_progress: OnProgress) -> Receipt | None:
        """Return the receipt of an event as soon as the verifier accepts it, or None if the time limit ends first."""
        for second in range(self._seal_seconds):
            receipt = await find_receipt(self._database, event_id, self._policy)
            if receipt is not None:
                return receipt
            on_progress("the seal of this pack", second, self._seal_seconds)
            await self._sleep(1)
        return None
