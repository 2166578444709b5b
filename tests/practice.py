"""Builds the rows of a practice for tests: people, consultations, consents, recordings, holds, retention policies
and access requests.

The builder inserts as a superuser, so the access policies do not apply. Constraints and triggers apply, unless a
test turns the triggers off. Each method has a default for every value that the caller leaves out, and returns the
new row's id.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

SHA256 = "a" * 64
TERMS = {
    "grace_days": 7,
    "default": {"recording_days": 90, "signed_note_days": 2555},
    "kinds": {"surgery": {"recording_days": 365, "signed_note_days": 2555}},
    "minors": None,
    "jurisdiction": None,
    "applies_to_existing": False,
}
"""The terms of the default retention policy."""


@dataclass(frozen=True)
class Practice:
    """Inserts rows into the tables of one database, with the connection of a superuser."""

    connection: psycopg.Connection[Any]

    def insert(self, table: str, **values: object) -> None:
        """Insert one row with these columns."""
        self.connection.execute(
            sql.SQL("insert into {} ({}) values ({})").format(
                sql.Identifier(*table.split(".")),
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join(sql.Placeholder() * len(values)),
            ),
            list(values.values()),
        )

    @contextmanager
    def without_triggers(self) -> Iterator[None]:
        """Turn triggers and foreign keys off for the block, to insert a row that the product would not make."""
        self.connection.execute("set session_replication_role = replica")
        try:
            yield
        finally:
            self.connection.execute("set session_replication_role = origin")

    def user(self, user_id: UUID | None = None, **columns: object) -> UUID:
        """Insert a login of Supabase Auth."""
        user_id = user_id or uuid4()
        self.insert("auth.users", **{"id": user_id, "email": f"{user_id}@example.org"} | columns)
        return user_id

    def session(
        self, user_id: UUID, session_id: UUID | None = None, aal: str = "aal2", **columns: object
    ) -> UUID:
        """Insert a session of a login, by default with a second factor."""
        session_id = session_id or uuid4()
        self.insert("auth.sessions", id=session_id, user_id=user_id, aal=aal, **columns)
        return session_id

    def member(self, user_id: UUID, role: str = "clinician", **columns: object) -> UUID:
        """Make a login an active member of staff."""
        self.insert("resguardo.staff", user_id=user_id, role=role, **columns)
        return user_id

    def patient(self, patient_id: UUID | None = None, **columns: object) -> UUID:
        """Insert a patient, by default without a login."""
        patient_id = patient_id or uuid4()
        self.insert("resguardo.patients", **{"id": patient_id, "external_id": f"mrn-{patient_id}"} | columns)
        return patient_id

    def consultation(
        self,
        doctor: UUID,
        patient: UUID | None = None,
        consultation_id: UUID | None = None,
        **columns: object,
    ) -> UUID:
        """Insert a consultation without participants, by default of a new patient."""
        consultation_id = consultation_id or uuid4()
        defaults = {
            "id": consultation_id,
            "external_id": f"visit-{consultation_id}",
            "doctor_id": doctor,
            "patient_id": patient or self.patient(),
            "kind": "follow_up",
            "sensitivity": "ORDINARY",
            "room_name": f"test_{consultation_id}",
        }
        if "scheduled_at" not in columns:
            columns["scheduled_at"] = self.now()
        self.insert("resguardo.consultations", **defaults | columns)
        return consultation_id

    def participant(
        self, consultation: UUID, kind: str, participant_id: UUID | None = None, **columns: object
    ) -> UUID:
        """Insert a participant who has not joined."""
        participant_id = participant_id or uuid4()
        self.insert(
            "resguardo.participants",
            id=participant_id,
            **self._people_of(consultation),
            kind=kind,
            **columns,
        )
        return participant_id

    def consent(self, participant: UUID, decision: str = "GIVEN", **columns: object) -> UUID:
        """Insert a consent decision of a participant, by default recorded by the doctor."""
        consultation, doctor, patient, kind = self._row(
            "select p.consultation_id, p.doctor_id, p.patient_id, p.kind"
            " from resguardo.participants as p where p.id = %s",
            participant,
        )
        consent_id = uuid4()
        defaults = {
            "id": consent_id,
            "consultation_id": consultation,
            "doctor_id": doctor,
            "patient_id": patient,
            "participant_id": participant,
            "participant_kind": kind,
            "decision": decision,
            "source": "SELF",
            "recorded_by": doctor,
            "text_version": "1",
            "text_language": "en",
            "text_sha256": SHA256,
        }
        self.insert("resguardo.consents", **defaults | columns)
        return consent_id

    def recording(
        self,
        consultation: UUID,
        status: str = "READY",
        recording_id: UUID | None = None,
        *,
        object_key: str | None = None,
        content: bytes | None = None,
        **columns: object,
    ) -> UUID:
        """Insert a recording in this status. `object_key` is the key of the recording's object, by default the key
        that the database composes.

        With `content`, the row has the size and the digest of this content. A READY recording always has a size and
        a digest. The method stores no object in the bucket.
        """
        recording_id = recording_id or uuid4()
        people = self._people_of(consultation)
        defaults: dict[str, object] = {
            "id": recording_id,
            **people,
            "requested_by": people["doctor_id"],
            "room_name": self._value(
                "select c.room_name from resguardo.consultations as c where c.id = %s", consultation
            ),
            "status": status,
        }
        if status == "READY" or content is not None:
            content = content or b"recorded"
            defaults |= {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if columns.get("medium") == "MICROPHONE":
            defaults["track_sid"] = f"TR_{recording_id.hex[:12]}"
        self.insert("resguardo.recordings", **defaults | columns)
        key = object_key or self._value(
            "select private.first_object_key(r) from resguardo.recordings as r where r.id = %s", recording_id
        )
        self.insert("private.recording_secrets", recording_id=recording_id, object_key=key)
        return recording_id

    def transcript(self, recording: UUID, status: str = "READY") -> UUID:
        """Insert the transcript of a recording, or, if the database has already created its row, change that row's
        status.
        """
        self.connection.execute(
            "insert into resguardo.transcripts (recording_id, consultation_id, doctor_id, patient_id, status)"
            " select r.id, r.consultation_id, r.doctor_id, r.patient_id, %s from resguardo.recordings as r"
            " where r.id = %s on conflict (recording_id) do update set status = excluded.status, error = null",
            [status, recording],
        )
        return recording

    def insights(self, recording: UUID, status: str = "READY") -> UUID:
        """Insert the insights into a recording, or, if the database has already created their row, change that row's
        status.
        """
        self.connection.execute(
            "insert into resguardo.insights (recording_id, consultation_id, doctor_id, patient_id, status)"
            " select r.id, r.consultation_id, r.doctor_id, r.patient_id, %s from resguardo.recordings as r"
            " where r.id = %s on conflict (recording_id) do update set status = excluded.status, error = null",
            [status, recording],
        )
        return recording

    def hold(self, placed_by: UUID, hold_id: UUID | None = None, **scope: object) -> UUID:
        """Insert a legal hold on a consultation, a patient or a range of time."""
        hold_id = hold_id or uuid4()
        self.insert(
            "resguardo.legal_holds",
            id=hold_id,
            matter="matter 1",
            custodian="custodian 1",
            placed_by=placed_by,
            placed_at=self.now(),
            **scope,
        )
        return hold_id

    def access_request(
        self,
        patient: UUID,
        filed_by: UUID,
        request_id: UUID | None = None,
        *,
        received_on: date | None = None,
        **columns: object,
    ) -> UUID:
        """Insert an access request that the patient filed with their own login, by default today."""
        request_id = request_id or uuid4()
        received_on = received_on or self.now().date()
        defaults = {
            "id": request_id,
            "patient_id": patient,
            "channel": "LOGIN",
            "filed_by": filed_by,
            "received_on": received_on,
            "due_on": received_on + timedelta(days=30),
        }
        self.insert("resguardo.access_requests", **defaults | columns)
        return request_id

    def retention_policy(self, terms: dict[str, Any] | None = None, **columns: object) -> None:
        """Insert a retention policy, by default one that is in force."""
        defaults = {
            "name": f"policy {uuid4().hex[:8]}",
            "sha256": SHA256,
            "status": "ACTIVE",
            "source": "",
            "terms": Jsonb(terms or TERMS),
            "shortens": False,
        }
        if columns.get("status", "ACTIVE") == "ACTIVE":
            defaults["activated_at"] = self.now()
        self.insert("resguardo.retention_policies", **defaults | columns)

    def now(self) -> datetime:
        """Return the database's time, which a test may have set."""
        time = self._value("select private.now()")
        assert isinstance(time, datetime)
        return time

    def _people_of(self, consultation: UUID) -> dict[str, UUID]:
        """Return the ids of the consultation, its doctor and its patient, as columns for a row that belongs to the
        consultation.
        """
        doctor, patient = self._row(
            "select c.doctor_id, c.patient_id from resguardo.consultations as c where c.id = %s", consultation
        )
        return {"consultation_id": consultation, "doctor_id": doctor, "patient_id": patient}

    def _value(self, statement: str, *values: object) -> Any:
        return self._row(statement, *values)[0]

    def _row(self, statement: str, *values: object) -> tuple[Any, ...]:
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(statement.encode(), values or None).fetchone()
        assert row is not None
        return row


@contextmanager
def practice_of(superuser_url: str) -> Iterator[Practice]:
    """Yield a builder with a connection of its own, which commits each row at once."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        yield Practice(connection)
