"""Tests that the SQL functions compose the same object keys as app/bucket/object_keys.py."""

from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from app.bucket.object_keys import (
    EgressFile,
    RecordingKey,
    compose_exports_prefix,
    compose_kept_key,
    parse_egress_file,
    parse_export_key,
    parse_recording_key,
)
from tests.policies.acting import value
from tests.policies.actors import Connection

FIRST_KEY = "select private.first_object_key(jsonb_populate_record(null::resguardo.recordings, %s), %s)"
IMPORT_KEY = (
    "select private.compose_object_key(jsonb_populate_record(null::resguardo.recordings, %s), 'import.mp4')"
)
CLASSES = st.just("keep") | st.integers(1, 99_999).map("d{}".format)
MEDIA = st.sampled_from(["VIDEO", "SPEAKERS", "MICROPHONE"])


def _row(retention_class: str, consultation: UUID, recording: UUID, video: UUID | None, medium: str) -> Jsonb:
    row: dict[str, Any] = {
        "id": str(recording),
        "video_id": None if video is None else str(video),
        "consultation_id": str(consultation),
        "retention_class": retention_class,
        "medium": medium,
    }
    return Jsonb(row)


@given(CLASSES, st.uuids(), st.uuids(), st.uuids(), MEDIA, st.sampled_from(["mp4", "ogg"]))
def test_database_and_python_compose_the_same_key_of_a_recording(
    finished: dict[str, Connection],
    retention_class: str,
    consultation: UUID,
    recording: UUID,
    other: UUID,
    medium: str,
    sound_file: str,
) -> None:
    video = None if medium == "VIDEO" else other
    row = _row(retention_class, consultation, recording, video, medium)
    key = str(value(finished["superuser"], FIRST_KEY, row, sound_file))
    file = {
        "VIDEO": EgressFile("VIDEO"),
        "SPEAKERS": EgressFile("SPEAKERS", type="ogg"),
        "MICROPHONE": EgressFile("MICROPHONE", recording, "ogg" if sound_file == "ogg" else "mp4"),
    }[medium]
    composed = RecordingKey(retention_class, consultation, video or recording, str(file))
    assert key == str(composed)
    assert parse_recording_key(key) == composed
    assert parse_egress_file(composed.file) == file


@given(CLASSES, st.uuids(), st.uuids())
def test_database_composes_a_key_of_an_import_that_no_egress_has(
    finished: dict[str, Connection], retention_class: str, consultation: UUID, recording: UUID
) -> None:
    row = _row(retention_class, consultation, recording, None, "VIDEO")
    key = str(value(finished["superuser"], IMPORT_KEY, row))
    assert parse_recording_key(key) == RecordingKey(retention_class, consultation, recording, "import.mp4")
    assert parse_egress_file("import.mp4") is None


@given(CLASSES, st.uuids(), st.uuids(), st.sampled_from(["video.mp4", "video-2.mp4", "import.mp4"]))
def test_database_and_python_compose_the_same_kept_key(
    finished: dict[str, Connection], retention_class: str, consultation: UUID, video: UUID, file: str
) -> None:
    key = str(RecordingKey(retention_class, consultation, video, file))
    assert value(finished["superuser"], "select private.kept_object_key(%s)", key) == compose_kept_key(key)
    prefix = value(finished["superuser"], "select private.consultation_prefix(%s)", key)
    assert prefix == (None if retention_class == "keep" else key.partition(str(video))[0])


@given(st.uuids(), st.uuids())
def test_database_and_python_compose_the_same_prefix_of_copies(
    finished: dict[str, Connection], request_id: UUID, copy: UUID
) -> None:
    prefix = str(value(finished["superuser"], "select private.exports_prefix(%s)", request_id))
    assert prefix == compose_exports_prefix(request_id)
    assert parse_export_key(f"{prefix}{copy}.zip") == request_id
