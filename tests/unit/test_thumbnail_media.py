"""Tests which picture of a video becomes its thumbnail, with the real child process."""

import io
import math
from collections.abc import Callable
from fractions import Fraction

import av
import pytest
from av.video.frame import VideoFrame

from app.media.child_process import MediaRefused
from app.media.thumbnails import MOST_BYTES, Limits, make_thumbnail
from tests.unit.marked_media import make_marked

pytestmark = pytest.mark.anyio

WIDTH, HEIGHT, FPS = 320, 240, 10
Luminance = Callable[[int, int, float], float]


def scene(x: int, y: int, _second: float) -> float:
    """Return the luminance of a picture with large shapes."""
    return 60 + 60 * math.sin(x / 25) + 40 * math.cos(y / 30) + 40


def other_scene(x: int, y: int, _second: float) -> float:
    """Return the luminance of another picture."""
    return 120 + 80 * math.sin((x + 2 * y) / 19)


def moving(x: int, y: int, second: float) -> float:
    """Return the luminance of a picture in which a head moves before a wall."""
    at = WIDTH / 2 + 40 * math.sin(4 * second)
    return 40 + 20 * math.sin(y / 9) if abs(x - at) < 50 and y > 60 else scene(x, y, second)


def make_video(seconds: int, luminance: Luminance, *, key_frame_every: int = 20) -> bytes:
    """Return an MP4 of these pictures without sound. The luminance is at least 16 and at most 235."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as media:
        options = {"preset": "ultrafast", "g": str(key_frame_every), "keyint_min": "1", "sc_threshold": "0"}
        video = media.add_stream("libx264", rate=FPS, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(seconds * FPS):
            second = number / FPS
            picture = VideoFrame(WIDTH, HEIGHT, "yuv420p")
            luma, *chroma = picture.planes
            rows = []
            for y in range(0, HEIGHT, 8):
                row = bytes(
                    min(235, max(16, round(luminance(x // 8 * 8, y, second)))) for x in range(WIDTH)
                ) + bytes(luma.line_size - WIDTH)
                rows.append(row * 8)
            luma.update(b"".join(rows))
            for plane in chroma:
                plane.update(b"\x80" * plane.buffer_size)
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            media.mux(video.encode(picture))
        media.mux(video.encode(None))
    return file.getvalue()


async def thumbnail(content: bytes, seconds: float, **limits: int) -> bytes | None:
    async def read(start: int, length: int) -> bytes:
        return content[start : start + length]

    return await make_thumbnail(read, len(content), "mp4", seconds, limits=Limits(**limits))


def read_jpeg(jpeg: bytes) -> VideoFrame:
    with av.open(io.BytesIO(jpeg), "r", format="jpeg_pipe") as media:
        return next(media.decode(video=0))


def mean(frame: VideoFrame) -> float:
    plane = frame.reformat(32, 18, format="gray").planes[0]
    content = b"".join(bytes(plane)[row * plane.line_size :][:32] for row in range(18))
    return sum(content) / len(content)


def fade(second: float, begin: float, end: float) -> float:
    return min(1.0, max(0.0, (second - begin) / (end - begin)))


async def test_thumbnail_is_a_small_jpeg_in_the_shape_of_the_video() -> None:
    jpeg = await thumbnail(make_video(6, scene), 6)
    assert jpeg is not None
    assert len(jpeg) <= MOST_BYTES
    found = read_jpeg(jpeg)
    assert (found.width, found.height) == (240, 180)
    assert b"Lavc" not in jpeg
    assert b"Exif" not in jpeg


@pytest.mark.parametrize("light", [16, 24, 128, 235])
async def test_video_of_one_colour_has_no_thumbnail(light: int) -> None:
    assert await thumbnail(make_video(4, lambda _x, _y, _second: light), 4) is None


@pytest.mark.parametrize("dark", [16, 235])
async def test_video_that_fades_all_the_time_has_no_thumbnail(dark: int) -> None:
    def fading(x: int, y: int, second: float) -> float:
        return dark + (scene(x, y, second) - dark) * fade(second, 0, 8)

    assert await thumbnail(make_video(8, fading), 8) is None


async def test_video_that_fades_from_one_scene_to_another_has_no_thumbnail() -> None:
    def fading(x: int, y: int, second: float) -> float:
        share = fade(second, 0, 6)
        return scene(x, y, second) * (1 - share) + other_scene(x, y, second) * share

    assert await thumbnail(make_video(6, fading), 6) is None


@pytest.mark.parametrize("key_frame_every", [5, 20, 1000])
async def test_picture_is_chosen_outside_black_parts_and_fades(key_frame_every: int) -> None:
    def framed(x: int, y: int, second: float) -> float:
        return 16 + (scene(x, y, second) - 16) * min(fade(second, 3, 5), 1 - fade(second, 7, 8))

    jpeg = await thumbnail(make_video(10, framed, key_frame_every=key_frame_every), 10)
    assert jpeg is not None
    whole = await thumbnail(make_video(2, scene), 2)
    assert whole is not None
    assert mean(read_jpeg(jpeg)) == pytest.approx(mean(read_jpeg(whole)), abs=3)


async def test_movement_is_no_fade() -> None:
    assert await thumbnail(make_video(6, moving), 6) is not None
    assert await thumbnail(make_marked(4), 4) is not None


async def test_video_of_one_picture_has_a_thumbnail() -> None:
    assert await thumbnail(make_video(1, scene, key_frame_every=1000), 0.0) is not None


async def test_file_without_video_and_file_that_is_none_are_refused() -> None:
    for content in (make_marked(1, has_video=False), b"\0\0\0\x18ftypmp42" + b"\0" * 5000, b"none"):
        with pytest.raises(MediaRefused):
            await thumbnail(content, 1)


async def test_too_slow_file_is_refused() -> None:
    with pytest.raises(MediaRefused, match="media_too_slow"):
        await thumbnail(make_marked(2), 2, read_bytes=0)


async def test_few_blocks_of_a_large_file_are_read() -> None:
    video = make_video(20, scene)
    padding = 64 * 1024**2
    content = video + padding.to_bytes(4, "big") + b"free" + bytes(padding - 8)
    read = 0

    async def read_range(start: int, length: int) -> bytes:
        nonlocal read
        read += length
        return content[start : start + length]

    assert await make_thumbnail(read_range, len(content), "mp4", 20) is not None
    assert read <= 8 * 1024**2
