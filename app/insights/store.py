"""Reads and writes the database rows of insights, through SQL functions that first write a row to the audit log or
check that the insights may still be written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, LiteralString
from uuid import UUID

from pydantic_core import from_json

from app.integrations.language.port import LanguageUsage
from app.postgres.composer import Row
from app.postgres.content_reads import ContentRead
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_INSIGHTS: Final = ContentRead(
    entities=ENTITIES,
    entity="insights",
    where="r.recording_id = %(id)s",
    order="id",
    content="private.open_insights(%(action)s, %(id)s, e.entities, %(fields)s)",
)


@dataclass(frozen=True)
class OpenedInsights:
    """Encrypted insights, the recording's wrapped data key, and the numbers of the dismissed lines. `metadata` has the
    selected `recording`. `is_refreshed` says whether the worker writes a new generation of these insights.
    """

    id: UUID
    metadata: Row
    is_stale: bool
    is_refreshed: bool
    generation: int
    language: str | None
    vendor: str
    model: str
    dropped_count: int
    written_at: datetime
    dismissed: frozenset[int]
    ciphertext: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)
    root_key_id: str


async def open_insights(
    tx: Transaction, action: LiteralString, recording_id: UUID, selection: Selection
) -> OpenedInsights | None:
    """Write the audit row and return the encrypted insights with the selected metadata. Return None if the person may
    not read them, or if they do not exist or are neither READY nor STALE. Raises Conflict (recording_being_deleted,
    recording_deleted), RateLimited (quota_pages).
    """
    metadata = Selection(tuple(one for one in selection.fields if one.name == "recording"))
    rows = await _INSIGHTS.all(
        tx, metadata, {"action": action, "id": recording_id, "fields": list(selection.paths)}
    )
    if not rows:
        return None
    row = rows[0]
    (shown,) = from_json(row["metadata"])
    return OpenedInsights(
        id=row["id"],
        metadata=shown,
        is_stale=row["status"] == "STALE",
        is_refreshed=row["is_refreshed"],
        generation=row["generation"],
        language=row["language"],
        vendor=row["vendor"],
        model=row["model"],
        dropped_count=row["dropped_count"],
        written_at=row["written_at"],
        dismissed=frozenset(row["dismissed"]),
        ciphertext=row["ciphertext"],
        wrapped=row["wrapped"],
        root_key_id=row["root_key"],
    )


async def dismiss(tx: Transaction, recording_id: UUID, generation: int, line_number: int) -> None:
    """Dismiss a line of the insights that were opened in this transaction. Raises Conflict (insights_changed)."""
    parameters = {"id": recording_id, "generation": generation, "line_number": line_number}
    await tx.run(_sql["dismiss"], parameters)


async def retry(tx: Transaction, recording_id: UUID) -> bool:
    """Begin FAILED or OFF insights again. Return False, after writing the audit row, if the recording does not belong
    to the person or has no insights. Raises Conflict (insights_not_failed, insights_switched_off,
    insights_consent_withdrawn, insights_consent_text, recording_being_deleted, recording_deleted).
    """
    return bool(await tx.value(_sql["retry"], {"id": recording_id}))


async def refresh(tx: Transaction, recording_id: UUID) -> bool:
    """Begin a new generation of STALE insights. Return False, after writing the audit row, if the recording does not
    belong to the person or has no insights. Raises Conflict (insights_not_stale) and the other errors of `retry`.
    """
    return bool(await tx.value(_sql["refresh"], {"id": recording_id}))


@dataclass(frozen=True)
class BegunInsights:
    """Insights that this worker has begun to write: the encrypted transcript, the recording's wrapped data key, and
    the encrypted answers that are stored already, by part and round.

    `run` identifies this attempt of a worker, so that a later attempt can take over. `corrections` are the corrections
    on which this generation is based, in order. `language` is the ISO 639 code of the consultation's language, or None
    if it is unknown.
    """

    generation: int
    run: int
    language: str | None
    corrections_used: int
    duration_seconds: float | None
    is_truncated: bool
    is_interrupted: bool
    unused_track_count: int
    text: bytes = field(repr=False)
    corrections: tuple[bytes, ...] = field(repr=False)
    wrapped: bytes = field(repr=False)
    root_key_id: str
    answers: Mapping[tuple[int, int], bytes] = field(repr=False)


async def begin(tx: Transaction, recording_id: UUID, *, is_charged: bool) -> BegunInsights | None:
    """Write the audit row, and begin or resume the writing of insights. Return None if nothing is to be written now.
    `is_charged` says whether the doctor's budget bounds the requests.
    """
    row = await tx.one(_sql["begin"], {"id": recording_id, "is_charged": is_charged})
    if row is None:
        return None
    places = zip(row["parts"], row["rounds"], strict=True)
    return BegunInsights(
        generation=row["generation"],
        run=row["run"],
        language=row["language"],
        corrections_used=row["corrections_used"],
        duration_seconds=row["duration_seconds"],
        is_truncated=row["is_truncated"],
        is_interrupted=row["is_interrupted"],
        unused_track_count=row["unused_track_count"],
        text=row["ciphertext"],
        corrections=tuple(row["corrections"]),
        wrapped=row["wrapped"],
        root_key_id=row["root_key"],
        answers=dict(zip(places, row["answers"], strict=True)),
    )


async def store_part_count(tx: Transaction, recording_id: UUID, run: int, part_count: int) -> None:
    """Store into how many parts the transcript is divided."""
    await tx.run(_sql["store_part_count"], {"id": recording_id, "run": run, "part_count": part_count})


async def count_request(
    tx: Transaction, recording_id: UUID, run: int, part: int, round_number: int, *, is_charged: bool
) -> bool | None:
    """Count a request right before it is sent. Return True if it must be sent, False if another worker has stored its
    answer, and None if the insights are not to be written, or not today. Raises Conflict (insights_overtaken).
    """
    parameters = {"id": recording_id, "run": run, "part": part, "round": round_number}
    wanted: bool | None = await tx.value(_sql["count_request"], {**parameters, "is_charged": is_charged})
    return wanted


async def take_back_request(tx: Transaction, recording_id: UUID, part: int, round_number: int) -> None:
    """Take back the count of a request for which the service did not charge."""
    await tx.run(_sql["take_back_request"], {"id": recording_id, "part": part, "round": round_number})


async def store_answer(
    tx: Transaction, recording_id: UUID, begun: BegunInsights, part: int, round_number: int, ciphertext: bytes
) -> None:
    """Store the answer for a part, if the insights are still to be written from the same text and the part has no
    answer yet.
    """
    parameters = {
        "id": recording_id,
        "generation": begun.generation,
        "corrections_used": begun.corrections_used,
        "part": part,
        "round": round_number,
        "ciphertext": ciphertext,
    }
    await tx.run(_sql["store_answer"], parameters)


async def count_tokens(tx: Transaction, recording_id: UUID, usage: LanguageUsage) -> None:
    """Add the tokens of an answer to the cost ledger."""
    parameters = {
        "id": recording_id,
        "vendor": usage.vendor,
        "model": usage.model,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }
    await tx.run(_sql["count_tokens"], parameters)


@dataclass(frozen=True)
class FinishedInsights:
    """Finished insights to store, with their topics apart. `dropped_count` is the number of lines that were left
    out.
    """

    ciphertext: bytes = field(repr=False)
    topics: bytes = field(repr=False)
    language: str | None
    vendor: str
    model: str
    dropped_count: int


async def finish(
    tx: Transaction, recording_id: UUID, begun: BegunInsights, finished: FinishedInsights
) -> None:
    """Store the insights as READY, or as STALE if the transcript has changed meanwhile."""
    parameters = {
        "id": recording_id,
        "generation": begun.generation,
        "run": begun.run,
        "ciphertext": finished.ciphertext,
        "topics": finished.topics,
        "language": finished.language,
        "vendor": finished.vendor,
        "model": finished.model,
        "dropped_count": finished.dropped_count,
    }
    await tx.run(_sql["finish"], parameters)


async def give_up(
    tx: Transaction,
    recording_id: UUID,
    status: Literal["FAILED", "OFF", "NO_SPEECH"],
    reason: str | None,
    useless_parts: Sequence[int] = (),
) -> None:
    """End the insights with a reason, which the doctor sees. The answers for the useless parts are deleted."""
    parameters = {
        "id": recording_id,
        "status": status,
        "reason": reason,
        "useless_parts": list(useless_parts),
    }
    await tx.run(_sql["give_up"], parameters)


async def queue_unfinished(tx: Transaction) -> None:
    """Queue a job for all unfinished insights that have no job."""
    await tx.run(_sql["resume"])
