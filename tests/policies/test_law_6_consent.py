"""Tests of law 6: nothing is recorded without the consent of every participant, even if transactions run
concurrently.
"""

from collections.abc import Callable
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.databases import Database
from tests.policies.acting import LOCK, START, acting, at_once, refused, start, superuser, value
from tests.policies.actors import ANA, BRUNO, SHA256, Connection
from tests.policies.seed import add_participant, give_consent

CONSULTATION = "startable"
OF = ANA.id_of(CONSULTATION)
LIVE: LiteralString = "select private.has_live_recording(%s)"


def forget(kind: str) -> Callable[[Connection], None]:
    return lambda connection: void(
        connection,
        "delete from resguardo.consents where participant_id = %s",
        ANA.id_of(f"{CONSULTATION} {kind}"),
    )


def withdraw(kind: str) -> Callable[[Connection], None]:
    return lambda connection: give_consent(connection, ANA, CONSULTATION, kind, "WITHDRAWN")


def void(connection: Connection, statement: LiteralString, *values: Any) -> None:
    connection.execute(statement, values)


def leave(kind: str) -> Callable[[Connection], None]:
    """Return a function that deletes the participant of this kind from the consultation."""

    def apply(connection: Connection) -> None:
        guest = ANA.id_of(f"{CONSULTATION} {kind}")
        connection.execute("delete from private.invitations where participant_id = %s", [guest])
        forget(kind)(connection)
        connection.execute("delete from resguardo.participants where id = %s", [guest])

    return apply


def not_joined(connection: Connection) -> None:
    connection.execute(
        "update resguardo.participants set joined_at = null where id = %s",
        [ANA.id_of(f"{CONSULTATION} GUEST")],
    )


def both(*changes: Callable[[Connection], None]) -> Callable[[Connection], None]:
    def apply(connection: Connection) -> None:
        for change in changes:
            change(connection)

    return apply


@pytest.mark.parametrize(
    ("change", "may_start"),
    [
        pytest.param(lambda _: None, True, id="everyone consents"),
        pytest.param(forget("DOCTOR"), False, id="the doctor said nothing"),
        pytest.param(forget("PATIENT"), False, id="the patient said nothing"),
        pytest.param(forget("GUEST"), False, id="a guest joined and said nothing"),
        pytest.param(withdraw("DOCTOR"), False, id="the doctor withdrew"),
        pytest.param(withdraw("PATIENT"), False, id="the patient withdrew"),
        pytest.param(withdraw("GUEST"), False, id="a guest who joined withdrew"),
        pytest.param(leave("PATIENT"), False, id="no patient"),
        pytest.param(leave("DOCTOR"), False, id="no doctor"),
        pytest.param(both(forget("GUEST"), not_joined), True, id="a guest was invited and never came"),
        pytest.param(both(withdraw("GUEST"), not_joined), True, id="a guest withdrew and never came"),
        pytest.param(leave("GUEST"), True, id="no guest"),
        pytest.param(
            both(
                withdraw("PATIENT"),
                lambda connection: give_consent(connection, ANA, CONSULTATION, "PATIENT"),
            ),
            True,
            id="the patient withdrew and consented again",
        ),
    ],
)
def test_law_6_no_recording_without_consent(
    practice: Database, change: Callable[[Connection], None], may_start: bool
) -> None:
    with superuser(practice) as connection:
        change(connection)
    if may_start:
        with acting(practice, "clinician who owns") as connection:
            start(connection, ANA, CONSULTATION)
    else:
        with refused("42501", "row-level security"), acting(practice, "clinician who owns") as connection:
            start(connection, ANA, CONSULTATION)
    with superuser(practice) as reader:
        assert value(reader, LIVE, OF) is may_start


def test_law_6_one_live_recording_of_a_consultation(practice: Database) -> None:
    with acting(practice, "clinician who owns") as connection:
        start(connection, ANA, CONSULTATION)
    with refused("23505", "recordings_one_live_key"), acting(practice, "clinician who owns") as connection:
        start(connection, ANA, CONSULTATION)


def test_law_6_a_start_that_waits_for_a_withdrawal_is_refused(practice: Database) -> None:
    def late_start() -> None:
        with acting(practice, "clinician who owns") as connection:
            start(connection, ANA, CONSULTATION)

    with acting(practice, "patient") as patient:
        patient.execute(LOCK, [OF])
        withdraw("PATIENT")(patient)
        with at_once(practice, patient, late_start) as waiting:
            patient.commit()
            with refused("42501", "row-level security"):
                waiting.result()


def test_law_6_a_withdrawal_that_waits_for_a_start_sees_it(practice: Database) -> None:
    def late_withdrawal() -> bool:
        with acting(practice, "patient") as patient:
            patient.execute(LOCK, [OF])
            withdraw("PATIENT")(patient)
            sees: bool = value(patient, LIVE, OF)
            return sees

    with acting(practice, "clinician who owns") as doctor:
        start(doctor, ANA, CONSULTATION)
        with at_once(practice, doctor, late_withdrawal) as waiting:
            doctor.commit()
            assert waiting.result() is True


def test_law_6_a_start_and_a_withdrawal_that_forget_the_lock_still_wait_for_each_other(
    practice: Database,
) -> None:
    def late_start() -> None:
        with acting(practice, "clinician who owns") as connection:
            connection.execute(START, [OF])

    with acting(practice, "patient") as patient:
        withdraw("PATIENT")(patient)
        with at_once(practice, patient, late_start) as waiting:
            patient.commit()
            with refused("RG409", "consent_missing"):
                waiting.result()


def invited(practice: Database) -> bytes:
    """Invite a guest who has not given consent, and return the secret of the invitation. Without the invited guest,
    the consultation could be recorded.
    """
    secret = b"a guest's secret of one use"
    with superuser(practice) as connection:
        leave("GUEST")(connection)
        add_participant(connection, ANA, CONSULTATION, "GUEST")
    with acting(practice, "clinician who owns") as doctor:
        doctor.execute(
            "select private.keep_invitation(%s, sha256(%s), now() + interval '1 hour')",
            [ANA.id_of(f"{CONSULTATION} GUEST"), secret],
        )
    return secret


def redeem(practice: Database, secret: bytes) -> list[tuple[UUID, str, str, UUID, str]]:
    with psycopg.connect(practice.api_url) as connection:
        return connection.execute("select * from private.redeem_invitation(%s, '{}')", [secret]).fetchall()


def test_law_6_a_guest_without_consent_does_not_join_what_is_being_started(practice: Database) -> None:
    secret = invited(practice)
    with acting(practice, "clinician who owns") as doctor:
        start(doctor, ANA, CONSULTATION)
        with at_once(practice, doctor, lambda: redeem(practice, secret)) as waiting:
            doctor.commit()
            with refused("RG409", "consent_missing_to_join"):
                waiting.result()
    with superuser(practice) as connection:
        give_consent(connection, ANA, CONSULTATION, "GUEST")
    assert redeem(practice, secret) == [
        (ANA.id_of(f"{CONSULTATION} GUEST"), "GUEST", "INTERPRETER", OF, ANA.room_of(CONSULTATION))
    ]


def test_law_6_no_start_while_a_guest_without_consent_is_joining(practice: Database) -> None:
    secret = invited(practice)

    def late_start() -> None:
        with acting(practice, "clinician who owns") as doctor:
            start(doctor, ANA, CONSULTATION)

    with psycopg.connect(practice.api_url) as guest:
        assert guest.execute("select from private.redeem_invitation(%s, '{}')", [secret]).rowcount == 1
        with at_once(practice, guest, late_start) as waiting:
            guest.commit()
            with refused("42501", "row-level security"):
                waiting.result()


def test_an_invitation_is_redeemed_once_of_two_at_once_and_never_after_its_end(practice: Database) -> None:
    secret = invited(practice)
    with psycopg.connect(practice.api_url) as guest:
        assert guest.execute("select from private.redeem_invitation(%s, '{}')", [secret]).rowcount == 1
        with at_once(practice, guest, lambda: redeem(practice, secret)) as waiting:
            guest.commit()
            assert waiting.result() == []
    with superuser(practice) as connection:
        connection.execute("update private.invitations set redeemed_at = null, expires_at = now()")
    assert redeem(practice, secret) == []
    assert redeem(practice, b"another") == []


def test_an_invitation_is_for_a_guest_of_the_askers_own_consultation(practice: Database) -> None:
    for participant in (BRUNO.id_of(f"{CONSULTATION} GUEST"), ANA.id_of(f"{CONSULTATION} PATIENT"), uuid4()):
        with refused("RG404", "participant_not_found"), acting(practice, "clinician who owns") as doctor:
            doctor.execute("select private.keep_invitation(%s, '', now())", [participant])


def test_law_6_nobody_dates_a_consent(practice: Database) -> None:
    with refused("42501", "permission denied"), acting(practice, "clinician who owns") as doctor:
        doctor.execute(
            "insert into resguardo.consents (id, consultation_id, doctor_id, patient_id, participant_id,"
            " participant_kind, decision, source, recorded_by, text_version, text_language, text_sha256,"
            " recorded_at) values (gen_random_uuid(), %s, %s, %s, %s, 'PATIENT', 'GIVEN', 'ATTESTED', %s, '1', 'en',"
            " %s, '2100-01-01')",
            [OF, ANA.doctor_id, ANA.patient_id, ANA.id_of(f"{CONSULTATION} PATIENT"), ANA.doctor_id, SHA256],
        )


def test_law_6_nobody_records_the_room_of_another_consultation(practice: Database) -> None:
    with refused("42501", "row-level security"), acting(practice, "clinician who owns") as doctor:
        doctor.execute(
            "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name)"
            " values (gen_random_uuid(), %s, %s, %s, %s, %s)",
            [OF, ANA.doctor_id, ANA.patient_id, ANA.doctor_id, BRUNO.room_of("unconsented")],
        )


@pytest.mark.parametrize(
    ("who", "statement"),
    [
        ("clinician who does not", "select private.has_live_recording(%s)"),
        ("clinician who does not", "select private.everyone_consents(%s)"),
        ("other patient", "select private.has_live_recording(%s)"),
    ],
)
def test_law_6_whether_a_consultation_is_recorded_is_nobody_elses_business(
    practice: Database, who: str, statement: LiteralString
) -> None:
    with refused("RG404", "consultation_not_found"), acting(practice, who) as connection:
        connection.execute(statement, [ANA.id_of("live")])


def test_stranger_delays_no_transaction_of_others(practice: Database) -> None:
    for who in ("clinician who does not", "other patient"):
        with acting(practice, who) as stranger, acting(practice, "clinician who owns") as doctor:
            stranger.execute(LOCK, [OF])
            doctor.execute("set local lock_timeout = '1s'")
            doctor.execute(LOCK, [OF])


def test_law_6_withdrawal_in_person_is_not_undone_by_attestation(practice: Database) -> None:
    with acting(practice, "patient") as patient:
        give_consent(patient, ANA, CONSULTATION, "PATIENT", "WITHDRAWN")
    with refused("RG409", "withdrawn_in_person"), acting(practice, "clinician who owns") as doctor:
        give_consent(doctor, ANA, CONSULTATION, "PATIENT", attested=True)
    with acting(practice, "patient") as patient:
        give_consent(patient, ANA, CONSULTATION, "PATIENT")
