"""Builds conversations from the fixture's spoken turns, with pauses, noise and overlaps that a test chooses, and
measures the errors of the start times in their transcripts.
"""

import random
import statistics
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from io import BytesIO

import av

from app.integrations.speech.client import Speech
from app.media.sound import cut_chunks, measure_sound
from app.media.sound_plans import Span, plan_file
from app.transcripts.model import Transcript
from app.transcripts.transcription.assembly import TranscribedChunk, assemble_transcript
from app.transcripts.transcription.segment_times import correct_times
from tests.integration.spoken import RATE, channels, turns, words

PAUSES = (0.5, 0.7, 1.0, 1.5, 2.5, 6.0, 12.0, 25.0, 40.0)


@dataclass(frozen=True)
class Talk:
    """A conversation: 16-bit mono samples at 16 kHz, and the start in seconds, the end in seconds and the text of
    each turn.
    """

    samples: bytes
    said: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class StartErrors:
    """The errors of the start times in a transcript. `seconds` contains the absolute error of the start time of
    each turn with a recognized word, in ascending order. `unheard`: the number of spoken turns of which the
    transcript contains no word.
    """

    seconds: tuple[float, ...]
    unheard: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def percentile_99(self) -> float:
        return self.seconds[min(len(self.seconds) - 1, int(len(self.seconds) * 0.99))]


def talk(count: int, pause: Callable[[int], float], *, noise: float = 0.0) -> Talk:
    """Return a conversation with this number of turns. `pause(n)` returns the pause in seconds between turn n and
    the next turn. If the returned pause is negative, the next turn overlaps turn n.

    `noise`: the level of white noise relative to the speech. If the level is 0.1, the noise is 20 dB softer than
    the speech.
    """
    sound = array("h", bytes(2 * RATE))
    said = []
    for number, turn in enumerate(turns()[:count]):
        words_of_it = array(
            "h", channels()[turn.channel][round(turn.start * RATE) * 2 : round(turn.end * RATE) * 2]
        )
        begin = len(sound) if number == 0 else len(sound) + round(pause(number - 1) * RATE)
        said.append((begin / RATE, (begin + len(words_of_it)) / RATE, turn.text))
        _add(sound, begin, words_of_it)
    sound.extend(array("h", bytes(2 * RATE)))
    return Talk((_with_noise(sound, noise) if noise else sound).tobytes(), tuple(said))


def start_errors(talk: Talk, transcript: Transcript) -> StartErrors:
    """For each spoken turn, find its first recognized word, and compare the start of the spoken turn with the start
    of the transcript's turn that contains this word.
    """
    said = [(word, number) for number, (_, _, text) in enumerate(talk.said) for word in words(text)]
    heard = [(word, turn.start_ms / 1000) for turn in transcript.in_order for word in words(turn.text)]
    first: dict[int, float] = {}
    for at, place in sorted(_alike([word for word, _ in said], [word for word, _ in heard])):
        first.setdefault(said[at][1], heard[place][1])
    errors = sorted(
        abs(first[number] - start) for number, (start, _, _) in enumerate(talk.said) if number in first
    )
    return StartErrors(tuple(errors), len(talk.said) - len(first))


async def transcribed(
    talk: Talk, speech: Speech, before: Callable[[Span], None] = lambda _: None
) -> tuple[Transcript, int]:
    """Transcribe a recording of this conversation in the same way as the worker. Return the transcript and the
    number of chunks sent to the speech service.

    The function calls `before` with each chunk before it sends the chunk to the speech service.
    """
    content = mono_mp4(talk.samples)

    async def read_range(start: int, length: int) -> bytes:
        return content[start : start + length]

    found = plan_file(await measure_sound(read_range, len(content), "mp4"), speech.cut)
    heard = []
    async with aclosing(cut_chunks(read_range, len(content), "mp4", found.spans)) as cut:
        async for span, flac in cut:
            before(span)
            heard.append(
                TranscribedChunk(
                    span, correct_times(await speech.transcribe(flac, language="en"), span.speech)
                )
            )
    return assemble_transcript(heard), len(heard)


@cache
def mono_mp4(samples: bytes) -> bytes:
    """Encode mono samples as an MP4 file with AAC sound at 16 kHz."""
    target = BytesIO()
    with av.open(target, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(samples) // 2)
        frame.planes[0].update(samples)
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        resampler = av.AudioResampler(stream.format, "mono", RATE, frame_size=1024)
        for part in (*resampler.resample(frame), *resampler.resample(None), None):
            file.mux(stream.encode(part))
    return target.getvalue()


def _add(sound: "array[int]", begin: int, other: "array[int]") -> None:
    if len(sound) < begin + len(other):
        sound.extend(array("h", bytes(2 * (begin + len(other) - len(sound)))))
    for number, sample in enumerate(other, begin):
        sound[number] = max(-32_768, min(32_767, sound[number] + sample))


def _with_noise(sound: "array[int]", share: float) -> "array[int]":
    spoken = [sample for sample in sound if sample]
    loud = share * (sum(sample * sample for sample in spoken) / len(spoken)) ** 0.5
    chance = random.Random(1)  # noqa: S311 - makes noise that is equal in each run
    return array("h", (max(-32_768, min(32_767, round(one + chance.gauss(0, loud)))) for one in sound))


def _alike(said: Sequence[str], heard: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Align both texts with the fewest word errors, and yield the two positions of each word that is equal in both
    texts.
    """
    rows = [list(range(len(heard) + 1))]
    for number, word in enumerate(said, 1):
        row = [number]
        for column, other in enumerate(heard, 1):
            above = rows[-1]
            row.append(min(above[column - 1] + (word != other), above[column] + 1, row[-1] + 1))
        rows.append(row)
    at, place = len(said), len(heard)
    while at and place:
        is_same = said[at - 1] == heard[place - 1]
        if rows[at][place] == rows[at - 1][place - 1] + (not is_same):
            at, place = at - 1, place - 1
            if is_same:
                yield at, place
        elif rows[at][place] == rows[at - 1][place] + 1:
            at -= 1
        else:
            place -= 1
