"""Reads and writes database rows about the bucket: the retention terms in use, the held folders, the drifts, and
the recordings to which objects belong.

All functions of this module need the worker's database role.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from app.bucket.drifts import Drift, Inspection, Prefix
from app.bucket.model import Part
from app.postgres.database import Transaction
from app.postgres.queries import Queries

_sql: Final = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class MissingObject:
    """A READY recording whose object is not in the bucket's list of objects. `missing_since` is None if the missing
    object was not reported yet.
    """

    id: UUID
    video_id: UUID | None
    consultation_id: UUID
    missing_since: datetime | None


async def take_rules_turn(tx: Transaction, holder: UUID) -> bool:
    """Take the lease that permits a process to write the bucket's rules. Return False while another process has the
    lease.
    """
    return bool(await tx.value(_sql["take_rules_turn"], {"holder": holder}))


async def renew_rules_turn(tx: Transaction, holder: UUID) -> bool:
    """Renew the lease that permits a process to write the bucket's rules. Return False if another process has taken
    the lease since.
    """
    return bool(await tx.value(_sql["renew_rules_turn"], {"holder": holder}))


async def give_rules_turn_back(tx: Transaction, holder: UUID) -> None:
    """Give back the lease that permits a process to write the bucket's rules."""
    await tx.run(_sql["give_rules_turn_back"], {"holder": holder})


async def list_retention_days(tx: Transaction) -> tuple[int, ...]:
    """Return, in days, the retention terms of the policy in force and of the objects under r/."""
    return tuple(await tx.value(_sql["retention_days"]))


async def list_protected_prefixes(tx: Transaction) -> tuple[Prefix, ...]:
    """Return the folders of consultations under r/ that a legal hold or an access request protects."""
    return _to_prefixes(await tx.all(_sql["protected_prefixes"]))


async def list_endangered_prefixes(tx: Transaction) -> tuple[Prefix, ...]:
    """Return the folders of consultations under r/ whose recordings the bucket's lifecycle rules would delete
    before they are due.
    """
    return _to_prefixes(await tx.all(_sql["endangered_prefixes"]))


async def read_access_state(tx: Transaction) -> tuple[str, tuple[str, ...] | None]:
    """Return the version of policies/access that the database has, and the database objects whose rights were
    changed after this version was applied. The second returned value is None if no version of policies/access was
    ever applied.
    """
    row = await tx.one(_sql["access_standing"])
    assert row is not None  # noqa: S101 - the function returns one row
    return row["policy_version"], None if row["changed"] is None else tuple(row["changed"])


async def record_change(tx: Transaction, part: Part, outcome: str) -> None:
    """Write the audit row of a change to the bucket's rules: before the rules are written, or after writing them
    failed.
    """
    await tx.run(_sql["record_change"], {"part": part.value, "outcome": outcome})


async def settle_drifts(
    tx: Transaction, inspection: Inspection
) -> tuple[frozenset[tuple[str, str]], tuple[tuple[str, str], ...]]:
    """Store the result of a check of the bucket, and write audit rows for new and ended drifts. Return the code and
    the subject of each new drift and of each ended drift.
    """
    rows = await tx.all(
        _sql["settle_drifts"],
        {
            "topics": [topic.value for topic in inspection.checked],
            "drifts": Jsonb([_to_row(one) for one in inspection.drifts]),
        },
    )
    begun = frozenset((row["drift_code"], row["drift_subject"]) for row in rows if not row["is_over"])
    return begun, tuple((row["drift_code"], row["drift_subject"]) for row in rows if row["is_over"])


async def begin_sweep(tx: Transaction) -> tuple[datetime, str]:
    """Return the database's time and the deployment's name in the database's mark. The returned name is "" if the
    database has no mark.
    """
    row = await tx.one(_sql["begin_sweep"])
    assert row is not None  # noqa: S101 - a select without a from has one row
    return row["now"], row["deployment"] or ""


async def find_unknown_object_keys(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """Return the given object keys that belong to no recording, no import and no move of an object."""
    return set(await tx.value(_sql["unknown_object_keys"], {"keys": list(keys)}))


async def report_orphans(tx: Transaction, video_ids: Sequence[UUID], reason: LiteralString) -> None:
    """Write one audit row for each video whose id is in the key of an orphaned object."""
    await tx.run(_sql["report_orphans"], {"ids": list(video_ids), "reason": reason})


async def find_videos_in_progress(tx: Transaction, video_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of the given videos that are being recorded or verified, or beside which a sound is being
    recorded or verified.
    """
    rows = await tx.all(_sql["videos_in_progress"], {"ids": list(video_ids)})
    return {row["id"] for row in rows}


async def find_deleted_videos(tx: Transaction, video_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of the given videos whose status is DELETED."""
    return {row["id"] for row in await tx.all(_sql["deleted_videos"], {"ids": list(video_ids)})}


async def record_sweep(tx: Transaction, key: str, video_id: UUID, reason: LiteralString) -> bool:
    """Write the audit row before an orphaned object is deleted. Return False if the orphaned object must stay.

    An orphaned object stays if the database knows its key now, or if a legal hold covers its video. An orphaned
    object also stays if the video or a sound beside it is unfinished or LOST, because the object may be the only
    file of that recording.
    """
    return await tx.run(_sql["record_sweep"], {"key": key, "video_id": video_id, "reason": reason}) == 1


async def record_failed_sweep(tx: Transaction, video_id: UUID, reason: LiteralString) -> None:
    """Write an audit row that says that an orphaned object could not be deleted."""
    await tx.run(_sql["record_failed_sweep"], {"video_id": video_id, "reason": reason})


async def record_abort(tx: Transaction, video_id: UUID) -> bool:
    """Write the audit row before an unfinished upload is aborted. Return False if the upload may still be in use."""
    return await tx.run(_sql["record_abort"], {"video_id": video_id}) == 1


async def begin_search_for_missing(tx: Transaction) -> tuple[datetime, int]:
    """Return the database's time and the number of READY recordings."""
    row = await tx.one(_sql["begin_search_for_missing"])
    assert row is not None  # noqa: S101 - the function returns one row
    return row["at"], row["verified"]


async def find_missing_objects(
    tx: Transaction, after_key: str, last_key: str, present: Sequence[str]
) -> list[MissingObject]:
    """Return the READY recordings whose object key is in the given range and not among the keys `present`. If a
    recording was marked as missing and its key is `present`, remove the mark.
    """
    parameters = {"after_key": after_key, "last_key": last_key, "present": list(present)}
    return [MissingObject(**row) for row in await tx.all(_sql["missing_objects"], parameters)]


async def report_missing(tx: Transaction, recording_id: UUID, seen_at: datetime) -> bool:
    """Mark the object of a recording as missing, and write the audit row. Return False if the object was already
    marked as missing.
    """
    return bool(await tx.value(_sql["report_missing"], {"id": recording_id, "seen_at": seen_at}))


async def destroy_missing(tx: Transaction, video_id: UUID, missing_before: datetime) -> bool:
    """Begin to destroy a video whose object is missing. Return False if a legal hold covers the video, or if a
    sound beside it still has its object.
    """
    return bool(await tx.value(_sql["destroy_missing"], {"id": video_id, "missing_before": missing_before}))


async def list_lost_recordings(tx: Transaction, within: timedelta) -> dict[UUID, datetime]:
    """Return the recordings that became LOST within the given time, each with the time when it became LOST, newest
    first.
    """
    rows = await tx.all(_sql["lost_recordings"], {"within": within})
    return {row["id"]: row["status_at"] for row in rows}


async def read_object_key(tx: Transaction, recording_id: UUID) -> str | None:
    """Write the audit row and return the object key of a recording. Return None if the recording has no key."""
    key: str | None = await tx.value(_sql["read_object_key"], {"recording_id": recording_id})
    return key


def _to_prefixes(rows: Iterable[DictRow]) -> tuple[Prefix, ...]:
    return tuple(Prefix(row["consultation_id"], row["prefix"], row["is_finished"]) for row in rows)


def _to_row(drift: Drift) -> dict[str, str | None]:
    consultation = drift.consultation_id
    return {
        "topic": drift.topic.value,
        "code": drift.code,
        "subject": drift.subject,
        "consultation_id": None if consultation is None else str(consultation),
    }


async def find_unknown_export_keys(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """Return the given object keys that belong to no copy for an access request and no export of the audit log."""
    return set(await tx.value(_sql["unknown_export_keys"], {"keys": list(keys)}))


async def may_sweep_export(tx: Transaction, export_id: UUID, object_key: str) -> bool:
    """Return whether the object still belongs to no copy and no export. If it belongs to none, write the audit row of
    the sweep that deletes the object.
    """
    return await tx.run(_sql["record_export_sweep"], {"id": export_id, "object_key": object_key}) == 1
