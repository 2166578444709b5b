"""Generates synthetic speech in the format that `app.media.turns` reads: one frame, which is one byte, for each 30
ms.
"""

import random

from app.media.alignment import shift_frames
from app.media.turns import FRAME_MS, SPEECH, merge_loudest

HOUR = 120_000
"""One hour, in frames."""


def talk(frames: int, *, seed: int, share: float = 0.4) -> bytes:
    """Return the frames of a speaker who talks in turns of 1 to 5 s in a quiet room. `share`: the fraction of the
    time in which the speaker talks.
    """
    dice = random.Random(seed)  # noqa: S311 - made-up speech
    made = bytearray()
    while len(made) < frames:
        made += bytes(
            dice.randrange(6) for _ in range(int(dice.uniform(0.5, 1.5) * 100 * (1 - share) / share))
        )
        for _ in range(dice.randrange(6, 30)):
            loud = dice.randrange(50, 110)
            syllable = (loud - 25, loud, loud - dice.randrange(8), loud - 12, loud - dice.randrange(20, 40))
            made += bytes(SPEECH | max(1, value) for value in syllable)
    return bytes(made[:frames])


def noisy(frames: bytes, *, seed: int, level: int) -> bytes:
    """Return the frames with added noise up to `level` and with random errors like those of a lossy encoding."""
    dice = random.Random(seed)  # noqa: S311 - made-up speech
    return bytes(
        frame & SPEECH | min(127, max(dice.randrange(level + 1), (frame & 127) + dice.randrange(-3, 4)))
        if frame & 127
        else dice.randrange(level + 1)
        for frame in frames
    )


def video_of(*parts: tuple[bytes, int], frames: int, noise: int = 10) -> bytes:
    """Return the sound of a video in which all sounds of `parts` are mixed. Each sound of `parts` starts after its
    own delay, given in frames from the start of the video.
    """
    mixed = merge_loudest([shift_frames(part, late * FRAME_MS, frames) for part, late in parts])
    return noisy(mixed, seed=9, level=noise)
