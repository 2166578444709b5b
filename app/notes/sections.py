"""Writes sections of note drafts again in the worker, with the language service.

The worker stores each answer, encrypted, when it arrives, so no answer is paid for twice. The doctor's other sections
stay as they are. No text is in a log or an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import anyio.to_thread

from app.errors import AppError, Conflict
from app.insights.drafts import Section
from app.insights.insights_format import StoredAnswer, format_answer, parse_answer
from app.insights.model import Line
from app.insights.paid_requests import (
    OVERTAKEN,
    OVERTAKEN_PAUSE_SECONDS,
    ROUNDS,
    UNCHARGED,
    is_charged,
    is_temporary,
)
from app.insights.writing.answers import read_answer
from app.insights.writing.requests import repair_request, section_requests
from app.integrations.language.port import (
    Language,
    LanguageRequest,
    LanguageUsage,
    reported_usage,
)
from app.keys.keyring import Field, FieldKey, Keyring
from app.notes import section_store as store
from app.notes.editing import replace_section
from app.notes.encryption import DecryptedDraft, decrypt_draft, encrypt_draft
from app.notes.model import Draft, Writer
from app.notes.section_store import BegunSection, Request
from app.postgres.database import Database
from app.transcripts.model import Turn

REASON: Final = "write_note_section"
UNUSABLE: Final = "insights_unusable"
"""The reason if the second answer has errors, too."""


class _UnusableError(Exception):
    """Both answers for a part had errors."""


@dataclass(frozen=True)
class _Answered:
    """The lines of the section in one part, and the model that wrote them."""

    lines: Sequence[Line] = field(repr=False)
    writer: Writer


@dataclass(frozen=True)
class _Work:
    """A section that is being written."""

    recording_id: UUID
    begun: BegunSection
    turns: Sequence[Turn] = field(repr=False)
    key: FieldKey = field(repr=False)

    def request(self, part: int, round_number: int) -> Request:
        return Request(self.recording_id, self.begun.section, part, round_number)

    def stored_answer(self, one: Request) -> StoredAnswer | None:
        ciphertext = self.begun.answers.get((one.part, one.round))
        return None if ciphertext is None else parse_answer(self.key.decrypt(answer_field(one), ciphertext))


class NoteSectionWriter:
    """The service that writes sections for a worker's job; the job is safe to repeat."""

    def __init__(self, database: Database, language: Language | None, keyring: Keyring) -> None:
        self._database = database
        self._language = language
        self._keyring = keyring

    async def write(self, recording_id: UUID) -> None:
        """Write every section of the recording's draft that the doctor asked for, or as many as the language service
        writes now. A temporary error is raised, so that the job queue retries the job. A permanent error ends the
        section with a reason that the doctor sees.

        Raises UpstreamFailed, Timeout, RateLimited, Conflict (insights_overtaken, concurrent_change).
        """
        while True:
            async with self._database.as_service(REASON) as tx:
                begun = await store.begin(tx, recording_id)
            if begun is None:
                return
            try:
                if not await self._write(recording_id, begun):
                    return
            except _UnusableError:
                await self._fail(recording_id, begun.section, UNUSABLE)
            except AppError as error:
                if error.reason == OVERTAKEN:
                    raise Conflict(OVERTAKEN, retry_after_seconds=OVERTAKEN_PAUSE_SECONDS) from None
                if is_temporary(error):
                    raise
                await self._fail(recording_id, begun.section, error.reason)

    async def give_up(self, recording_id: UUID, reason: str) -> None:
        """End all sections of the recording with a reason that the doctor sees, unless another worker writes them."""
        if reason != OVERTAKEN:
            await self._fail(recording_id, None, reason)

    async def resume(self) -> None:
        """Queue a job for each recording with an unfinished section and without a job."""
        async with self._database.as_service("resume_note_sections") as tx:
            await store.resume(tx)

    async def _fail(self, recording_id: UUID, section: Section | None, reason: str) -> None:
        async with self._database.as_service(REASON) as tx:
            await store.fail(tx, recording_id, section, reason, is_useless=reason == UNUSABLE)

    async def _write(self, recording_id: UUID, begun: BegunSection) -> bool:
        """Write the section. Return False if it may not be written now."""
        language = self._language
        if language is None:
            raise Conflict("language_not_configured")
        before = await anyio.to_thread.run_sync(decrypt_draft, self._keyring, begun.encrypted)
        work = _Work(recording_id, begun, before.turns, before.key)
        lines: list[Line] = []
        writer = Writer(language.vendor, language.model)
        for part, request in enumerate(section_requests(work.turns, begun.language, begun.section)):
            answered = await self._ask(work, part, request, language)
            if answered is None:
                return False
            lines += answered.lines
            writer = answered.writer
        return await self._store(work, lines, writer)

    async def _ask(
        self, work: _Work, part: int, request: LanguageRequest, language: Language
    ) -> _Answered | None:
        """Return the lines of the section in a part. An answer with errors gets one repair round, which names them.
        Return None if the section may not be written now. Raises _UnusableError.
        """
        asked = request
        for round_number in ROUNDS:
            one = work.request(part, round_number)
            answer = work.stored_answer(one) or await self._send(work, one, asked, language)
            if answer is None:
                return None
            read = await anyio.to_thread.run_sync(read_answer, answer.text, work.turns, work.begun.language)
            if read.insights is not None:
                lines = dict(read.insights.note.sections)[work.begun.section]
                return _Answered(lines, Writer(answer.vendor, answer.model))
            asked = repair_request(request, answer.text, read.errors)
        raise _UnusableError

    async def _send(
        self, work: _Work, one: Request, request: LanguageRequest, language: Language
    ) -> StoredAnswer | None:
        """Send a request, and return its answer after it is stored. Return None if the request may not be sent now."""
        async with self._database.as_service(REASON) as tx:
            is_wanted = await store.count_request(tx, one, work.begun.run, is_charged=is_charged(language))
        if is_wanted is None:
            return None
        if not is_wanted:
            raise Conflict("concurrent_change")
        try:
            written = await language.write(request)
        except AppError as error:
            usage = reported_usage(error)
            if error.reason != "language_nonsense":
                await self._count_failure(one, error, usage)
                raise
            answer = StoredAnswer("", language.vendor, language.model)
        else:
            usage = written.usage
            answer = StoredAnswer(written.text, usage.vendor, usage.model)
        ciphertext = work.key.encrypt(answer_field(one), format_answer(answer))
        async with self._database.as_service(REASON) as tx:
            await store.store_answer(tx, one, ciphertext)
            if usage is not None:
                await store.count_tokens(tx, one.recording_id, usage)
        return answer

    async def _count_failure(self, one: Request, error: AppError, usage: LanguageUsage | None) -> None:
        """Count what a failed answer used. If the error is permanent, end the section in the same transaction."""
        async with self._database.as_service(REASON) as tx:
            if error.reason in UNCHARGED:
                await store.take_back_request(tx, one)
            if not is_temporary(error):
                await store.fail(tx, one.recording_id, one.section, error.reason)
            if usage is not None:
                await store.count_tokens(tx, one.recording_id, usage)

    async def _store(self, work: _Work, lines: Sequence[Line], writer: Writer) -> bool:
        """Replace the section in the present draft, whose other sections the doctor may have edited meanwhile."""
        section, recording_id = work.begun.section, work.recording_id
        async with self._database.as_service(REASON) as tx:
            encrypted = await store.reopen(tx, recording_id, section)
            if encrypted is None:
                return False
            now = await anyio.to_thread.run_sync(decrypt_draft, self._keyring, encrypted)
            after = await anyio.to_thread.run_sync(_replace, now, section, lines, writer)
            ciphertext = encrypt_draft(now.key, recording_id, encrypted.version + 1, after)
            if not await store.finish(tx, recording_id, section, encrypted.version, ciphertext):
                raise Conflict("concurrent_change")
        return True


def answer_field(one: Request) -> Field:
    """Return the table, row and column in which the answer to a request is stored."""
    row = f"{one.recording_id}:{one.section.value}:{one.part}:{one.round}"
    return Field("note_section_answers", row, "ciphertext", key_id=str(one.recording_id))


def _replace(now: DecryptedDraft, section: Section, lines: Sequence[Line], writer: Writer) -> Draft:
    return replace_section(now.draft, section, lines, now.checker, writer=writer)
