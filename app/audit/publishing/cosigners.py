"""Collects the cosignatures of the configured witnesses for a checkpoint. A witness that fails delays a publication by
at most `COSIGN_SECONDS`, and the checkpoint is published without its cosignature.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from app.alerts.model import AlertKind
from app.alerts.service import Alerts
from app.audit.publishing import store
from app.audit.publishing.model import PublishedLog
from app.errors import AppError
from app.integrations.witness.client import Witness
from app.postgres.database import Database
from app.transparency_log.notes import NoteSignature, SignedNote
from app.transparency_log.tiles import consistency_proof, tiles_for_consistency

log = logging.getLogger(__name__)

COSIGN_SECONDS: Final = 20.0
ATTEMPTS: Final = 3
"""A witness may name another size, and again another one while somebody else submits a checkpoint."""

REPEAT_SECONDS: Final = 3600
_AHEAD: Final = "it cosigned a larger log"
_ALARMING: Final = {"witness_inconsistent", _AHEAD}


class Cosigners:
    """The witnesses of the audit log. `clock` returns seconds and never goes back.

    A process remembers the size that each witness cosigned last. It asks a witness that it does not know with the size
    of the published checkpoint, and the witness then names its own size.
    """

    def __init__(
        self, database: Database, witnesses: Sequence[Witness], *, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._witnesses = tuple(witnesses)
        self._clock = clock
        self._sizes: dict[tuple[str, str], int] = {}
        self._failures: dict[tuple[str, str], tuple[str, float]] = {}
        self._alerts = Alerts(database)
        self._agreeing: set[tuple[str, str]] = set()

    async def cosign(self, of: PublishedLog, note: SignedNote) -> SignedNote:
        """Return the note with the cosignatures of all witnesses that gave one."""
        given = await asyncio.gather(*(self._ask_bounded(witness, of, note) for witness in self._witnesses))
        for witness, one in zip(self._witnesses, given, strict=True):
            await self._write_alert(witness, of, has_cosigned=one is not None)
        return note.with_signatures(one for one in given if one is not None)

    async def _write_alert(self, witness: Witness, of: PublishedLog, *, has_cosigned: bool) -> None:
        """Open the alert of a witness that saw another log, and close it once the witness cosigns."""
        place, key = (of.origin, witness.name), f"{of.log_year}:{witness.name}"
        if has_cosigned and place not in self._agreeing:
            await self._alerts.close(AlertKind.AUDIT_WITNESS_DIFFERS, key)
            self._agreeing.add(place)
        elif not has_cosigned and self._failures.get(place, ("",))[0] in _ALARMING:
            self._agreeing.discard(place)
            await self._alerts.open(AlertKind.AUDIT_WITNESS_DIFFERS, key)

    async def _ask_bounded(
        self, witness: Witness, of: PublishedLog, note: SignedNote
    ) -> NoteSignature | None:
        try:
            async with asyncio.timeout(COSIGN_SECONDS):
                return await self._ask(witness, of, note)
        except TimeoutError:
            self._report(witness, of, "witness_timeout")
        except AppError as error:
            self._report(witness, of, error.reason)
        return None

    async def _ask(self, witness: Witness, of: PublishedLog, note: SignedNote) -> NoteSignature | None:
        place = (of.origin, witness.name)
        old_size = min(self._sizes.get(place, of.published_size), of.size)
        for _ in range(ATTEMPTS):
            proof = await self._prove(of, old_size)
            answer = await witness.add_checkpoint(old_size, proof, note)
            if isinstance(answer, NoteSignature):
                self._sizes[place] = of.size
                if self._failures.pop(place, None) is not None:
                    log.info("the witness %s cosigns the audit log %s again", witness.name, of.origin)
                return answer
            if answer > of.size:
                self._report(witness, of, _AHEAD)
                return None
            old_size = answer
        self._report(witness, of, "its size changes with every request")
        return None

    async def _prove(self, of: PublishedLog, old_size: int) -> list[bytes]:
        needed = tiles_for_consistency(old_size, of.size)
        if not needed:
            return []
        async with self._database.as_service("publish_audit_log") as tx:
            tiles = await store.read_proof_tiles(tx, of.log_year, needed)
        return consistency_proof(old_size, of.size, tiles)

    def _report(self, witness: Witness, of: PublishedLog, reason: str) -> None:
        """Log a failure when it begins, when its reason changes, and once an hour."""
        place, now = (of.origin, witness.name), self._clock()
        known, reported_at = self._failures.get(place, ("", -REPEAT_SECONDS))
        if known == reason and now - reported_at < REPEAT_SECONDS:
            return
        self._failures[place] = (reason, now)
        log.warning(
            "the witness %s did not cosign the audit log %s at %d leaves: %s",
            witness.name,
            of.origin,
            of.size,
            reason,
        )
