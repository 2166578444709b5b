"""Tests of the two functions that tell people about a recording before they act: whether it is held, and why no
recording can start.
"""

from typing import LiteralString
from uuid import uuid4

import pytest

from tests.databases import Database
from tests.policies.acting import acting, refused, superuser, value
from tests.policies.actors import ANA, BRUNO

HELD: LiteralString = "select private.is_own_held(%s)"
BLOCKERS: LiteralString = "select count(*) from private.recording_blockers(%s)"
_OWN = ANA.id_of("over READY")


def _release_everything(practice: Database) -> None:
    with superuser(practice) as connection:
        connection.execute(
            "update resguardo.legal_holds set released_by = gen_random_uuid(), released_at = now()"
        )
        connection.execute("update resguardo.access_requests set status = 'WITHDRAWN' where status = 'OPEN'")


@pytest.mark.parametrize("who", ["clinician who owns", "compliance"])
def test_doctor_and_compliance_learn_whether_a_recording_is_held(practice: Database, who: str) -> None:
    with acting(practice, who) as connection:
        assert value(connection, HELD, _OWN) is True
    _release_everything(practice)
    with acting(practice, who) as connection:
        assert value(connection, HELD, _OWN) is False


def test_doctor_learns_nothing_about_another_doctors_recording(practice: Database) -> None:
    for recording in (BRUNO.id_of("over READY"), uuid4()):
        with acting(practice, "clinician who owns") as connection, refused("RG404", "recording_not_found"):
            connection.execute(HELD, [recording])


@pytest.mark.parametrize(
    ("who", "sqlstate"),
    [
        ("patient", "42501"),
        ("resguardo_worker", "42501"),
        ("resguardo_api", "42501"),
        ("signed-out clinician", "RG401"),
        ("signed-out compliance", "RG401"),
        ("suspended compliance", "RG401"),
        ("clinician without second factor", "RG403"),
        ("compliance without second factor", "RG403"),
    ],
)
def test_nobody_else_learns_whether_a_recording_is_held(practice: Database, who: str, sqlstate: str) -> None:
    with pytest.raises(Exception) as caught, acting(practice, who) as connection:  # noqa: PT011 - begins or asks
        connection.execute(HELD, [_OWN])
    assert getattr(caught.value, "sqlstate", None) == sqlstate


@pytest.mark.parametrize("who", ["clinician who owns", "patient", "compliance"])
def test_people_of_a_consultation_and_compliance_learn_its_blockers(practice: Database, who: str) -> None:
    with acting(practice, who) as connection:
        assert value(connection, BLOCKERS, ANA.id_of("live")) == 1
        assert value(connection, BLOCKERS, ANA.id_of("startable")) == 0


@pytest.mark.parametrize("who", ["clinician who owns", "patient"])
def test_others_learn_no_blockers(practice: Database, who: str) -> None:
    with acting(practice, who) as connection, refused("RG404", "consultation_not_found"):
        connection.execute(BLOCKERS, [BRUNO.id_of("live")])
