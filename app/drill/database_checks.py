"""Checks a restored database: its deployment, its completeness, and the keys that it needs.

The checks run as the superuser of the restored server, which has no other users and is removed at the end.
"""

import hashlib
from dataclasses import dataclass, field
from uuid import UUID

from psycopg.rows import class_row

from app.drill.model import Notes
from app.errors import AppError
from app.insights.encryption import insights_field
from app.keys.keyring import Field, Keyring
from app.notes.signed_store import version_field
from app.postgres.access_policies import MIGRATIONS_DIRECTORY, access_version
from app.postgres.connections import connect_as_owner
from app.postgres.migrations import pending
from app.session_notes.encryption import note_field
from app.session_notes.model import NoteKind
from app.transcripts.encryption import transcript_field

_AUDIT = """
select count(*), coalesce(max(e.recorded_at)::text, ''),
    (select count(*) from pg_trigger as t where t.tgrelid = 'audit.events'::regclass and t.tgenabled = 'A')
from audit.events as e
"""
_PUBLISHED = """
select l.origin, l.size, p.size as published_size, p.checkpoint
from audit.logs as l
left join audit.published_logs as p on p.log_year = l.log_year
order by l.log_year
"""
_KEYS = """
select k.root_key_id, count(*)
from (
    select r.root_key_id from private.recording_keys as r
    union all
    select p.root_key_id from private.patient_keys as p
) as k
group by 1 order by 1
"""
_INDEX_KEY = "select k.wrapped_key, k.root_key_id from private.word_index_key as k"
_UNDONE = """
select r.id from resguardo.recordings as r where r.id = any(%(ids)s) and r.status <> 'DELETED'
union all
select n.id from resguardo.signed_notes as n where n.id = any(%(ids)s) and n.status = 'KEPT'
order by 1
"""
_SIGNED = """
select n.id, v.version, n.patient_id, v.sha256, t.ciphertext, k.wrapped_key, k.root_key_id, exists (
    select from audit.events as e where e.digest = v.sha256 and e.action in ('note.sign', 'note.add_addendum')
)
from resguardo.signed_notes as n
join resguardo.signed_note_versions as v on v.note_id = n.id
left join private.signed_note_texts as t on t.note_id = v.note_id and t.version = v.version
left join private.patient_keys as k on k.patient_id = n.patient_id
where n.status = 'KEPT' and n.id <> all(%(gone)s)
order by random() limit %(size)s
"""
_SAMPLE = """
select r.id, r.medium, r.sha256, r.size_bytes, s.object_key, k.wrapped_key, k.root_key_id,
    w.ciphertext as words, n.generation as insights_generation, n.ciphertext as insights, exists (
        select from audit.events as e
        where e.action = 'recording.transition'
        and e.entities -> 0 -> 'ids' = to_jsonb(array[r.id]) and e.reason ~ '(^|>)READY($|:)'
    ) as is_logged
from resguardo.recordings as r
left join private.recording_secrets as s on s.recording_id = r.id
left join private.recording_keys as k on k.recording_id = r.id
left join private.transcript_texts as w on w.recording_id = r.id
left join private.insight_texts as n on n.recording_id = r.id
where r.status = 'READY' and r.id <> all(%(gone)s) and coalesce(r.video_id <> all(%(gone)s), true)
order by random() limit %(size)s
"""


_SESSION_NOTES = """
select n.id, n.version, n.ciphertext from private.session_notes as n where n.recording_id = %s
"""
_PSYCHOTHERAPY_NOTES = """
select n.id, n.version, n.ciphertext from private.psychotherapy_notes as n where n.recording_id = %s
"""


@dataclass(frozen=True)
class SampledRecording:
    """A READY recording as the restored database describes it."""

    id: UUID
    medium: str
    sha256: str | None
    size_bytes: int | None
    object_key: str | None
    wrapped_key: bytes | None
    root_key_id: str | None
    words: bytes | None = field(repr=False)
    insights_generation: int | None
    insights: bytes | None = field(repr=False)
    is_logged: bool


def check_mark(url: str, deployment: str, notes: Notes) -> None:
    """Check that the dump belongs to this deployment."""
    with connect_as_owner(url, application="resguardo-drill") as connection:
        row = connection.execute("select d.name from private.deployment as d").fetchone()
    notes.require(row is not None, "database_unmarked")
    notes.require(row is None or row[0] == deployment, "database_of_another_deployment")


def check_migrations(url: str, notes: Notes) -> None:
    """Check that the dump has exactly the migrations of this release."""
    try:
        for migration in pending(url, MIGRATIONS_DIRECTORY):
            notes.require(False, "migration_missing", migration.version)
    except AppError as error:
        notes.require(False, error.reason)


def check_policies(url: str, notes: Notes) -> None:
    """Check that the access rights in the dump are those of `policies/access`."""
    with connect_as_owner(url, application="resguardo-drill") as connection:
        row = connection.execute("select private.policy_version()").fetchone()
    notes.found["version"] = str(row[0]) if row else ""
    notes.require(row is not None and row[0] == access_version(), "policies_differ")


def check_audit_log(url: str, notes: Notes) -> None:
    """Count the audit rows, note the time of the last one, and check that the audit log's triggers exist."""
    with connect_as_owner(url, application="resguardo-drill") as connection:
        row = connection.execute(_AUDIT).fetchone()
    rows, newest, guards = row or (0, "", 0)
    notes.found |= {"rows": int(rows), "newest": str(newest)}
    notes.require(rows > 0, "audit_log_empty")
    notes.require(guards > 0, "audit_log_unguarded")


@dataclass(frozen=True)
class RestoredLog:
    """An audit log in the dump: its size, and its newest checkpoint that was published before the dump."""

    origin: str
    size: int
    published_size: int | None
    checkpoint: str | None


def read_logs(url: str) -> list[RestoredLog]:
    """Return the audit logs in the dump, the earliest year first."""
    with connect_as_owner(url, application="resguardo-drill") as connection:
        cursor = connection.cursor(row_factory=class_row(RestoredLog))
        return cursor.execute(_PUBLISHED).fetchall()


def check_root_keys(url: str, keyring: Keyring, notes: Notes) -> None:
    """Check that the escrow file contains every root key that any data key needs."""
    with connect_as_owner(url, application="resguardo-drill") as connection:
        used: dict[str, int] = {str(key_id): count for key_id, count in connection.execute(_KEYS)}
        known = connection.execute("select k.id, k.check_value from private.root_keys as k").fetchall()
    values = keyring.check_values()
    notes.found |= {"root_keys": len(values), "data_keys": sum(used.values())}
    for key_id in sorted(used.keys() - values.keys()):
        notes.require(False, "root_key_missing", key_id)
    for key_id, value in known:
        notes.require(values.get(key_id, value) == value, "root_key_wrong", key_id)


def undone_deletions(url: str, recordings: list[UUID]) -> list[UUID]:
    """Return the recordings and signed notes that the ledger lists as destroyed and that the restored database still
    contains.
    """
    with connect_as_owner(url, application="resguardo-drill") as connection:
        return [row[0] for row in connection.execute(_UNDONE, {"ids": recordings})]


def sample(url: str, size: int, gone: list[UUID]) -> list[SampledRecording]:
    """Return a random sample of READY recordings, without those that the ledger of deletions lists as destroyed."""
    with connect_as_owner(url, application="resguardo-drill") as connection:
        cursor = connection.cursor(row_factory=class_row(SampledRecording))
        return cursor.execute(_SAMPLE, {"gone": gone, "size": size}).fetchall()


def check_data_keys(recordings: list[SampledRecording], keyring: Keyring, notes: Notes) -> None:
    """Check that the data key of each sampled recording can be unwrapped. A video that was recorded before data
    keys were introduced has no data key.
    """
    notes.found |= {"opened": 0, "without_key": 0}
    for one in recordings:
        if one.medium != "VIDEO":
            continue
        if one.wrapped_key is None or one.root_key_id is None:
            notes.found["without_key"] = int(notes.found["without_key"]) + 1
            continue
        try:
            keyring.unwrap(one.wrapped_key, one.root_key_id)
            notes.found["opened"] = int(notes.found["opened"]) + 1
        except AppError as error:
            notes.require(False, error.reason, one.id)


def check_transcripts(url: str, recordings: list[SampledRecording], keyring: Keyring, notes: Notes) -> None:
    """Check that the transcripts of the sampled recordings can be decrypted, and that the word index's key can be
    unwrapped. The check neither stores nor prints any text of a transcript.
    """
    notes.found |= {"transcripts": 0, "index": 0}
    for one in recordings:
        if one.words is not None:
            _check_text(one, transcript_field(one.id), one.words, "transcripts", keyring, notes)
    with connect_as_owner(url, application="resguardo-drill") as connection:
        for wrapped, root_key_id in connection.execute(_INDEX_KEY):
            try:
                keyring.unwrap_secret(wrapped, root_key_id)
                notes.found["index"] = 1
            except AppError as error:
                notes.require(False, error.reason, "word_index")


def check_insights(recordings: list[SampledRecording], keyring: Keyring, notes: Notes) -> None:
    """Check that the insights into the sampled recordings can be decrypted. The check neither stores nor prints any
    text of them.
    """
    notes.found |= {"insights": 0}
    for one in recordings:
        if one.insights is not None and one.insights_generation is not None:
            place = insights_field(one.id, one.insights_generation)
            _check_text(one, place, one.insights, "insights", keyring, notes)


def check_notes(url: str, recordings: list[SampledRecording], keyring: Keyring, notes: Notes) -> None:
    """Check that the notes on the sampled recordings can be decrypted. The check neither stores nor prints any text of
    them.
    """
    notes.found |= {"notes": 0}
    with connect_as_owner(url, application="resguardo-drill") as connection:
        for one in recordings:
            for kind, statement in (
                (NoteKind.SESSION, _SESSION_NOTES),
                (NoteKind.PSYCHOTHERAPY, _PSYCHOTHERAPY_NOTES),
            ):
                for note_id, version, text in connection.execute(statement, [one.id]):
                    _check_text(
                        one, note_field(kind, one.id, note_id, version), text, "notes", keyring, notes
                    )


def _check_text(
    one: SampledRecording, place: Field, text: bytes, kind: str, keyring: Keyring, notes: Notes
) -> None:
    """Decrypt a text of the recording and count it. `check_data_keys` reports a wrong data key."""
    if one.wrapped_key is None or one.root_key_id is None:
        return
    try:
        keyring.unwrap(one.wrapped_key, one.root_key_id).decrypt(place, text)
        notes.found[kind] = int(notes.found[kind]) + 1
    except AppError as error:
        notes.require(error.reason != "field_unreadable", error.reason, one.id)


def check_signed_notes(url: str, size: int, gone: list[UUID], keyring: Keyring, notes: Notes) -> None:
    """Check that a random sample of signed versions can be decrypted, and that the bytes are those whose hash the
    database and the audit log have. The check neither stores nor prints any text of a note.
    """
    notes.found |= {"signed_notes": 0}
    with connect_as_owner(url, application="resguardo-drill") as connection:
        rows = connection.execute(_SIGNED, {"gone": gone, "size": size}).fetchall()
    for note_id, version, patient_id, sha256, ciphertext, wrapped, root_key_id, is_logged in rows:
        if ciphertext is None or wrapped is None:
            notes.require(False, "data_key_missing", note_id)
            continue
        try:
            file = keyring.unwrap(wrapped, root_key_id).decrypt(
                version_field(note_id, version, patient_id), ciphertext
            )
        except AppError as error:
            notes.require(False, error.reason, note_id)
            continue
        is_signed = hashlib.sha256(file).hexdigest() == sha256 and is_logged
        notes.require(is_signed, "signed_note_altered", note_id)
        notes.found["signed_notes"] = int(notes.found["signed_notes"]) + int(is_signed)
