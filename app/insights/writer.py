"""Writes the insights into a recording in the worker: divides the transcript into parts, sends one request for each
part to the language service, and makes insights of the verified answers.

Each request is counted before it is sent, and each answer is stored, encrypted, before it is read. After a crash, the
worker therefore does not send a request again if its answer is stored. Text exists only in memory, and in no log and no
error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

import anyio.to_thread

from app.errors import AppError, Conflict
from app.insights import encryption, store
from app.insights.drafts import Insights
from app.insights.flags.checker import Checker
from app.insights.insights_format import (
    StoredAnswer,
    StoredInsights,
    format_answer,
    format_insights,
    parse_answer,
)
from app.insights.numbered import number_lines
from app.insights.paid_requests import (
    OVERTAKEN,
    OVERTAKEN_PAUSE_SECONDS,
    ROUNDS,
    UNCHARGED,
    is_charged,
    is_temporary,
)
from app.insights.topics import encrypt_topics
from app.insights.writing.answers import ReadAnswer, read_answer
from app.insights.writing.coverage import find_uncited, measure_coverage
from app.insights.writing.merging import merge_insights
from app.insights.writing.requests import plan_requests, repair_request
from app.integrations.language.port import (
    Language,
    LanguageRequest,
    LanguageUsage,
    reported_usage,
)
from app.keys.keyring import Field, FieldKey, Keyring
from app.postgres.database import Database
from app.transcripts.encryption import read_corrected_transcript
from app.transcripts.model import Turn

REASON: Final = "write_insights"


@dataclass(frozen=True)
class _Work:
    """The work on the insights into one recording."""

    recording_id: UUID
    begun: store.BegunInsights
    key: FieldKey = field(repr=False)
    turns: tuple[Turn, ...]

    @property
    def language(self) -> str | None:
        return self.begun.language


@dataclass(frozen=True)
class _Part:
    """The verified insights of one part, and the service and model that wrote them."""

    insights: Insights
    dropped_count: int
    vendor: str
    model: str


class InsightsWriter:
    """The service that writes the insights into a recording for a worker's job; the job is safe to repeat. If two
    workers write the same insights, the one that began later continues, and the one that began earlier sends no more
    requests.
    """

    def __init__(self, database: Database, language: Language | None, keyring: Keyring) -> None:
        self._database = database
        self._language = language
        self._keyring = keyring

    async def write(self, recording_id: UUID) -> None:
        """Write the insights, or as many of their parts as the language service answers now. If the error is
        temporary, the method raises it, so that the job queue retries the job. A permanent error ends the insights
        with a reason that the doctor sees.

        Raises UpstreamFailed, Timeout, RateLimited, Conflict (insights_overtaken, concurrent_change).
        """
        try:
            await self._write(recording_id)
        except AppError as error:
            if error.reason == OVERTAKEN:
                raise Conflict(OVERTAKEN, retry_after_seconds=OVERTAKEN_PAUSE_SECONDS) from None
            if is_temporary(error):
                raise
            await self._end(recording_id, "FAILED", error.reason)

    async def give_up(self, recording_id: UUID, reason: str) -> None:
        """Set the insights to FAILED, with a reason that the doctor sees. If another worker has taken over, the method
        changes nothing, because that worker continues.
        """
        if reason != OVERTAKEN:
            await self._end(recording_id, "FAILED", reason)

    async def resume(self) -> None:
        """Queue a job for all unfinished insights that have no job. Work that a budget holds back is not among them."""
        async with self._database.as_service("resume_insights") as tx:
            await store.queue_unfinished(tx)

    async def _end(
        self, recording_id: UUID, status: Literal["FAILED", "OFF", "NO_SPEECH"], reason: str | None
    ) -> None:
        async with self._database.as_service(REASON) as tx:
            await store.give_up(tx, recording_id, status, reason)

    async def _write(self, recording_id: UUID) -> None:
        language = self._language
        if language is None:
            await self._end(recording_id, "OFF", "language_not_configured")
            return
        async with self._database.as_service(REASON) as tx:
            begun = await store.begin(tx, recording_id, is_charged=is_charged(language))
        if begun is None:
            return
        key = self._keyring.unwrap(begun.wrapped, begun.root_key_id)
        work, requests = await anyio.to_thread.run_sync(_plan, recording_id, begun, key)
        if not requests:
            await self._end(recording_id, "NO_SPEECH", None)
            return
        async with self._database.as_service(REASON) as tx:
            await store.store_part_count(tx, recording_id, begun.run, len(requests))
        parts = []
        for number, request in enumerate(requests):
            part = await _PartWriter(self._database, language, work, number).write(request)
            if part is None:
                return
            parts.append(part)
        finished = await anyio.to_thread.run_sync(_finish, work, parts)
        async with self._database.as_service(REASON) as tx:
            await store.finish(tx, recording_id, begun, finished)


@dataclass(frozen=True)
class _PartWriter:
    """Writes one part of the insights."""

    database: Database
    language: Language
    work: _Work
    number: int

    async def write(self, request: LanguageRequest) -> _Part | None:
        """Return the insights of the part, from stored answers if there are any. If the first answer has errors, ask
        once more and name the errors. If both answers have errors, end the insights as FAILED.

        Return None if the insights are not to be written now or have ended. Raises the temporary errors of the
        language service, and Conflict (insights_overtaken, concurrent_change).
        """
        asked = request
        for round_number in ROUNDS:
            try:
                answer = self._read_stored_answer(round_number)
            except Conflict as error:
                await self._give_up(error.reason)
                return None
            answer = answer or await self._ask(asked, round_number)
            if answer is None:
                return None
            read = await self._read(answer)
            if read.insights is not None:
                return _Part(read.insights, read.dropped_count, answer.vendor, answer.model)
            asked = repair_request(request, answer.text, read.errors)
        await self._give_up("insights_unusable")
        return None

    async def _give_up(self, reason: str) -> None:
        """End the insights as FAILED, and delete the answers for this part."""
        async with self.database.as_service(REASON) as tx:
            await store.give_up(tx, self.work.recording_id, "FAILED", reason, (self.number,))

    def _read_stored_answer(self, round_number: int) -> StoredAnswer | None:
        """Return the stored answer, or None if none is stored. Raises Conflict (field_unreadable, insights_malformed,
        insights_format_unknown).
        """
        ciphertext = self.work.begun.answers.get((self.number, round_number))
        if ciphertext is None:
            return None
        return parse_answer(self.work.key.decrypt(self._place(round_number), ciphertext))

    async def _read(self, answer: StoredAnswer) -> ReadAnswer:
        return await anyio.to_thread.run_sync(read_answer, answer.text, self.work.turns, self.work.language)

    async def _ask(self, request: LanguageRequest, round_number: int) -> StoredAnswer | None:
        """Send a request and return its answer, after the answer is stored. Return None if the insights are not to be
        written now or have ended.
        """
        async with self.database.as_service(REASON) as tx:
            is_wanted = await store.count_request(
                tx,
                self.work.recording_id,
                self.work.begun.run,
                self.number,
                round_number,
                is_charged=is_charged(self.language),
            )
        if is_wanted is None:
            return None
        if not is_wanted:
            raise Conflict("concurrent_change")
        try:
            answer = await self.language.write(request)
        except AppError as error:
            return await self._handle_failure(error, round_number)
        return await self._store(answer.text, answer.usage, round_number)

    async def _handle_failure(self, error: AppError, round_number: int) -> StoredAnswer | None:
        """Store an answer without a text as an empty answer, which has errors. Raise a temporary error. Another error
        ends the insights as FAILED, and the tokens that it used are counted in the same transaction.
        """
        usage = reported_usage(error)
        if error.reason == "language_nonsense":
            return await self._store("", usage, round_number)
        async with self.database.as_service(REASON) as tx:
            if error.reason in UNCHARGED:
                await store.take_back_request(tx, self.work.recording_id, self.number, round_number)
            if not is_temporary(error):
                await store.give_up(tx, self.work.recording_id, "FAILED", error.reason)
            if usage is not None:
                await store.count_tokens(tx, self.work.recording_id, usage)
        if is_temporary(error):
            raise error
        return None

    async def _store(self, text: str, usage: LanguageUsage | None, round_number: int) -> StoredAnswer:
        vendor = usage.vendor if usage else self.language.vendor
        model = usage.model if usage else self.language.model
        answer = StoredAnswer(text, vendor, model)
        ciphertext = self.work.key.encrypt(self._place(round_number), format_answer(answer))
        async with self.database.as_service(REASON) as tx:
            await store.store_answer(
                tx, self.work.recording_id, self.work.begun, self.number, round_number, ciphertext
            )
            if usage is not None:
                await store.count_tokens(tx, self.work.recording_id, usage)
        return answer

    def _place(self, round_number: int) -> Field:
        return encryption.answer_field(
            self.work.recording_id, self.work.begun.generation, self.number, round_number
        )


def _plan(
    recording_id: UUID, begun: store.BegunInsights, key: FieldKey
) -> tuple[_Work, Sequence[LanguageRequest]]:
    """Decrypt the transcript and make the requests, in a thread. Raises Conflict for an error that would also occur in
    a retry.
    """
    transcript = read_corrected_transcript(key, recording_id, begun.text, begun.corrections)
    work = _Work(recording_id, begun, key, transcript.turns)
    return work, plan_requests(work.turns, work.language)


def _finish(work: _Work, parts: Sequence[_Part]) -> store.FinishedInsights:
    """Merge, flag, number and encrypt the insights, in a thread."""
    begun = work.begun
    insights = merge_insights([part.insights for part in parts], work.turns)
    numbered = number_lines(insights, work.turns, Checker(work.turns).flag)
    coverage = measure_coverage(
        work.turns,
        duration_ms=None if begun.duration_seconds is None else round(1000 * begun.duration_seconds),
        is_truncated=begun.is_truncated,
        is_interrupted=begun.is_interrupted,
        unused_track_count=begun.unused_track_count,
    )
    uncited = find_uncited(work.turns, insights.note.lines)
    text = format_insights(StoredInsights(numbered, coverage, uncited))
    return store.FinishedInsights(
        ciphertext=work.key.encrypt(encryption.insights_field(work.recording_id, begun.generation), text),
        topics=encrypt_topics(work.key, work.recording_id, begun.generation, numbered.topics),
        language=work.language,
        vendor=parts[-1].vendor,
        model=parts[-1].model,
        dropped_count=sum(part.dropped_count for part in parts),
    )
