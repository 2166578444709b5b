"""The files that provide the picture and the sound of the room. The demo checks the files before it starts
anything.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from app.integrations.storage.presigned_urls import MAX_PUT_BYTES
from app.media.probe import Container, MediaInfo, MediaRefused, probe

_CHUNK_BYTES = 1024 * 1024


class BadFile(Exception):  # noqa: N818 - it reads as what happened
    """The demo cannot use one of the given media files. The exception's message names the file and the reason."""


@dataclass(frozen=True)
class Digest:
    """The size and digest of a file."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Sources:
    """The demo's media files: the MP4 that a recording must equal, and the Ogg whose channels are the sounds of the
    microphones.
    """

    media: Path
    audio: Path


async def require_playable(sources: Sources) -> MediaInfo:
    """Return the properties of the demo's sound file. The function refuses each file that the worker would refuse
    when it verifies a recording.

    The function opens the video and the sound file in the same way as the worker opens a recording. Raises BadFile.
    """
    await _opened(sources.media, "mp4", "an MP4")
    sound = await _opened(sources.audio, "ogg", "an Ogg")
    if not sound.has_audio:
        raise BadFile(f"{sources.audio} holds no sound")
    return sound


async def digest_of(path: Path) -> Digest:
    """Read the file once in blocks, and return its digest."""
    return await asyncio.to_thread(_digest, path)


async def pieces_of(path: Path) -> AsyncIterator[bytes]:
    """Yield the content of the file for an upload, without loading all of it."""
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while piece := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield piece


async def _opened(path: Path, container: Container, kind: str) -> MediaInfo:
    async def read(start: int, length: int) -> bytes:
        return await asyncio.to_thread(_read, path, start, length)

    try:
        size_bytes = (await asyncio.to_thread(path.stat)).st_size
        if size_bytes > MAX_PUT_BYTES:
            raise BadFile(f"{path} is larger than the {MAX_PUT_BYTES:,} bytes of one upload")
        return await probe(read, size_bytes, container)
    except (OSError, MediaRefused) as error:
        raise BadFile(f"{path} is not {kind} file that can be read") from error


def _digest(path: Path) -> Digest:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Digest(file.tell(), sha256)


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)
