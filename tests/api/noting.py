"""A test helper that stores session notes and psychotherapy notes."""

from uuid import UUID, uuid4

from app.keys.keyring import FieldKey
from app.session_notes.encryption import encrypt_text
from app.session_notes.model import NoteKind
from tests.api.harness import ApiHarness

SAID = "Says that the pills do nothing."


async def store_note(
    harness: ApiHarness, recording: UUID, *, text: str = SAID, kind: NoteKind = NoteKind.SESSION
) -> UUID:
    """Store a note of the recording's doctor, and return its id. The recording gets a data key if it has none."""
    note, key = uuid4(), await data_key(harness, recording)
    values = (note, encrypt_text(key, kind, recording, note, 1, text), recording)
    if kind is NoteKind.SESSION:
        await harness.rows(
            "insert into private.session_notes"
            " (id, recording_id, consultation_id, author_id, ciphertext, changed_by)"
            " select %s, r.id, r.consultation_id, r.doctor_id, %s, r.doctor_id"
            " from resguardo.recordings as r where r.id = %s",
            *values,
        )
    else:
        await harness.rows(
            "insert into private.psychotherapy_notes"
            " (id, recording_id, consultation_id, author_id, ciphertext, changed_by)"
            " select %s, r.id, r.consultation_id, r.doctor_id, %s, r.doctor_id"
            " from resguardo.recordings as r where r.id = %s",
            *values,
        )
    return note


async def data_key(harness: ApiHarness, recording: UUID) -> FieldKey:
    """Return the data key of a recording, after storing one if the recording has none."""
    keyring = harness.worker_settings.keyring
    offered = keyring.new_data_key()
    (row,) = await harness.rows(
        "insert into private.recording_keys as k values (%s, %s, %s) on conflict (recording_id)"
        " do update set root_key_id = k.root_key_id returning wrapped_key, root_key_id",
        recording,
        offered.wrapped,
        offered.root_key_id,
    )
    return keyring.unwrap(row["wrapped_key"], row["root_key_id"])
