"""Writes encrypted ZIP archives with WinZip's AES-256 (AE-2) as a stream, with one chunk at a time in memory, and makes
the secrets that open them. The archives for access requests and the exports of the audit log use this module.

Everyone who has an archive can read the names, the sizes and the dates of its files without the secret. A caller
therefore gives its files names without personal data.
"""

import secrets
import zlib
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stream_zip import ZIP_64, AsyncMemberFile, async_stream_zip

CHUNK_BYTES: Final = 1024 * 1024
_MODE: Final = 0o100444
_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_GROUPS, _GROUP_LENGTH = 5, 4


@dataclass(frozen=True)
class ArchiveFile:
    """One file of an archive: its name, and its content in chunks."""

    name: str
    content: AsyncIterable[bytes]


def stream_archive(
    files: AsyncIterable[ArchiveFile], *, made_at: datetime, secret: str, compression: int = 0
) -> AsyncIterable[bytes]:
    """Yield an encrypted archive of the files in chunks of `CHUNK_BYTES`.

    The modification date of every file in the archive is `made_at`, in UTC. `compression` is the level of Deflate,
    from 0 (no compression, for media files) to 9. An exception that `files` or the content of a file raises reaches
    the caller. If an exception ends the iteration, the chunks already yielded do not form a valid archive.
    """
    return async_stream_zip(
        _yield_members(files, made_at),
        chunk_size=CHUNK_BYTES,
        get_compressobj=lambda: zlib.compressobj(level=compression, wbits=-zlib.MAX_WBITS),
        extended_timestamps=False,
        password=secret,
    )


def new_secret() -> str:
    """Return a random secret of 100 bits: twenty letters and digits in groups of four. The secret contains no zero,
    one, O or I, which are easily confused.
    """
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS))


async def yield_once(content: bytes) -> AsyncIterator[bytes]:
    """Yield the content as one chunk."""
    yield content


async def _yield_members(
    files: AsyncIterable[ArchiveFile], made_at: datetime
) -> AsyncIterator[AsyncMemberFile]:
    async for file in files:
        # Stream-zip's own method "stored" cannot be used without compression, because it needs a file's CRC before the
        # file's first byte (stream-zip 0.0.84, checked 2026-11-21).
        yield file.name, made_at, _MODE, ZIP_64, file.content
