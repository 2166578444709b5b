"""Tests of the alignment of a microphone's file with the video, by the loudness of both in frames of 30 ms."""

import random
from collections.abc import Iterator
from itertools import compress

import pytest

from app.media.alignment import Alignment, align, mark_covered, shift_frames
from app.media.turns import FRAME_MS, SPEECH
from tests.unit.talking import HOUR, noisy, talk, video_of


@pytest.mark.parametrize("late", [-40, 0, 7, 400])
@pytest.mark.parametrize("wrong_ms", [-2_800, -900, 0, 310, 2_800])
def test_part_is_found_in_the_mixed_sound_within_a_few_hundredths_of_a_second(
    late: int, wrong_ms: int
) -> None:
    doctor, patient = talk(3_000, seed=1), talk(3_000, seed=2)
    video = video_of((doctor, 0), (patient, late), frames=3_200)
    found = align(patient, video, late * FRAME_MS + wrong_ms)
    assert found is not None
    assert abs(found.late_ms - late * FRAME_MS) <= FRAME_MS // 2


@pytest.mark.parametrize("noise", [10, 30, 50])
def test_part_is_found_in_noise(noise: int) -> None:
    patient = talk(3_000, seed=1)
    video = video_of((patient, 30), (talk(3_000, seed=2), 0), frames=3_200, noise=noise)
    found = align(noisy(patient, seed=3, level=30), video, 0)
    assert found is not None
    assert abs(found.late_ms - 900) <= FRAME_MS


def test_part_with_a_sentence_in_an_hour_is_found() -> None:
    sentence = talk(200, seed=5, share=0.9)
    patient = shift_frames(sentence, 1_500_000, HOUR)
    video = video_of((talk(HOUR, seed=1), 0), (patient, 25), frames=HOUR)
    found = align(patient, video, 0)
    assert found is not None
    assert abs(found.late_ms_at(1_500_000) - 750) <= FRAME_MS


def test_too_little_speech_has_no_alignment() -> None:
    word = shift_frames(talk(400, seed=5, share=0.95)[40:60], 3_000, 3_000)
    assert align(word, video_of((word, 0), (talk(3_000, seed=1), 0), frames=3_000), 0) is None


@pytest.mark.parametrize(
    ("part", "video"),
    [
        (b"", b""),
        (b"", talk(3_000, seed=1)),
        (talk(3_000, seed=1), b""),
        (bytes(3_000), talk(3_000, seed=1)),
        (talk(3_000, seed=1), bytes(3_000)),
        (bytes([SPEECH | 99]) * 3_000, bytes([SPEECH | 99]) * 3_000),
        (bytes([255]) * 3_000, talk(3_000, seed=1)),
        (talk(3_000, seed=1), noisy(bytes(3_000), seed=2, level=120)),
    ],
    ids=["nothing", "no part", "no video", "silence", "silent video", "constant", "loudest", "noise"],
)
def test_sound_without_contrast_has_no_alignment(part: bytes, video: bytes) -> None:
    assert align(part, video, 0) is None


def test_another_conversation_has_no_alignment() -> None:
    dice = random.Random(4)  # noqa: S311 - made-up speech
    for seed in range(40):
        length = dice.choice([120, 300, 1_000, 3_000])
        part = talk(length, seed=100 + seed, share=dice.uniform(0.2, 0.9))
        video = video_of((talk(4_000, seed=200 + seed), 0), frames=4_000)
        assert align(part, video, dice.randrange(0, 100_000)) is None, seed


@pytest.mark.parametrize("period", [9, 20, 33, 66])
def test_repeating_sound_has_no_alignment(period: int) -> None:
    """A repeating sound, such as hold music, an alarm or a metronome, matches at several offsets, so the alignment
    returns no offset.
    """
    bar = talk(period, seed=6, share=0.9)
    repeated = bar * (3_000 // period)
    assert align(repeated, video_of((repeated, 5), frames=3_100), 0) is None


def test_clocks_that_drift_apart_are_followed() -> None:
    patient = talk(HOUR, seed=1)
    drifted = bytearray()
    for number, frame in enumerate(patient):  # One more frame every 3 minutes is 0.6 s in an hour
        drifted += bytes([frame, frame]) if number % 6_000 == 3_000 else bytes([frame])
    video = video_of((bytes(drifted), 20), (talk(HOUR, seed=2), 0), frames=HOUR + 100)
    found = align(patient, video, 0)
    assert found is not None
    for number in range(0, HOUR, 5_000):
        late = 20 + sum(other % 6_000 == 3_000 for other in range(number))
        assert abs(found.late_ms_at(number * FRAME_MS) - late * FRAME_MS) <= 100


def test_work_for_hours_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alignment compares at most 90 s of speech in each ten minutes."""
    compared = 0

    def count(frames: bytes, mask: bytes) -> Iterator[int]:
        nonlocal compared
        compared += sum(mask)
        return compress(frames, mask)

    monkeypatch.setattr("app.media.alignment.compress", count)
    monologue = talk(2 * HOUR, seed=1, share=0.97)
    found = align(monologue, monologue, 0)
    assert found is not None
    assert len(found.measured) == 12
    assert compared <= 12 * 3_000 * 202


def test_delay_between_two_measurements_is_interpolated() -> None:
    alignment = Alignment(((10_000, 100), (20_000, 200), (40_000, 0)))
    moments = [0, 10_000, 15_000, 20_000, 30_000, 40_000, 99_000]
    assert [alignment.late_ms_at(moment) for moment in moments] == [100, 100, 150, 200, 100, 0, 0]
    assert alignment.late_ms == 100


@pytest.mark.parametrize(
    ("late_ms", "covered"), [(0, "0111110000"), (-90, "1110000000"), (240, "0000000001")]
)
def test_speech_covers_the_video_with_its_margin_of_error(late_ms: int, covered: str) -> None:
    found = bytearray(10)
    part = bytes([0, 0, SPEECH, SPEECH, SPEECH, 0])
    mark_covered(found, part, Alignment(((0, late_ms),)), FRAME_MS)
    assert "".join(map(str, found)) == covered


def test_part_is_placed_in_the_video_and_cut_at_its_ends() -> None:
    assert shift_frames(b"abcd", 60, 8) == b"\0\0abcd\0\0"
    assert shift_frames(b"abcd", -60, 8) == b"cd" + bytes(6)
    assert shift_frames(b"abcd", 150, 6) == bytes(5) + b"a"
    assert shift_frames(b"abcd", 99_000, 3) == shift_frames(b"abcd", -99_000, 3) == bytes(3)
