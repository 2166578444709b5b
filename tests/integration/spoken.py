"""Reads the turns of a spoken consultation from the fixtures, encodes them as a speech service receives them, and
computes the word error rate of a transcript.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path

import av

FIXTURES = Path(__file__).parent.parent / "fixtures"
RATE = 16_000
_SAMPLE_BYTES = 2
_MARGIN_SECONDS = 0.1


@dataclass(frozen=True)
class SpokenTurn:
    """One speaker's turn in `headache.ref.json`, with times in seconds. The doctor's turns are on the left channel
    (0).
    """

    speaker: str
    start: float
    end: float
    text: str

    @property
    def channel(self) -> int:
        return 0 if self.speaker == "doctor" else 1


@cache
def turns() -> tuple[SpokenTurn, ...]:
    reference = json.loads((FIXTURES / "headache.ref.json").read_text(encoding="utf-8"))
    return tuple(SpokenTurn(**turn) for turn in reference["turns"])


def turn_flac(turn: SpokenTurn) -> bytes:
    """Return the sound of a turn from the speaker's channel as mono FLAC at 16 kHz. The returned sound begins 0.1 s
    before the turn and ends 0.1 s after the turn.
    """
    start = max(0, round((turn.start - _MARGIN_SECONDS) * RATE))
    end = round((turn.end + _MARGIN_SECONDS) * RATE)
    return flac(channels()[turn.channel][start * _SAMPLE_BYTES : end * _SAMPLE_BYTES])


def silence_flac(seconds: float) -> bytes:
    return flac(bytes(round(seconds * RATE) * _SAMPLE_BYTES))


def flac(samples: bytes) -> bytes:
    """Encode 16-bit mono samples at 16 kHz as a FLAC file."""
    file = BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono", format="s16")
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(samples) // _SAMPLE_BYTES)
        frame.sample_rate, frame.pts = RATE, 0
        frame.planes[0].update(samples.ljust(frame.planes[0].buffer_size, b"\0"))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def mp4(samples: bytes) -> bytes:
    """Encode 16-bit mono samples at 16 kHz in the format in which LiveKit records a microphone: AAC at 44.1 kHz."""
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(samples) // _SAMPLE_BYTES)
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        frame.planes[0].update(samples.ljust(frame.planes[0].buffer_size, b"\0"))
        resampler = av.AudioResampler(stream.format, "mono", 44_100, frame_size=1024)
        for one in (*resampler.resample(frame), *resampler.resample(None), None):
            container.mux(stream.encode(one))
    return file.getvalue()


@cache
def channels() -> tuple[bytes, bytes]:
    """Return the doctor's and the patient's channel of the fixture, each as 16-bit samples at 16 kHz."""
    left, right = bytearray(), bytearray()
    resampler = av.AudioResampler(format="s16p", layout="stereo", rate=RATE)
    with av.open(str(FIXTURES / "headache.dual.ogg"), "r", format="ogg") as container:
        frames = [one for frame in container.decode(audio=0) for one in resampler.resample(frame)]
    for one in (*frames, *resampler.resample(None)):
        left += bytes(one.planes[0])[: one.samples * _SAMPLE_BYTES]
        right += bytes(one.planes[1])[: one.samples * _SAMPLE_BYTES]
    return bytes(left), bytes(right)


def word_error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the word error rate: the number of substituted, missing and additional words, divided by the number of
    spoken words. `pairs` contains, for each turn, the spoken text and the recognized text.
    """
    wrong = sum(word_errors(said, heard) for said, heard in pairs)
    return wrong / sum(len(words(said)) for said, _ in pairs)


def word_errors(said: str, heard: str) -> int:
    """Return the smallest number of words that must be substituted, removed or inserted to make both texts equal."""
    expected, given = words(said), words(heard)
    row = list(range(len(given) + 1))
    for number, word in enumerate(expected, 1):
        above = row
        row = [number]
        for column, other in enumerate(given, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (word != other)))
    return row[-1]


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without accents and punctuation."""
    plain = "".join(
        one for one in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(one)
    )
    return re.findall(r"[\w']+", plain)
