"""Tests of law 1 for signed notes: only the doctor of the recording signs a note, each signature has one audit row with
the hash of the signed file, and nobody reads the tables of the ciphertexts and keys.
"""

import hashlib
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest
from psycopg.rows import dict_row

from tests.databases import Database
from tests.policies.acting import acting, refused, superuser, value
from tests.policies.actors import ANA, BRUNO, DATA_API_ROLES, Connection

READY, FREE = ANA.id_of("over READY"), ANA.id_of("over LOST")
SHA256 = hashlib.sha256(b"a signed file").hexdigest()
BEGIN: LiteralString = "select * from private.begin_signing(%s, %s, %s, %s, 'first')"
STORE: LiteralString = "select private.store_signed_note(%s, %s, %s, %s, %s, %s, 13, %s)"


def _begin(connection: Connection, recording: UUID, version: int = 1, max_age: int | None = None) -> Any:
    return connection.execute(BEGIN, [recording, version, max_age, bytes(range(40))]).fetchone()


def _store(connection: Connection, recording: UUID, begun: Any, version: int = 1, quotes: int = 0) -> None:
    note, _, _, signed_at, _, _ = begun
    connection.execute(STORE, [note, recording, version, signed_at, bytes(50), SHA256, quotes])


def _rows(database: Database, action: str) -> list[dict[str, Any]]:
    with superuser(database) as reader:
        cursor = reader.cursor(row_factory=dict_row)
        return cursor.execute(
            "select outcome, entities, patient_ids, consultation_ids, fields, byte_count, digest, actor_id"
            " from audit.events where action = %s order by recorded_at",
            [action],
        ).fetchall()


def test_law_1_a_signature_has_one_audit_row_with_the_hash_of_the_file(practice: Database) -> None:
    with acting(practice, "clinician who owns") as doctor:
        begun = _begin(doctor, FREE)
        _store(doctor, FREE, begun)
    note, patient, consultation, signed_at, wrapped, root_key = begun
    assert (patient, consultation) == (ANA.patient_id, ANA.id_of("over"))
    assert (wrapped, root_key) == (bytes(40), "first"), "the key that the patient had, not the offered one"
    assert isinstance(signed_at, datetime)
    assert _rows(practice, "note.sign") == [
        {
            "outcome": "ALLOWED",
            "entities": [{"type": "signed_note", "ids": [str(note)]}],
            "patient_ids": [ANA.patient_id],
            "consultation_ids": [ANA.id_of("over")],
            "fields": ["signedNote"],
            "byte_count": 13,
            "digest": SHA256,
            "actor_id": ANA.doctor_id,
        }
    ]
    with superuser(practice) as reader:
        kept = reader.execute(
            "select n.version_count, n.quote_count, v.sha256, v.size_bytes, t.ciphertext"
            " from resguardo.signed_notes as n"
            " join resguardo.signed_note_versions as v on v.note_id = n.id"
            " join private.signed_note_texts as t on t.note_id = n.id and t.version = v.version where n.id = %s",
            [note],
        ).fetchall()
    assert kept == [(1, 0, SHA256, 13, bytes(50))]


def test_addendum_is_a_new_version_and_its_term_counts_from_its_signature(practice: Database) -> None:
    with acting(practice, "clinician who owns") as doctor:
        begun = _begin(doctor, READY, 2)
        _store(doctor, READY, begun, 2)
    assert begun[0] == ANA.id_of("signed note")
    [row] = _rows(practice, "note.add_addendum")
    assert (row["digest"], row["entities"][0]["ids"]) == (SHA256, [str(ANA.id_of("signed note"))])
    with superuser(practice) as reader:
        query = "select version_count, quote_count, term_from >= %s from resguardo.signed_notes where id = %s"
        assert reader.execute(query, [begun[3], begun[0]]).fetchone() == (2, 2, True)


@pytest.mark.parametrize("version", [0, 1, 3, None])
def test_version_that_is_not_the_next_one_is_refused(practice: Database, version: int) -> None:
    with refused("RG409", "signed_note_version_taken"), acting(practice, "clinician who owns") as doctor:
        _begin(doctor, READY, version)


def test_second_of_two_signatures_of_the_same_version_is_refused(practice: Database) -> None:
    with acting(practice, "clinician who owns") as doctor:
        _store(doctor, FREE, _begin(doctor, FREE))
    with refused("RG409", "signed_note_version_taken"), acting(practice, "clinician who owns") as doctor:
        _begin(doctor, FREE)


def test_first_signature_makes_the_key_of_the_patient(practice: Database) -> None:
    with superuser(practice) as owner:
        owner.execute("delete from private.patient_keys")
    with acting(practice, "clinician who owns") as doctor:
        begun = _begin(doctor, FREE)
        _store(doctor, FREE, begun)
    assert begun[4] == bytes(range(40))
    assert [row["patient_ids"] for row in _rows(practice, "patient.make_key")] == [[ANA.patient_id]]
    assert len(_rows(practice, "note.sign")) == 1


@pytest.mark.parametrize(
    ("who", "recording", "outcome"),
    [("clinician who does not", FREE, "DENIED"), ("clinician who owns", uuid4(), "ABSENT")],
)
def test_law_1_only_the_doctor_of_the_recording_signs(
    practice: Database, who: str, recording: UUID, outcome: str
) -> None:
    for version in (1, 2):
        with acting(practice, who) as connection:
            assert _begin(connection, recording, version) is None
    doctor = ANA if who == "clinician who owns" else BRUNO
    for action in ("note.sign", "note.add_addendum"):
        assert [(row["outcome"], row["actor_id"], row["digest"]) for row in _rows(practice, action)] == [
            (outcome, doctor.doctor_id, None)
        ]


def test_signature_needs_a_recent_code_of_the_authenticator(practice: Database) -> None:
    with refused("RG403", "totp_stale"), acting(practice, "clinician who owns") as doctor:
        _begin(doctor, FREE, max_age=0)


@pytest.mark.parametrize("change", ["nothing begun", "other note", "later time"])
def test_only_a_signature_that_has_begun_is_stored(practice: Database, change: str) -> None:
    with refused("RG403", "signature_not_begun"), acting(practice, "clinician who owns") as doctor:
        if change == "nothing begun":
            begun = (uuid4(), None, None, value(doctor, "select now()"), None, None)
        else:
            begun = _begin(doctor, FREE)
        if change == "other note":
            begun = (uuid4(), *begun[1:])
        if change == "later time":
            begun = (*begun[:3], value(doctor, "select now() + interval '1 hour'"), *begun[4:])
        _store(doctor, FREE, begun)


def test_quotes_need_a_consent_text_that_names_them(practice: Database) -> None:
    consented = "update resguardo.consents set text_version = %s, decision = 'GIVEN'"
    with superuser(practice) as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute(consented, ["2026-12"])
    with refused("RG409", "note_quotes_not_permitted"), acting(practice, "clinician who owns") as doctor:
        _store(doctor, FREE, _begin(doctor, FREE), quotes=1)
    with superuser(practice) as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute(consented, ["2027-01"])
    with acting(practice, "clinician who owns") as doctor:
        begun = _begin(doctor, FREE)
        _store(doctor, FREE, begun, quotes=3)
    with superuser(practice) as reader:
        query = "select quote_count from resguardo.signed_notes where id = %s"
        assert reader.execute(query, [begun[0]]).fetchone() == (3,)


def test_note_of_a_recording_that_is_being_deleted_is_not_signed(practice: Database) -> None:
    being_deleted = ANA.id_of("over FAILED")
    with refused("RG409", "recording_being_deleted"), acting(practice, "clinician who owns") as doctor:
        _begin(doctor, being_deleted)


@pytest.mark.parametrize(
    "statement",
    [
        "select private.begin_signing(gen_random_uuid(), 1, null, '', 'first')",
        "select private.store_signed_note(gen_random_uuid(), gen_random_uuid(), 1, now(), '', '', 1, 0)",
    ],
)
def test_law_1_nobody_but_a_doctor_signs(practice: Database, statement: str) -> None:
    for who in ("compliance", "patient", "resguardo_api", "resguardo_worker", *DATA_API_ROLES):
        with refused("42501"), acting(practice, who) as connection:
            connection.execute(statement.encode())


@pytest.mark.parametrize("table", ["patient_keys", "signed_note_texts"])
def test_law_1_nobody_reads_ciphertexts_and_keys_of_signed_notes(practice: Database, table: str) -> None:
    for who in ("clinician who owns", "compliance", "patient", "resguardo_api", "resguardo_worker"):
        with refused("42501"), acting(practice, who) as connection:
            connection.execute(f"select from private.{table}".encode())
