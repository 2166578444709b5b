"""Whose object a key names, and where the next ask puts its own."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.recordings.keys import media_of_key, next_key
from app.recordings.model import Medium

VIDEO = UUID(int=7)
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
def test_key_names_its_video_and_what_was_recorded(file: str, medium: Medium) -> None:
    assert media_of_key(f"{FOLDER}/{file}") == (VIDEO, medium)


@pytest.mark.parametrize("place", ["keep", "r/d90", "r/d36500", "r/standard"])
def test_key_names_its_video_wherever_it_lies(place: str) -> None:
    key = f"{place}/{UUID(int=2)}/{VIDEO}/video.mp4"
    assert media_of_key(key) == (VIDEO, Medium.VIDEO)
    assert next_key(key) == f"{place}/{UUID(int=2)}/{VIDEO}/video-2.mp4"


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


def test_next_keys_differ_and_name_the_same_media() -> None:
    key, seen = f"{FOLDER}/speakers.ogg", []
    for _ in range(3):
        seen.append(key)
        assert media_of_key(key) == (VIDEO, Medium.SPEAKERS)
        key = next_key(key)
    assert [one.rpartition("/")[2] for one in seen] == ["speakers.ogg", "speakers-2.ogg", "speakers-3.ogg"]


@pytest.mark.parametrize("key", ["someone/else.mp4", f"{FOLDER}/import.mp4"])
def test_next_key_of_what_livekit_does_not_record_is_an_error(key: str) -> None:
    with pytest.raises(ValueError, match="not the key"):
        next_key(key)
