"""Measures the loudness of sound, and detects whether the sound is speech. Only the child processes that read media
files load this module.
"""

from math import log2

import webrtcvad  # type: ignore[import-untyped]  # comes without types

from app.media.timeline import RATE, SAMPLE_BYTES
from app.media.turns import FRAME_MS, LOUDNESS, SPEECH

FRAME_SAMPLES = RATE * FRAME_MS // 1000
_FRAME_BYTES = FRAME_SAMPLES * SAMPLE_BYTES
_SILENCE = bytes(_FRAME_BYTES)
_STEPS = 8
"""The number of loudness steps for a doubling."""

_EVERY = 4
"""One of this many samples is used to measure loudness."""

_STRICTEST = 3
_MEASURED_BYTES = 50 * _FRAME_BYTES


class LoudnessMeter:
    """Measures the loudness of one channel's sound, and detects whether the sound is speech. The measurement has
    one byte for each 30 ms of sound.
    """

    def __init__(self) -> None:
        self._vad = webrtcvad.Vad(_STRICTEST)
        self._waiting = bytearray()
        self._frames = bytearray()

    def add_samples(self, plane: bytes) -> None:
        """Add 16-bit samples to be measured."""
        self._waiting += plane
        if len(self._waiting) >= _MEASURED_BYTES:
            self._measure()

    def frames(self) -> bytes:
        """Return all frames. If the last frame of the sound is incomplete, it is filled up with silence."""
        self._waiting += bytes(-len(self._waiting) % _FRAME_BYTES)
        self._measure()
        return bytes(self._frames)

    def _measure(self) -> None:
        size = len(self._waiting) // _FRAME_BYTES * _FRAME_BYTES
        taken = bytes(self._waiting[:size])
        del self._waiting[:size]
        self._frames += bytes(
            self._frame(taken[start : start + _FRAME_BYTES]) for start in range(0, size, _FRAME_BYTES)
        )

    def _frame(self, frame: bytes) -> int:
        return _loudness(frame) | (SPEECH if self._vad.is_speech(frame, RATE) else 0)


def _loudness(frame: bytes) -> int:
    if frame == _SILENCE:  # a file may claim hours of silence at no cost
        return 0
    some = memoryview(frame).cast("h")[::_EVERY]
    return min(LOUDNESS, round(_STEPS * log2(1 + sum(map(abs, some)) / len(some))))
