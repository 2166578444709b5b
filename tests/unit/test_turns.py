"""Tests of how turns are found in measured sound. No speech may be lost or returned twice, and no turn may be too
long.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.media.turns import (
    FRAME_MS,
    SPEECH,
    _minimum_around,
    find_speech,
    find_turns,
    find_windows,
    remove_traces,
    select_channels,
)

LOUD, QUIET = SPEECH | 90, 30


def _frames(*parts: tuple[int, int]) -> bytes:
    """Return sound frames. Each argument is a pair: the value of a frame, and how often this frame is repeated."""
    return b"".join(bytes([frame]) * count for frame, count in parts)


@st.composite
def recordings(draw: st.DrawFn) -> bytes:
    """Return the frames of a random recording. Each stretch of the recording is speech or silence, and has a random
    length from one frame to 90 s.
    """
    lengths = st.integers(1, 4) | st.integers(5, 40) | st.integers(500, 3000)
    parts = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 127), lengths), max_size=12))
    return _frames(*((loudness | (SPEECH if speaks else 0), count) for speaks, loudness, count in parts))


@given(recordings(), st.sampled_from([3_000, 30_000]))
def test_turns_are_ordered_disjoint_and_not_too_long(frames: bytes, longest_ms: int) -> None:
    duration_ms = len(frames) * FRAME_MS
    last = 0
    for start, end in find_turns(frames, longest_ms=longest_ms, duration_ms=duration_ms):
        assert last <= start < end <= duration_ms
        assert end - start <= longest_ms
        last = end


@given(recordings(), st.sampled_from([3_000, 30_000]))
def test_turns_contain_all_speech_except_clicks(frames: bytes, longest_ms: int) -> None:
    duration_ms = len(frames) * FRAME_MS
    missed = bytearray(bool(frame & SPEECH) for frame in frames)
    for start, end in find_turns(frames, longest_ms=longest_ms, duration_ms=duration_ms):
        first, last = start // FRAME_MS, -(-end // FRAME_MS)
        missed[first:last] = bytes(last - first)
    assert bytes([1]) * 5 not in missed


@given(recordings(), st.sampled_from([30_000, 800_000]))
def test_windows_contain_every_turn_and_are_not_too_long(frames: bytes, longest_ms: int) -> None:
    duration_ms = len(frames) * FRAME_MS
    whole = find_windows(frames, longest_ms=longest_ms, duration_ms=duration_ms)
    assert all(end - start <= longest_ms for start, end in whole)
    for start, end in find_turns(frames, longest_ms=longest_ms, duration_ms=duration_ms):
        assert any(first <= start and end <= last for first, last in whole)


def test_a_short_pause_is_within_a_turn_and_a_long_one_is_not() -> None:
    frames = _frames((QUIET, 50), (LOUD, 50), (QUIET, 11), (LOUD, 50), (QUIET, 13), (LOUD, 50), (QUIET, 50))
    assert find_turns(frames, longest_ms=30_000, duration_ms=8_220) == [(1_400, 4_930), (5_120, 6_820)]


def test_speech_in_a_steady_noise_is_divided_at_its_pauses_and_nothing_is_left_out() -> None:
    noise = SPEECH | 60
    frames = _frames((noise, 50), (LOUD, 50), (noise, 5), (LOUD, 50), (noise, 40), (LOUD, 50), (noise, 100))
    assert find_turns(frames, longest_ms=30_000, duration_ms=10_350) == [(0, 5_750), (5_750, 10_350)]
    assert find_speech(frames) == ((1_500, 3_000), (3_150, 4_650), (5_850, 7_350))


def test_steady_noise_alone_is_a_turn() -> None:
    frames = _frames((SPEECH | 60, 100))
    assert find_turns(frames, longest_ms=30_000, duration_ms=3_000) == [(0, 3_000)]
    assert find_speech(frames) == ((0, 3_000),)


@given(recordings())
def test_minimum_around_agrees_with_a_slow_search(frames: bytes) -> None:
    reach = 7
    slow = [min(frames[max(0, at - reach) : at + reach + 1]) for at in range(len(frames))]
    assert list(_minimum_around(frames, reach)) == slow


def test_a_long_turn_is_cut_at_its_quietest_pause() -> None:
    frames = _frames((LOUD, 600), (SPEECH | 60, 5), (LOUD, 100), (SPEECH | 70, 5), (LOUD, 600))
    assert find_turns(frames, longest_ms=30_000, duration_ms=39_300) == [(0, 18_060), (18_060, 39_300)]


def test_click_is_not_a_turn() -> None:
    assert (
        find_turns(_frames((QUIET, 50), (LOUD, 4), (QUIET, 50)), longest_ms=30_000, duration_ms=3_120) == []
    )


def test_a_window_ends_at_a_long_silence() -> None:
    frames = _frames((LOUD, 50), (QUIET, 70), (LOUD, 50), (QUIET, 80), (LOUD, 50))
    assert find_windows(frames, longest_ms=800_000, duration_ms=9_000) == [(0, 5_200), (7_400, 9_000)]


def test_trace_of_the_other_channel_is_not_speech() -> None:
    mine, trace = _frames((QUIET, 50), (LOUD, 50)), _frames((QUIET, 50), (SPEECH | 60, 50))
    assert not any(frame & SPEECH for frame in remove_traces(trace, mine))
    assert remove_traces(mine, trace) == mine


def test_reverberating_trace_is_not_speech() -> None:
    mine, trace = _frames((LOUD, 50), (QUIET, 50)), _frames((SPEECH | 60, 54), (QUIET, 46))
    assert not any(frame & SPEECH for frame in remove_traces(trace, mine))


@pytest.mark.parametrize("leak_steps", [13, 16, 20])
def test_loud_trace_is_not_speech_if_all_traces_are_as_loud(leak_steps: int) -> None:
    mine = _frames((LOUD, 200), (QUIET, 50))
    trace = _frames((SPEECH | (90 - leak_steps), 200), (LOUD, 50))
    assert remove_traces(trace, mine) == _frames((90 - leak_steps, 200), (LOUD, 50))
    assert remove_traces(mine, trace) == mine


def test_soft_speech_during_the_others_speech_is_kept() -> None:
    loud, soft = _frames((LOUD, 100)), _frames((QUIET, 60), (SPEECH | 72, 40))
    assert remove_traces(soft, loud) == soft


def test_a_channel_that_carries_the_same_speech_is_left_out() -> None:
    left, right = _frames((LOUD, 50), (QUIET, 50)), _frames((QUIET, 50), (LOUD, 50))
    same = bytes(frame ^ 1 for frame in left)
    assert select_channels({0: left, 1: same}) == {0: left}
    assert select_channels({0: left, 1: right, 2: same}) == {0: left, 1: right}


def test_channel_that_is_part_of_a_mix_is_left_out() -> None:
    one, other = _frames((LOUD, 50), (QUIET, 50)), _frames((QUIET, 50), (LOUD, 50))
    mix = _frames((LOUD, 100))
    assert select_channels({0: one, 1: mix, 2: other}) == {1: mix}


def test_pair_with_a_silent_channel_is_kept() -> None:
    left, silent = _frames((LOUD, 50), (QUIET, 50)), bytes(100)
    assert select_channels({0: left, 1: silent}) == {0: left, 1: silent}


def test_silent_channels_among_several_are_left_out() -> None:
    left, silent = _frames((LOUD, 50), (QUIET, 50)), bytes(100)
    assert select_channels({0: silent, 1: silent, 2: left}) == {2: left}
    assert select_channels({0: silent, 1: silent, 2: silent}) == {0: silent}
    assert select_channels({}) == {}


def test_trace_of_one_of_several_channels_is_not_speech() -> None:
    mine, others = _frames((LOUD, 50), (QUIET, 100)), _frames((QUIET, 100), (LOUD, 50))
    traced = _frames((SPEECH | 60, 50), (LOUD, 50), (QUIET, 50))
    assert select_channels({0: mine, 1: traced, 2: others})[1] == _frames((60, 50), (LOUD, 50), (QUIET, 50))
