"""Reads and writes the sections of note drafts that the worker writes again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from app.insights.drafts import Section
from app.integrations.language.port import LanguageUsage
from app.notes.store import EncryptedDraft, read_encrypted
from app.postgres.database import Transaction
from app.postgres.queries import Queries

_sql = Queries(Path(__file__).with_name("section_queries.sql"))


@dataclass(frozen=True)
class Request:
    """A request to the language service: the section of a recording's draft, the part of its transcript, and the round:
    0 for the first request, and 1 for the second, which lists the errors of the first answer.
    """

    recording_id: UUID
    section: Section
    part: int
    round: int

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters of a statement about the request."""
        return {
            "id": self.recording_id,
            "section": self.section.value,
            "part": self.part,
            "round": self.round,
        }


@dataclass(frozen=True)
class BegunSection:
    """A section that the worker begins to write. `answers` has the encrypted answers that are already stored, by part
    and round. `language` is the ISO 639 code of the consultation's language, or None.
    """

    section: Section
    run: int
    language: str | None
    encrypted: EncryptedDraft
    answers: Mapping[tuple[int, int], bytes] = field(repr=False)


async def request(tx: Transaction, recording_id: UUID, section: Section, based_on: int) -> None:
    """Queue the job that writes a section again, unless it is being written. Raises Conflict (note_draft_changed,
    note_signed, note_without_transcript, insights_...).
    """
    parameters = {"id": recording_id, "section": section.value, "based_on": based_on}
    await tx.run(_sql["request"], parameters)


async def begin(tx: Transaction, recording_id: UUID) -> BegunSection | None:
    """Begin or resume the next section, or return None if there is none to write."""
    row = await tx.one(_sql["begin"], {"id": recording_id})
    if row is None:
        return None
    keys = zip(row["parts"], row["rounds"], strict=True)
    return BegunSection(
        Section(row["section"]),
        row["run"],
        row["language"],
        read_encrypted(row),
        dict(zip(keys, row["answers"], strict=True)),
    )


async def count_request(tx: Transaction, one: Request, run: int, *, is_charged: bool) -> bool | None:
    """Count a request before it is sent. Return whether to send it, or None if the section may not be written now.
    Raises Conflict (insights_overtaken).
    """
    wanted: bool | None = await tx.value(
        _sql["count_request"], {**one.parameters, "run": run, "is_charged": is_charged}
    )
    return wanted


async def take_back_request(tx: Transaction, one: Request) -> None:
    """Take back the count of a request for which the service did not charge."""
    await tx.run(_sql["take_back_request"], one.parameters)


async def store_answer(tx: Transaction, one: Request, ciphertext: bytes) -> None:
    """Store an encrypted answer, unless one is stored."""
    await tx.run(_sql["store_answer"], {**one.parameters, "ciphertext": ciphertext})


async def count_tokens(tx: Transaction, recording_id: UUID, usage: LanguageUsage) -> None:
    """Add the tokens of an answer to the ledger."""
    await tx.run(
        _sql["count_tokens"],
        {
            "id": recording_id,
            "vendor": usage.vendor,
            "model": usage.model,
            "input_tokens": usage.input_tokens,
            "cached_tokens": usage.cached_tokens,
            "output_tokens": usage.output_tokens,
        },
    )


async def reopen(tx: Transaction, recording_id: UUID, section: Section) -> EncryptedDraft | None:
    """Lock and return the draft again, or return None if the section may no longer be written."""
    row = await tx.one(_sql["reopen"], {"id": recording_id, "section": section.value})
    return None if row is None else read_encrypted(row)


async def finish(
    tx: Transaction, recording_id: UUID, section: Section, based_on: int, ciphertext: bytes
) -> bool:
    """Store the draft with the new section. Return False if the draft has changed."""
    parameters = {
        "id": recording_id,
        "section": section.value,
        "based_on": based_on,
        "ciphertext": ciphertext,
    }
    return bool(await tx.value(_sql["finish"], parameters))


async def fail(
    tx: Transaction, recording_id: UUID, section: Section | None, reason: str, *, is_useless: bool = False
) -> None:
    """End a section, or all sections of the recording, with an error. If `is_useless`, delete the stored answers."""
    parameters = {
        "id": recording_id,
        "section": section and section.value,
        "reason": reason,
        "is_useless": is_useless,
    }
    await tx.run(_sql["fail"], parameters)


async def resume(tx: Transaction) -> None:
    """Queue a job for each recording with an unfinished section and without a job."""
    await tx.run(_sql["resume"])
