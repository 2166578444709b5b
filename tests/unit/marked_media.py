"""Makes small videos with marked pictures and sounds, and reads the marks of a clip.

Each picture shows its number as eight light or dark stripes, and each second has a tone of its own.
"""

import io
import math
from array import array
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

WIDTH, HEIGHT, RATE = 160, 90, 48_000
_STRIPES = 8
_STRIPE = WIDTH // _STRIPES
_FRAME = 1024


def tone_of(second: int) -> int:
    """Return the frequency of a second, in Hz."""
    return 500 + 500 * second


def make_marked(
    seconds: int = 6,
    *,
    fps: int = 25,
    has_video: bool = True,
    has_audio: bool = True,
    key_frame_every: int = 50,
    light: int = 235,
) -> bytes:
    """Return an MP4 with H.264 pictures and an AAC sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as media:
        video = audio = None
        if has_video:
            options = {"preset": "ultrafast", "g": str(key_frame_every)}
            video = media.add_stream("libx264", rate=fps, options=options)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if has_audio:
            audio = media.add_stream("aac", rate=RATE, layout="mono")
        if video is not None:
            for number in range(seconds * fps):
                picture = _picture(number, light)
                picture.pts, picture.time_base = number, Fraction(1, fps)
                media.mux(video.encode(picture))
            media.mux(video.encode(None))
        if audio is not None:
            for start in range(0, seconds * RATE, _FRAME):
                media.mux(audio.encode(_sound(start, min(_FRAME, seconds * RATE - start))))
            media.mux(audio.encode(None))
    return file.getvalue()


def _picture(number: int, light: int) -> VideoFrame:
    picture = VideoFrame(WIDTH, HEIGHT, "yuv420p")
    row = b"".join(bytes([light if number >> bit & 1 else 16]) * _STRIPE for bit in range(_STRIPES))
    luma, *chroma = picture.planes
    luma.update(b"".join(row + bytes(luma.line_size - WIDTH) for _ in range(HEIGHT)))
    for plane in chroma:
        plane.update(b"\x80" * plane.buffer_size)
    return picture


def _sound(start: int, samples: int) -> AudioFrame:
    frame = AudioFrame(format="fltp", layout="mono", samples=samples)
    values = array(
        "f",
        (
            0.5 * math.sin(2 * math.pi * tone_of(at // RATE) * at / RATE)
            for at in range(start, start + samples)
        ),
    )
    content = values.tobytes()
    frame.planes[0].update(content + bytes(frame.planes[0].buffer_size - len(content)))
    frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
    return frame


@dataclass(frozen=True)
class Marks:
    """What a clip contains: the codecs, the time and the number of each picture, and its samples (one channel)."""

    codecs: tuple[str, ...]
    pictures: tuple[tuple[float, int], ...]
    sound_start: float
    samples: "array[float]"

    def share_of(self, frequency: int, start: int, end: int) -> float:
        """Return how much of the energy between two samples has the frequency (1 is all of it)."""
        some = self.samples[start:end]
        energy = sum(value * value for value in some) or 1e-12
        angle = 2 * math.pi * frequency / RATE
        real = sum(value * math.cos(angle * at) for at, value in enumerate(some))
        imaginary = sum(value * math.sin(angle * at) for at, value in enumerate(some))
        return float(2 * (real * real + imaginary * imaginary) / (len(some) * energy))


def read_marks(content: bytes) -> Marks:
    """Decode a clip."""
    with av.open(io.BytesIO(content), "r") as media:
        codecs = tuple(stream.codec_context.name for stream in media.streams)
        video = media.streams.video
        pictures = [
            (float(frame.time or 0), _number_of(frame)) for frame in (media.decode(video[0]) if video else ())
        ]
    samples, sound_start = array("f"), 0.0
    with av.open(io.BytesIO(content), "r") as media:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        for index, frame in enumerate(media.decode(audio=0) if media.streams.audio else ()):
            if index == 0:
                sound_start = float(frame.time or 0)
            for part in resampler.resample(frame):
                samples.frombytes(bytes(part.planes[0])[: part.samples * 4])
    return Marks(codecs, tuple(pictures), sound_start, samples)


def _number_of(frame: VideoFrame) -> int:
    grey = frame.reformat(WIDTH, HEIGHT, format="gray")
    plane = grey.planes[0]
    row = bytes(plane)[plane.line_size * (HEIGHT // 2) :]
    return sum(1 << bit for bit in range(_STRIPES) if row[bit * _STRIPE + _STRIPE // 2] > 128)
