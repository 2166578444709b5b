"""Reads and writes the questions that were asked with an idempotency key, and counts what answers cost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from app.integrations.language.port import LanguageUsage
from app.keys.keyring import Field
from app.postgres.database import Transaction
from app.postgres.queries import Queries

LEASE_SECONDS: Final = 150
"""How long a repeated call waits for a call that has not ended: longer than any call takes, because the process of
that call may have died.
"""
_sql = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class QuestionRow:
    """The row of a question that was asked with an idempotency key."""

    id: UUID
    recording_id: UUID

    @property
    def field(self) -> Field:
        """Return the table, row and column in which the encrypted answer is stored."""
        return Field("questions", str(self.id), "ciphertext", key_id=str(self.recording_id))


async def require_allowed(tx: Transaction, recording_id: UUID, *, uses_budget: bool) -> None:
    """Raise Conflict (insights_switched_off, insights_consent_withdrawn, insights_consent_text) or RateLimited
    (language_budget_used_up) if the language service may not be asked about the recording now.
    """
    await tx.run(_sql["require_allowed"], {"recording_id": recording_id, "uses_budget": uses_budget})


async def begin(tx: Transaction, question: QuestionRow) -> bytes | None:
    """Begin the question, and return its encrypted answer if it has one. Raises Conflict (question_running)."""
    answer: bytes | None = await tx.value(
        _sql["begin"],
        {"id": question.id, "recording_id": question.recording_id, "lease_seconds": LEASE_SECONDS},
    )
    return answer


async def end(
    tx: Transaction,
    recording_id: UUID,
    question: QuestionRow | None,
    answer: bytes | None,
    usage: LanguageUsage | None,
) -> None:
    """Count the tokens of an answer, and store the encrypted answer of a question that has a row. Without an answer,
    the next call with the same idempotency key asks again. `usage` is None if the service reported none.
    """
    await tx.run(
        _sql["end"],
        {
            "id": question and question.id,
            "recording_id": recording_id,
            "answer": answer,
            "vendor": usage and usage.vendor,
            "model": usage and usage.model,
            "input_tokens": usage and usage.input_tokens,
            "cached_tokens": usage and usage.cached_tokens,
            "output_tokens": usage and usage.output_tokens,
        },
    )


async def require_shown(tx: Transaction, recording_id: UUID) -> None:
    """Raise Conflict (recording_being_deleted, recording_deleted) if the answer may no longer be shown."""
    await tx.run(_sql["require_shown"], {"recording_id": recording_id})
