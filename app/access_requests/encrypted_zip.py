"""Writes the encrypted copy: a ZIP with WinZip's AES-256 (AE-2), streamed with one chunk in memory.

The archive stores media files without compression, because they are compressed already. File names contain only
dates, ids and the kinds of participants (doctor, patient, guest), because everyone can read the file names of the
archive without the secret. This module uses neither the bucket nor the database.
"""

import hashlib
import json
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Callable
from pathlib import PurePosixPath
from typing import Final
from uuid import UUID

from stream_zip import ZIP_64, AsyncMemberFile, async_stream_zip

from app.access_requests.model import ExportedFile, ExportPlan
from app.errors import Conflict
from app.texts import LANGUAGES, access_request_words

README: Final = "README.txt"
MANIFEST: Final = "manifest.json"
CHUNK_BYTES: Final = 1024 * 1024
_MODE: Final = 0o100444
Read = Callable[[ExportedFile], AsyncIterable[bytes]]


def compose_file_name(file: ExportedFile) -> str:
    """Return the name of a file: recording date, video id and kind, such as `2026-11-20_<id>_video.mp4`.

    For a microphone, the kind in the name includes the kind of the participant, and a number from the second file
    on: `microphone-patient`, `microphone-patient-2`.
    """
    kind = "-".join(word.lower() for word in (file.medium, file.participant_kind) if word is not None)
    if file.number > 1:
        kind = f"{kind}-{file.number}"
    return f"{file.recorded_at.date().isoformat()}_{file.video_id}_{kind}{PurePosixPath(file.recording_key).suffix}"


def stream_archive(request_id: UUID, plan: ExportPlan, read: Read, *, secret: str) -> AsyncIterable[bytes]:
    """Yield the archive in chunks of `CHUNK_BYTES`: the read-me, each file, and the manifest at the end.

    Raises Conflict (export_mismatch) if a file differs from its stored digest. An exception of `read` is not
    caught. After an exception, the chunks yielded so far are not a valid archive. Every file in the archive has the
    date `made_at` of the plan, in UTC. The recording dates are in the file names.
    """
    return async_stream_zip(
        _yield_members(request_id, plan, read),
        chunk_size=CHUNK_BYTES,
        get_compressobj=_make_stored_compressor,
        extended_timestamps=False,
        password=secret,
    )


def _make_stored_compressor() -> "zlib._Compress":
    """Return a Deflate object that does not compress. The method "stored" of stream-zip needs the CRC of a file
    before its first byte (stream-zip 0.0.84, checked 2026-11-21).
    """
    return zlib.compressobj(level=0, wbits=-zlib.MAX_WBITS)


async def _yield_members(request_id: UUID, plan: ExportPlan, read: Read) -> AsyncIterator[AsyncMemberFile]:
    yield README, plan.made_at, _MODE, ZIP_64, _yield_text(_compose_readme(plan))
    for file in plan.files:
        yield compose_file_name(file), plan.made_at, _MODE, ZIP_64, _read_checked(file, read)
    yield MANIFEST, plan.made_at, _MODE, ZIP_64, _yield_text(_compose_manifest(request_id, plan))


def _compose_readme(plan: ExportPlan) -> str:
    """Return the read-me in each language. The read-me names each omitted recording by its id."""
    parts: list[str] = []
    for language in LANGUAGES:
        words = access_request_words(language)
        parts.append(words["readme"])
        for left_out, paragraph in ((plan.missing, "readme_missing"), (plan.not_whole, "readme_not_whole")):
            if left_out:
                parts.append("\n".join((words[paragraph], *map(str, left_out))))
    return "\n\n".join(parts)


async def _read_checked(file: ExportedFile, read: Read) -> AsyncIterator[bytes]:
    digest, size = hashlib.sha256(), 0
    async for chunk in read(file):
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if (size, digest.hexdigest()) != (file.size_bytes, file.sha256):
        raise Conflict("export_mismatch", recordingId=str(file.recording_id))


def _compose_manifest(request_id: UUID, plan: ExportPlan) -> str:
    """Return the manifest. Each digest in the manifest is the stored digest of a file, with which the file was
    compared while it was read.
    """
    files = [
        {
            "name": compose_file_name(file),
            "recordingId": str(file.recording_id),
            "participant": _describe_participant(file),
            "recordedAt": file.recorded_at.isoformat(),
            "sizeBytes": file.size_bytes,
            "sha256": file.sha256,
        }
        for file in plan.files
    ]
    manifest = {
        "requestId": str(request_id),
        "madeAt": plan.made_at.isoformat(),
        "files": files,
        "missing": [str(recording_id) for recording_id in plan.missing],
        "notWhole": [str(recording_id) for recording_id in plan.not_whole],
    }
    return json.dumps(manifest, indent=2)


def _describe_participant(file: ExportedFile) -> dict[str, str | None] | None:
    if file.participant_id is None:
        return None
    return {"id": str(file.participant_id), "kind": file.participant_kind, "guestRole": file.guest_role}


async def _yield_text(text: str) -> AsyncIterator[bytes]:
    yield text.encode()
