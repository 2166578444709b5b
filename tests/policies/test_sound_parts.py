"""Everyone who can read the row of a video can read the rows of the sounds beside it, and nobody else can. No
person can insert the row of a sound.
"""

from typing import LiteralString
from uuid import UUID

import psycopg
import pytest

from tests.databases import Database
from tests.policies.acting import acting, superuser, value
from tests.policies.actors import ACTORS, ANA, SHA256, Actor
from tests.policies.seed import add_recording

VIDEO = ANA.id_of("over READY")
SOUND = ANA.id_of("sound of the guest")
RELEASE_FILE: LiteralString = "select private.release_object_key('recording.issue_url', %s, null, %s)"


@pytest.fixture
def practice_with_sound(practice: Database) -> Database:
    """Return the seeded database with a recording of a guest's microphone beside a video."""
    with superuser(practice) as connection:
        connection.execute(
            "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name,"
            " status, medium, video_id, participant_id, track_sid, sha256, size_bytes)"
            " values (%s, %s, %s, %s, %s, %s, 'READY', 'MICROPHONE', %s, %s, 'TR_guest', %s, 5)",
            [
                SOUND,
                ANA.id_of("over"),
                ANA.doctor_id,
                ANA.patient_id,
                ANA.doctor_id,
                ANA.room_of("over"),
                VIDEO,
                ANA.id_of("over GUEST"),
                SHA256,
            ],
        )
        connection.execute(
            "insert into private.recording_secrets values (%s, %s)",
            [SOUND, f"keep/{ANA.id_of('over')}/{VIDEO}/microphone-{SOUND}.mp4"],
        )
    return practice


def _sees(database: Database, who: Actor, recording: UUID) -> bool:
    try:
        with acting(database, who) as connection:
            return bool(
                value(connection, "select count(*) from resguardo.recordings where id = %s", recording)
            )
    except psycopg.Error:
        return False


def test_sound_is_seen_by_those_who_see_its_video(practice_with_sound: Database) -> None:
    seen = {
        one.name: (_sees(practice_with_sound, one, VIDEO), _sees(practice_with_sound, one, SOUND))
        for one in ACTORS
    }
    readers = {
        "clinician who owns", "colleague with a share", "clinician in an emergency", "compliance", "resguardo_worker",
    }  # fmt: skip
    assert {name for name, (video, _) in seen.items() if video} == readers
    assert {name for name, (_, sound) in seen.items() if sound} == readers


@pytest.mark.parametrize(
    ("who", "is_given"),
    [("clinician who owns", True), ("clinician who does not", False), ("colleague with a share", False)],
)
def test_law_1_object_key_of_a_sound_leaves_an_audit_row(
    practice_with_sound: Database, who: str, is_given: bool
) -> None:
    with acting(practice_with_sound, who) as connection:
        key = value(connection, RELEASE_FILE, VIDEO, SOUND)
    assert (key is not None) == is_given
    with superuser(practice_with_sound) as connection:
        row = connection.execute(
            "select outcome, entities from audit.events where action = 'recording.issue_url'"
            " order by recorded_at desc limit 1"
        ).fetchone()
    ids = sorted([str(VIDEO), str(SOUND)])
    assert row == ("ALLOWED" if is_given else "DENIED", [{"type": "recording", "ids": ids}])


def test_object_key_of_a_sound_is_refused_once_its_video_is_to_be_destroyed(
    practice_with_sound: Database,
) -> None:
    with superuser(practice_with_sound) as connection:
        connection.execute(
            "insert into resguardo.deletions (id, recording_id, consultation_id, doctor_id, patient_id, ground,"
            " status) values (gen_random_uuid(), %s, %s, %s, %s, 'RETENTION', 'DELETING')",
            [VIDEO, ANA.id_of("over"), ANA.doctor_id, ANA.patient_id],
        )
    with (
        pytest.raises(psycopg.Error, match="recording_being_deleted"),
        acting(practice_with_sound, "clinician who owns") as connection,
    ):
        connection.execute(RELEASE_FILE, [VIDEO, SOUND])


@pytest.mark.parametrize("who", [one.name for one in ACTORS if one.name != "resguardo_worker"])
def test_nobody_adds_a_microphone_sound_by_hand(practice: Database, who: str) -> None:
    with (
        pytest.raises(psycopg.Error),
        acting(practice, who) as connection,
    ):
        connection.execute(
            "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name,"
            " medium, video_id, participant_id, track_sid) values (gen_random_uuid(), %s, %s, %s, %s, %s,"
            " 'MICROPHONE', %s, %s, 'TR_mine')",
            [
                ANA.id_of("startable"),
                ANA.doctor_id,
                ANA.patient_id,
                ANA.doctor_id,
                ANA.room_of("startable"),
                VIDEO,
                ANA.id_of("startable DOCTOR"),
            ],
        )


def test_sound_of_a_participant_of_another_consultation_is_refused(practice: Database) -> None:
    with superuser(practice) as connection:
        video = add_recording(connection, ANA, "startable", "LOST")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute(
                "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by,"
                " room_name, status, medium, video_id, participant_id, track_sid) values (gen_random_uuid(), %s, %s,"
                " %s, %s, %s, 'LOST', 'MICROPHONE', %s, %s, 'TR_other')",
                [
                    ANA.id_of("startable"),
                    ANA.doctor_id,
                    ANA.patient_id,
                    ANA.doctor_id,
                    ANA.room_of("startable"),
                    video,
                    ANA.id_of("over DOCTOR"),
                ],
            )
