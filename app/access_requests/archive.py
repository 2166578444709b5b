"""Composes the files of the encrypted copy for an access request.

The archive stores media files without compression, because they are compressed already. File names contain only
dates, ids and the kinds of participants (doctor, patient, guest), because everyone can read the file names of the
archive without the secret. This module accesses neither the bucket nor the database.
"""

import hashlib
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable
from pathlib import PurePosixPath
from typing import Final
from uuid import UUID

from app import encrypted_zip
from app.access_requests.model import ExportedFile, ExportedText, ExportPlan
from app.encrypted_zip import ArchiveFile, yield_once
from app.errors import Conflict
from app.texts import LANGUAGES, access_request_words, redisclosure_notice

README: Final = "README.txt"
MANIFEST: Final = "manifest.json"
Read = Callable[[ExportedFile], AsyncIterable[bytes]]


def compose_file_name(file: ExportedFile) -> str:
    """Return the name of a file in the archive: the recording date, the video's id and the file's kind, such as
    `2026-11-20_<id>_video.mp4`.

    For a microphone, the kind in the name includes the kind of the participant: `microphone-patient`. The second
    file of the same kind has the number 2: `microphone-patient-2`.
    """
    kind = "-".join(word.lower() for word in (file.medium, file.participant_kind) if word is not None)
    if file.number > 1:
        kind = f"{kind}-{file.number}"
    return f"{file.recorded_at.date().isoformat()}_{file.video_id}_{kind}{PurePosixPath(file.recording_key).suffix}"


def compose_text_name(text: ExportedText) -> str:
    """Return the name of a text in the archive, such as `2026-11-20_<id>_session-notes.json`."""
    return f"{text.recorded_at.date().isoformat()}_{text.recording_id}_{text.kind}"


def stream_archive(request_id: UUID, plan: ExportPlan, read: Read, *, secret: str) -> AsyncIterable[bytes]:
    """Yield the archive in chunks. The archive contains the read-me, then each file, and then the manifest.

    Raises Conflict (export_mismatch) if a file differs from its stored digest. An exception that `read` raises
    reaches the caller. If an exception ends the iteration, the chunks already yielded do not form a valid archive.
    The modification date of every file in the archive is the plan's `made_at`, in UTC. The date of the recording is
    in the file's name.
    """
    files = _yield_files(request_id, plan, read)
    return encrypted_zip.stream_archive(files, made_at=plan.made_at, secret=secret)


async def _yield_files(request_id: UUID, plan: ExportPlan, read: Read) -> AsyncIterator[ArchiveFile]:
    yield ArchiveFile(README, yield_once(_compose_readme(plan).encode()))
    for file in plan.files:
        yield ArchiveFile(compose_file_name(file), _read_checked(file, read))
    for text in (*plan.texts, *plan.signed_notes):
        yield ArchiveFile(compose_text_name(text), yield_once(text.content))
    yield ArchiveFile(MANIFEST, yield_once(_compose_manifest(request_id, plan).encode()))


def _compose_readme(plan: ExportPlan) -> str:
    """Return the text of the read-me, in English and then in Spanish. The read-me names each omitted recording by its
    id. The read-me contains the notice against redisclosure. A file of its own would not do, because everyone can read
    the names of the files, and the name of the notice would reveal the subject of the recordings.
    """
    parts: list[str] = []
    for language in LANGUAGES:
        words = access_request_words(language)
        parts.append(words["readme"])
        for left_out, paragraph in ((plan.missing, "readme_missing"), (plan.not_whole, "readme_not_whole")):
            if left_out:
                parts.append("\n".join((words[paragraph], *map(str, left_out))))
        if plan.uncopied:
            parts.append(words["readme_not_copied"])
        if plan.has_notice:
            parts.append(redisclosure_notice(language))
    return "\n\n".join(parts)


async def _read_checked(file: ExportedFile, read: Read) -> AsyncIterator[bytes]:
    digest, size = hashlib.sha256(), 0
    async for chunk in read(file):
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if (size, digest.hexdigest()) != (file.size_bytes, file.sha256):
        raise Conflict("export_mismatch", recording_id=str(file.recording_id))


def _compose_manifest(request_id: UUID, plan: ExportPlan) -> str:
    """Return the manifest. Each digest in the manifest comes from the database, and the file was compared with the
    digest while it was read.
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
    texts = [
        {
            "name": compose_text_name(text),
            "recordingId": str(text.recording_id),
            "participant": None,
            "recordedAt": text.recorded_at.isoformat(),
            "sizeBytes": len(text.content),
            "sha256": hashlib.sha256(text.content).hexdigest(),
        }
        for text in (*plan.texts, *plan.signed_notes)
    ]
    manifest = {
        "requestId": str(request_id),
        "madeAt": plan.made_at.isoformat(),
        "files": [*files, *texts],
        "missing": [str(recording_id) for recording_id in plan.missing],
        "notWhole": [str(recording_id) for recording_id in plan.not_whole],
        "notCopied": [{"recordingId": str(one.recording_id), "kind": one.kind} for one in plan.uncopied],
    }
    return json.dumps(manifest, indent=2)


def _describe_participant(file: ExportedFile) -> dict[str, str | None] | None:
    if file.participant_id is None:
        return None
    return {"id": str(file.participant_id), "kind": file.participant_kind, "guestRole": file.guest_role}
