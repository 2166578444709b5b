"""Tests which rows the database accepts for a sound beside a video, for every role that can write such rows."""

from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest

from tests.databases import Database
from tests.policies.acting import refused, superuser, value
from tests.policies.actors import ANA, BRUNO

VIDEO = ANA.id_of("over READY")
PART: LiteralString = (
    "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name, status,"
    " medium, video_id, participant_id, track_sid, is_routed)"
    " select %s, v.consultation_id, v.doctor_id, v.patient_id, v.requested_by, v.room_name, 'FAILED', %s,"
    " case when %s then v.id end, %s, %s, %s from resguardo.recordings as v where v.id = %s"
)


def participant_of(database: Database, consultation: UUID, kind: str = "PATIENT") -> UUID:
    with superuser(database) as reader:
        query: LiteralString = (
            "select id from resguardo.participants where consultation_id = %s and kind = %s"
        )
        return UUID(str(value(reader, query, consultation, kind)))


def insert(
    database: Database,
    medium: str,
    *,
    has_video: bool = True,
    participant: UUID | None = None,
    track_sid: str | None = None,
    is_routed: bool = False,
) -> UUID:
    part = uuid4()
    with superuser(database) as connection:
        values = [part, medium, has_video, participant, track_sid, is_routed, VIDEO]
        connection.execute(PART, values)
    return part


def test_microphones_of_one_video_are_as_many_as_tracks(practice: Database) -> None:
    patient = participant_of(practice, ANA.id_of("over"))
    parts = {insert(practice, "MICROPHONE", participant=patient, track_sid=f"TR_{n}") for n in range(3)}
    query: LiteralString = "select private.first_object_key(r) from resguardo.recordings as r where id = %s"
    with superuser(practice) as reader:
        ends = {str(value(reader, query, part)).rpartition(f"/{VIDEO}/")[2] for part in parts}
    assert ends == {f"microphone-{part}.mp4" for part in parts}


def test_track_has_one_recording(practice: Database) -> None:
    patient = participant_of(practice, ANA.id_of("over"))
    insert(practice, "MICROPHONE", participant=patient, track_sid="TR_1")
    with refused("23505", "recordings_track_key"):
        insert(practice, "MICROPHONE", participant=patient, track_sid="TR_1")


def test_video_has_one_recording_of_two_channels(practice: Database) -> None:
    insert(practice, "SPEAKERS", is_routed=True)
    with refused("23505", "recordings_speakers_key"):
        insert(practice, "SPEAKERS")


@pytest.mark.parametrize(
    ("constraint", "given"),
    [
        ("recordings_sound_has_video", {"medium": "SPEAKERS", "has_video": False}),
        ("recordings_sound_has_video", {"medium": "VIDEO"}),
        ("recordings_microphone_has_participant", {"medium": "MICROPHONE", "track_sid": "TR_1"}),
        ("recordings_microphone_has_participant", {"medium": "SPEAKERS", "participant": "PATIENT"}),
        ("recordings_microphone_has_track", {"medium": "MICROPHONE", "participant": "PATIENT"}),
        ("recordings_microphone_has_track", {"medium": "SPEAKERS", "track_sid": "TR_1"}),
        (
            "recordings_routes_are_of_speakers",
            {"medium": "MICROPHONE", "participant": "PATIENT", "track_sid": "TR_1", "is_routed": True},
        ),
        (
            "recordings_track_sid_is_id",
            {"medium": "MICROPHONE", "participant": "PATIENT", "track_sid": "TR_1'; --"},
        ),
    ],
)
def test_row_that_says_two_things_is_refused(
    practice: Database, constraint: str, given: dict[str, Any]
) -> None:
    if "participant" in given:
        given = given | {"participant": participant_of(practice, ANA.id_of("over"))}
    with refused("23514", constraint):
        insert(practice, **given)


def test_participant_of_another_consultation_is_refused(practice: Database) -> None:
    stranger = participant_of(practice, BRUNO.id_of("over"))
    with refused("23503", "recordings_participant_fkey"):
        insert(practice, "MICROPHONE", participant=stranger, track_sid="TR_1")
