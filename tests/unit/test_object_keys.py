"""Tests of object keys: Resguardo finds the recording of a key, and gives each new attempt of a recording a new
key.
"""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bucket import object_keys
from app.bucket.object_keys import compose_next_recording_key
from app.recordings.media_ids import MediaId, media_of_key
from app.recordings.model import Medium

VIDEO = UUID(int=7)
PART = UUID(int=9)
FOLDER = f"r/d90/{UUID(int=2)}/{VIDEO}"


@pytest.mark.parametrize(
    ("file", "medium"),
    [
        ("video.mp4", Medium.VIDEO),
        ("video-2.mp4", Medium.VIDEO),
        ("speakers.ogg", Medium.SPEAKERS),
        ("speakers-12.ogg", Medium.SPEAKERS),
    ],
)
def test_key_names_its_video_and_medium(file: str, medium: Medium) -> None:
    assert media_of_key(f"{FOLDER}/{file}") == (VIDEO, medium)


@pytest.mark.parametrize("end", [".mp4", ".ogg", "-2.mp4", "-999.ogg"])
def test_key_names_the_microphone_recording_itself(end: str) -> None:
    assert media_of_key(f"{FOLDER}/microphone-{PART}{end}") == (PART, Medium.MICROPHONE)


@pytest.mark.parametrize(
    "file",
    [
        "microphone.mp4",
        f"microphone-{UUID(int=9)}.mp3",
        f"microphone-{UUID(int=9)}-.mp4",
        f"microphone-{'-' * 36}.mp4",
        f"speakers-{UUID(int=9)}.ogg",
        f"video-{UUID(int=9)}.mp4",
    ],
)
def test_key_without_a_microphone_recording_names_nothing(file: str) -> None:
    assert media_of_key(f"{FOLDER}/{file}") is None


@pytest.mark.parametrize("place", ["keep", "r/d90", "r/d36500", "r/standard"])
def test_key_names_its_video_wherever_it_lies(place: str) -> None:
    key = f"{place}/{UUID(int=2)}/{VIDEO}/video.mp4"
    assert media_of_key(key) == (VIDEO, Medium.VIDEO)
    assert compose_next_recording_key(key) == f"{place}/{UUID(int=2)}/{VIDEO}/video-2.mp4"


@pytest.mark.parametrize("place", ["keep/d90", "r", "kept", "", "exports"])
def test_key_of_another_place_names_nothing(place: str) -> None:
    assert media_of_key(f"{place}/{UUID(int=2)}/{VIDEO}/video.mp4") is None


@pytest.mark.parametrize(
    "file",
    [
        "video.ogg",
        "speakers.mp4",
        "video-.mp4",
        "video-2000.mp4",
        "other.mp4",
        "video.mp4/x",
        "VIDEO.mp4",
        "import.mp4",
        "import-2.mp4",
    ],
)
def test_key_of_another_file_names_nothing(file: str) -> None:
    assert media_of_key(f"{FOLDER}/{file}") is None


@given(st.none() | st.text(max_size=60) | st.lists(st.text(max_size=8), min_size=4, max_size=6).map("/".join))
def test_key_that_is_not_ours_names_nothing(key: str | None) -> None:
    assert media_of_key(key) is None


def test_key_with_a_broken_id_names_nothing() -> None:
    assert media_of_key(f"r/d90/{uuid4()}/{'-' * 36}/video.mp4") is None


@pytest.mark.parametrize(
    ("name", "file_type", "media"),
    [
        ("speakers", "ogg", (VIDEO, Medium.SPEAKERS)),
        (f"microphone-{PART}", "mp4", (PART, Medium.MICROPHONE)),
        (f"microphone-{PART}", "ogg", (PART, Medium.MICROPHONE)),
    ],
)
def test_next_keys_differ_and_name_the_same_media(name: str, file_type: str, media: MediaId) -> None:
    key, seen = f"{FOLDER}/{name}.{file_type}", []
    for _ in range(3):
        seen.append(key)
        assert media_of_key(key) == media
        key = compose_next_recording_key(key)
    assert [one.rpartition("/")[2] for one in seen] == [
        f"{name}{ask}.{file_type}" for ask in ("", "-2", "-3")
    ]


@pytest.mark.parametrize("key", ["someone/else.mp4", f"{FOLDER}/import.mp4"])
def test_next_key_of_what_livekit_does_not_record_is_an_error(key: str) -> None:
    with pytest.raises(ValueError, match="not the key"):
        compose_next_recording_key(key)


ORIGIN = "resguardo/north-street/2027"


def test_tiles_and_checkpoints_of_the_audit_log_are_under_the_lock_and_the_newest_checkpoint_is_not() -> None:
    locked = [
        object_keys.compose_tile_key(ORIGIN, "tile/0/x001/067.p/17"),
        object_keys.compose_checkpoint_key(ORIGIN, 273),
    ]
    assert locked == [
        "audit/resguardo/north-street/2027/tile/0/x001/067.p/17",
        "audit/resguardo/north-street/2027/checkpoints/273",
    ]
    assert all(key.startswith("audit/") for key in locked)
    latest = object_keys.compose_latest_checkpoint_key(ORIGIN)
    assert latest == "audit-latest/resguardo/north-street/2027/checkpoint"
    assert not latest.startswith("audit/")


@pytest.mark.parametrize("size", [0, 1, 273, 2**63 - 1])
def test_key_of_a_checkpoint_is_parsed(size: int) -> None:
    key = object_keys.compose_checkpoint_key(ORIGIN, size)
    assert object_keys.parse_checkpoint_key(key) == (ORIGIN, size)


@pytest.mark.parametrize(
    "key",
    [
        f"audit/{ORIGIN}/checkpoints/01",
        f"audit/{ORIGIN}/checkpoints/",
        f"audit/{ORIGIN}/checkpoints/-1",
        f"audit/{ORIGIN}/checkpoints/1/2",
        f"audit-latest/{ORIGIN}/checkpoint",
        f"audit/{ORIGIN}/tile/0/000",
        "audit/checkpoints/1",
    ],
)
def test_other_keys_are_no_checkpoint(key: str) -> None:
    assert object_keys.parse_checkpoint_key(key) is None
