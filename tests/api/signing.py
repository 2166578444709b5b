"""Signs notes for tests, without a draft."""

import time
from datetime import datetime
from uuid import UUID, uuid4

from app.identity import permissions
from app.insights.drafts import Section
from app.notes.model import LineAuthor
from app.notes.note_format import NoteKind, SignedCitation, SignedLine, SignedNote, format_note
from app.notes.signed_store import SignedVersion, begin_signing, store_version
from app.postgres.database import Asker
from app.postgres.database import Database as Pool
from app.transcripts.model import Speaker
from tests.api.harness import ApiHarness, Person

PLAN = "Paracetamol 500 mg cada 8 horas; ¿control en 2 semanas?"
QUOTE = "me duele la cabeza desde ayer"


def asker_of(person: Person) -> Asker:
    """Return the identity of a person for a call of a service."""
    claims: dict[str, object] = {
        "sub": str(person.user_id),
        "session_id": str(person.session_id),
        "aal": "aal2",
        "role": "authenticated",
        "exp": int(time.time()) + 3600,
    }
    return Asker(claims=claims, request_id=uuid4(), address="192.0.2.7")


async def allow_quotes(harness: ApiHarness, recording: UUID) -> None:
    """Let everybody consent to a text that names quotes in signed notes."""
    await harness.rows("set session_replication_role = replica")
    await harness.rows(
        "update resguardo.consents set text_version = '2027-01', decision = 'GIVEN' where consultation_id ="
        " (select consultation_id from resguardo.recordings where id = %s)",
        recording,
    )
    await harness.rows("set session_replication_role = origin")


async def sign(
    harness: ApiHarness,
    doctor: Person,
    recording: UUID,
    *,
    version: int = 1,
    previous: str | None = None,
    plan: str = PLAN,
) -> SignedVersion:
    """Sign a note with one quote, or an addendum if `version` is above 1, as the doctor of the recording."""
    await harness.rows(
        "insert into private.root_keys (id, check_value) values (%s, %s) on conflict do nothing",
        (keyring := harness.worker_settings.keyring).current_id,
        keyring.check_values()[keyring.current_id],
    )
    await allow_quotes(harness, recording)
    pool = Pool(harness.database.api_url, application="test", max_size=1)
    await pool.open()
    try:
        access = permissions.READ_SIGNED_NOTES.on(recording)
        async with pool.as_user(asker_of(doctor), access) as tx:
            signing = await begin_signing(tx, keyring, recording, version, totp_max_age_seconds=None)
            assert signing is not None
            note = make_note(
                recording,
                signing.consultation_id,
                signing.patient_id,
                doctor.user_id,
                signing.signed_at,
                version=version,
                previous=previous,
                plan=plan,
            )
            return await store_version(tx, signing, format_note(note), quote_count=note.quote_count)
    finally:
        await pool.close()


def make_note(
    recording: UUID,
    consultation: UUID,
    patient: UUID,
    author: UUID,
    signed_at: datetime,
    *,
    version: int = 1,
    previous: str | None = None,
    plan: str = PLAN,
) -> SignedNote:
    """Return a note with one quote, or an addendum with one line if `version` is above 1."""
    lines = {
        Section.S: (
            SignedLine(
                "Cefalea desde ayer.",
                LineAuthor.WRITER,
                (SignedCitation(3, 12_000, 15_500, Speaker.PATIENT, QUOTE),),
            ),
        ),
        Section.P: (SignedLine(plan, LineAuthor.DOCTOR),),
    }
    is_note = version == 1
    return SignedNote(
        kind=NoteKind.NOTE if is_note else NoteKind.ADDENDUM,
        version=version,
        previous_sha256=previous,
        recording_id=recording,
        recording_sha256=None,
        consultation_id=consultation,
        patient_id=patient,
        author_id=author,
        signed_at=signed_at,
        sections=lines if is_note else {},
        addendum=() if is_note else (plan,),
    )
