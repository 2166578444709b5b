"""Answers a doctor's question about one transcript with lines that cite the transcript.

The API process asks the language service itself, because the doctor waits for the answer. No transaction is open
meanwhile. The question is in clear only in memory: it is neither stored nor logged, and the audit row does not name it.

A question takes up to three transactions. The first writes the audit row, returns the encrypted transcript, and checks
the consents and the budget. The second counts the tokens of the answer, and stores the encrypted answer for a repeated
call. The last checks that the doctor may still see the answer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid4

import anyio.to_thread

from app.concurrency import Bounds, ConcurrencyLimit
from app.errors import AppError, Conflict, InvalidInput, NotFound, Timeout
from app.idempotency.service import RepeatableCall
from app.identity import permissions
from app.insights.asking import store
from app.insights.asking.store import QuestionRow
from app.insights.flags.checker import flag_lines
from app.insights.insights_format import StoredAnswer, format_answer, parse_answer
from app.insights.model import FlaggedLine
from app.insights.writing.asking import (
    MAX_QUESTION_CHARACTERS,
    question_request,
    read_question_answer,
)
from app.insights.writing.coverage import Coverage, measure_coverage
from app.insights.writing.requests import repair_request
from app.integrations.language.port import (
    EXTRACT_VENDOR,
    AnswerUnusable,
    Language,
    LanguageAnswer,
    LanguageRequest,
    LanguageUsage,
    reported_usage,
)
from app.keys.keyring import Keyring
from app.postgres.composer import Row
from app.postgres.database import Access, Asker, Database
from app.postgres.selection import Selection
from app.texts.unsafe_characters import has_unsafe_characters, remove_unsafe_characters
from app.transcripts import encryption
from app.transcripts import service as transcripts
from app.transcripts.model import Transcript, Turn

REQUEST_SECONDS: Final = 60
"""The time limit of a request to the language service. Two requests end before `store.LEASE_SECONDS`."""
NO_LINES: Final = '{"answer":[]}'
"""The answer that the transcript has no answer, in the schema of `question_request`."""
_BOUNDS: Final = Bounds(running=16, running_per_key=2, waiting=32, waiting_per_key=4)


class AnswerStatus(StrEnum):
    """Whether an answer was found in the transcript. An answer that was not found may still have been said."""

    ANSWERED = "ANSWERED"
    NOT_FOUND_IN_TRANSCRIPT = "NOT_FOUND_IN_TRANSCRIPT"


@dataclass(frozen=True)
class TranscriptAnswer:
    """The answer to a question. It has no line if no answer was found.

    `turns` has the turns of the transcript, for the times of the citations. `coverage` is None if it is not selected.
    `dropped_count` counts the lines of the service that were left out, because their quotes are not in the transcript.
    """

    lines: tuple[FlaggedLine, ...]
    turns: tuple[Turn, ...] = field(repr=False)
    coverage: Coverage | None
    dropped_count: int
    vendor: str
    model: str

    @property
    def status(self) -> AnswerStatus:
        """Return whether the answer has a line."""
        return AnswerStatus.ANSWERED if self.lines else AnswerStatus.NOT_FOUND_IN_TRANSCRIPT


@dataclass(frozen=True)
class _Opened:
    """A question with its encrypted transcript. `row` is None if the client sent no idempotency key. Either `answer`
    is the encrypted answer of the first call with the key, or `language` is the service to ask.
    """

    transcript: transcripts.OpenedTranscript
    row: QuestionRow | None
    answer: bytes | None = field(repr=False)
    language: Language | None

    @property
    def recording_id(self) -> UUID:
        """Return the id of the recording."""
        return self.transcript.encrypted.recording_id


class Asking:
    """The service that answers questions about transcripts."""

    def __init__(self, database: Database, keyring: Keyring, language: Language | None) -> None:
        self._database = database
        self._keyring = keyring
        self._language = language
        self._asking = ConcurrencyLimit("too_many_at_once", _BOUNDS)

    async def ask(
        self,
        asker: Asker,
        recording_id: UUID,
        question: str,
        selection: Selection,
        *,
        idempotency_key: str | None = None,
    ) -> TranscriptAnswer:
        """Return the answer. A repeated call with the same `idempotency_key` returns the first answer for 24 hours, and
        sends nothing to the language service.

        Raises InvalidInput (question_empty, question_too_long, question_characters, bad_idempotency_key) before it
        reads anything. Raises NotFound (transcript_not_found), Conflict (recording_being_deleted, recording_deleted,
        insights_switched_off, insights_consent_withdrawn, insights_consent_text, language_not_configured,
        question_running, idempotency_key_reused), RateLimited (quota_questions, language_budget_used_up,
        too_many_at_once, server_busy), and the errors of `Language.write`. If a doctor has corrected the transcript
        since the first call, a repeated call can raise Conflict (transcript_changed).
        """
        words = check_question(question)
        call = RepeatableCall("askTranscript", idempotency_key, recording_id, words)
        access = permissions.ASK_TRANSCRIPT.on(recording_id)
        async with self._asking.slot(asker.person):
            opened = await self._open(asker, access, recording_id, call, selection)
            read = await anyio.to_thread.run_sync(
                encryption.read_transcript, self._keyring, opened.transcript.encrypted
            )
            if opened.language is None:
                answer = self._decrypt(opened)
            else:
                answer = await self._request(opened.language, opened, read.transcript, words)
            async with self._database.as_user(asker, access) as tx:
                await store.require_shown(tx, recording_id)
        return await anyio.to_thread.run_sync(self._read, opened, read.transcript, answer)

    async def _open(
        self, asker: Asker, access: Access, recording_id: UUID, call: RepeatableCall, selection: Selection
    ) -> _Opened:
        """Write the audit row, and return the encrypted transcript, and the encrypted answer of an earlier call with
        the same key.
        """
        row, answer, language = None, None, None
        async with self._database.as_user(asker, access) as tx:
            transcript = await transcripts.open_transcript(tx, access.action, recording_id, selection)
            if transcript is None:
                raise NotFound("transcript_not_found")
            if call.has_key:
                row = QuestionRow(await call.claim(tx) or uuid4(), recording_id)
                answer = await store.begin(tx, row)
                await call.settle(tx, row.id)
            if answer is None:
                if self._language is None:
                    raise Conflict("language_not_configured")
                language = self._language
                await store.require_allowed(tx, recording_id, uses_budget=language.vendor != EXTRACT_VENDOR)
        return _Opened(transcript, row, answer, language)

    async def _request(
        self, language: Language, opened: _Opened, transcript: Transcript, question: str
    ) -> StoredAnswer:
        """Ask the language service, count the tokens of its answer, and store the answer. If no turn can have an
        answer, nothing is asked.
        """
        try:
            written = await self._write(language, opened.recording_id, transcript, question)
        except AppError as error:
            await self._end(opened.recording_id, opened.row, None, reported_usage(error))
            raise
        if written is None:
            await self._end(opened.recording_id, opened.row, None, None)
            return StoredAnswer(NO_LINES, language.vendor, language.model)
        answer = StoredAnswer(written.text, written.usage.vendor, written.usage.model)
        ciphertext = None if opened.row is None else self._encrypt(opened, opened.row, answer)
        await self._end(opened.recording_id, opened.row, ciphertext, written.usage)
        return answer

    async def _write(
        self, language: Language, recording_id: UUID, transcript: Transcript, question: str
    ) -> LanguageAnswer | None:
        """Return the language service's answer. If the first answer is malformed, ask once more with its errors. Return
        None if no turn can have an answer.
        """
        turns = transcript.turns
        request = await anyio.to_thread.run_sync(question_request, turns, question, transcript.language)
        if request is None:
            return None
        first, errors = await _write_once(language, request, turns)
        if not errors:
            return first
        await self._end(recording_id, None, None, first.usage)
        second, errors = await _write_once(language, repair_request(request, first.text, errors), turns)
        if errors:
            raise AnswerUnusable("language_nonsense", second.usage)
        return second

    async def _end(
        self,
        recording_id: UUID,
        row: QuestionRow | None,
        answer: bytes | None,
        usage: LanguageUsage | None,
    ) -> None:
        """Count the tokens, and store the answer, or let the next call with the same key ask again."""
        if row is None and usage is None:
            return
        async with self._database.as_service("ask_transcript") as tx:
            await store.end(tx, recording_id, row, answer, usage)

    def _encrypt(self, opened: _Opened, row: QuestionRow, answer: StoredAnswer) -> bytes:
        encrypted = opened.transcript.encrypted
        key = self._keyring.unwrap(encrypted.wrapped, encrypted.root_key_id)
        return key.encrypt(row.field, format_answer(answer))

    def _decrypt(self, opened: _Opened) -> StoredAnswer:
        assert opened.row is not None  # noqa: S101 - only a question with a row has a stored answer
        assert opened.answer is not None  # noqa: S101 - otherwise there is a service to ask
        encrypted = opened.transcript.encrypted
        key = self._keyring.unwrap(encrypted.wrapped, encrypted.root_key_id)
        return parse_answer(key.decrypt(opened.row.field, opened.answer))

    def _read(self, opened: _Opened, transcript: Transcript, answer: StoredAnswer) -> TranscriptAnswer:
        turns = transcript.turns
        read = read_question_answer(answer.text, turns)
        if read.errors:  # the answer had none, so the transcript was corrected since
            raise Conflict("transcript_changed")
        recorded = opened.transcript.metadata.get("coverage")
        return TranscriptAnswer(
            lines=flag_lines(read.lines, turns),
            turns=turns,
            coverage=None if recorded is None else _measure_coverage(recorded, turns),
            dropped_count=read.dropped_count,
            vendor=answer.vendor,
            model=answer.model,
        )


async def _write_once(
    language: Language, request: LanguageRequest, turns: Sequence[Turn]
) -> tuple[LanguageAnswer, tuple[str, ...]]:
    """Return the language service's answer and its errors."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS) as deadline:
            answer = await language.write(request)
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise Timeout("language_timeout") from error
    read = await anyio.to_thread.run_sync(read_question_answer, answer.text, turns)
    return answer, read.errors


def _measure_coverage(recorded: Row, turns: Sequence[Turn]) -> Coverage:
    duration_seconds = recorded["duration_seconds"]
    return measure_coverage(
        turns,
        duration_ms=None if duration_seconds is None else round(1000 * duration_seconds),
        is_truncated=recorded["is_truncated"],
        is_interrupted=recorded["is_interrupted"],
        unused_track_count=recorded["unused_track_count"],
    )


def check_question(question: str) -> str:
    """Return the question in NFC, with single spaces between words.

    Raises InvalidInput (question_too_long, question_characters, question_empty).
    """
    if has_unsafe_characters(question):
        raise InvalidInput("question_characters")
    words = remove_unsafe_characters(question)
    if max(len(question), len(words)) > MAX_QUESTION_CHARACTERS:
        raise InvalidInput("question_too_long", maximum=MAX_QUESTION_CHARACTERS)
    if not any(map(str.isalnum, words)):
        raise InvalidInput("question_empty")
    return words
