"""Recognises English speech on this machine: FFmpeg decodes the sound, and pocketsphinx recognises it.

The recogniser processes one sound file at a time, in short slices, so that other threads can run between the
slices. The recogniser knows no drug names and no capital letters.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Protocol

import av
from pocketsphinx import Decoder, Endpointer

RATE: Final = 16_000
_SAMPLE_BYTES: Final = 2
_SLICE_BYTES: Final = RATE * _SAMPLE_BYTES // 10
_FRAMES_PER_SECOND: Final = 100
_PAUSE_SECONDS: Final = 0.4
_ONE_UTTERANCE_SECONDS: Final = 30
_DEMUXERS: Final = {"flac": "flac", "ogg": "ogg", "oga": "ogg", "wav": "wav", "webm": "matroska"}
_MP3: Final = ("mp3", "mpeg", "mpga")
_MOST_MODELS_PER_FRAME: Final = 3000
_GAUSSIANS: Final = 2
"""The search limits of pocketsphinx 5.1.1, whose defaults are 30,000 and 4. The fixture then takes 13 s instead of
23 s, and has 9.9% word errors instead of 9.3% (measured 2026-11-22).
"""


class UnreadableError(Exception):
    """The file does not contain sound in the format that the file's suffix names."""


@dataclass(frozen=True)
class Said:
    """Recognised words without a pause between them. Times are in seconds from the beginning of the sound. The
    probabilities are those that the model reports, or None if it reports none.
    """

    start: float
    end: float
    text: str
    avg_logprob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None


class SpeechRecogniser(Protocol):
    """A recogniser of English speech: pocketsphinx or Whisper. The demo shows `name`."""

    name: str

    def recognise(self, samples: bytes) -> tuple[Said, ...]:
        """Return the recognised speech in order; blocks. Only one thread may call this method at a time."""


def decode(content: bytes, suffix: str) -> bytes:
    """Decode a sound file to 16-bit samples, mono, 16 kHz. Raises UnreadableError."""
    demuxer = "mp3" if suffix in _MP3 else _DEMUXERS.get(suffix, "mp4")
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    samples = bytearray()
    try:
        with av.open(BytesIO(content), "r", format=demuxer) as container:
            for frame in container.decode(audio=0):
                samples += _samples(resampler.resample(frame))
        samples += _samples(resampler.resample(None))
    except (av.error.FFmpegError, LookupError, ValueError) as error:
        raise UnreadableError from error
    if not samples:
        raise UnreadableError
    return bytes(samples)


def seconds(samples: bytes) -> float:
    """Return the duration of these samples in seconds."""
    return len(samples) / _SAMPLE_BYTES / RATE


class Recogniser:
    """pocketsphinx with one decoder, which is loaded when it is first needed (0.5 s). Only one thread may use a
    recogniser at a time.
    """

    name = "pocketsphinx"

    def __init__(self) -> None:
        self._decoder: Decoder | None = None

    def recognise(self, samples: bytes) -> tuple[Said, ...]:
        """Return the recognised speech in order. Blocks for about a fifth of the sound's duration."""
        return tuple(
            said for start, utterance in _utterances(samples) for said in self._hear(start, utterance)
        )

    def _hear(self, offset: float, samples: bytes) -> Iterator[Said]:
        decoder = self._decoder = self._decoder or _decoder()
        decoder.start_utt()
        for position in range(0, len(samples), _SLICE_BYTES):
            decoder.process_raw(samples[position : position + _SLICE_BYTES], no_search=False, full_utt=False)
        decoder.end_utt()
        words: list[tuple[float, float, str]] = []
        for one in decoder.seg() or ():
            if re.fullmatch(r"[a-z'._-]+(\(\d+\))?", one.word) is None:
                continue  # a silence or a noise
            start, end = (frame / _FRAMES_PER_SECOND for frame in (one.start_frame, one.end_frame + 1))
            if words and start - words[-1][1] >= _PAUSE_SECONDS:
                yield _said(offset, words)
                words = []
            words.append((start, end, one.word.partition("(")[0]))
        if words:
            yield _said(offset, words)


def _decoder() -> Decoder:
    return Decoder(samprate=RATE, loglevel="FATAL", maxhmmpf=_MOST_MODELS_PER_FRAME, topn=_GAUSSIANS)


def _said(offset: float, words: list[tuple[float, float, str]]) -> Said:
    text = " ".join(word for _, _, word in words)
    return Said(round(offset + words[0][0], 2), round(offset + words[-1][1], 2), text)


def _utterances(samples: bytes) -> Iterator[tuple[float, bytes]]:
    """Yield the parts of the sound in which pocketsphinx's endpointer finds speech, or the whole sound if it is
    short.
    """
    if seconds(samples) <= _ONE_UTTERANCE_SECONDS:
        yield 0.0, samples
        return
    endpointer = Endpointer(sample_rate=RATE)
    size = endpointer.frame_bytes
    spoken = bytearray()
    for position in range(0, len(samples) - size, size):
        spoken += endpointer.process(samples[position : position + size]) or b""
        if spoken and not endpointer.in_speech:
            yield endpointer.speech_start, bytes(spoken)
            spoken.clear()
    spoken += endpointer.end_stream(samples[len(samples) - len(samples) % size or -size :]) or b""
    if spoken:
        yield endpointer.speech_start, bytes(spoken)


def _samples(frames: list[av.AudioFrame]) -> bytes:
    return b"".join(bytes(one.planes[0])[: one.samples * _SAMPLE_BYTES] for one in frames)
