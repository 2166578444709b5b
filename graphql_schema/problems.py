"""GraphQL types of stored problems: why a recording, a transcription, a staff invitation, a deletion or an encrypted
copy failed. The registry of reasons (`app/texts/reasons.toml`) contains the codes and the texts.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, Final, Self, TypeVar

import strawberry

from app.texts import Language, problem_text
from app.texts.reasons import Reader, load_reasons

_Kind = TypeVar("_Kind", bound="_Problem")
UNKNOWN: Final = "internal_error"
"""The code in place of a stored code that the registry does not contain."""


def reason_enum(name: str, reader: Reader, description: str) -> Any:
    """Return the GraphQL enum of all reasons that one kind of reader can get. Each value is the name of a reason in
    capitals, and its description is the reason's English text.
    """
    reasons = {key: reason for key, reason in sorted(load_reasons().items()) if reader in reason.readers}
    members = {key.upper(): strawberry.enum_value(key, description=_describe(reader, key)) for key in reasons}
    return strawberry.enum(Enum(name, members), description=description)  # type: ignore[call-overload]


def _describe(reader: Reader, key: str) -> str:
    reason = load_reasons()[key]
    text = reason.recording_text if reader == "recording" else reason.text
    return text["en"]


class _Problem:
    """A problem of a type that `_problem` makes."""

    reader: ClassVar[Reader]
    code: str
    message: str

    @classmethod
    def of(cls, stored: str | None, language: Language) -> Self | None:
        """Return the problem for a stored code in snake_case, or None if nothing is stored."""
        if stored is None:
            return None
        known = load_reasons().get(stored)
        code = stored if known is not None and cls.reader in known.readers else UNKNOWN
        return cls(code=code, message=problem_text(cls.reader, code, language))  # type: ignore[call-arg]


def _problem(reader: Reader, what: str, who: str) -> Callable[[type[_Kind]], type[_Kind]]:
    """Return a decorator that makes a class a GraphQL type with a `code` and a `message`. The enum of its codes has the
    name of the class with `Code`. `what` says what went wrong, and `who` may read the problem.
    """

    def make(kind: type[_Kind]) -> type[_Kind]:
        codes = reason_enum(f"{kind.__name__}Code", reader, what)
        kind.reader = reader
        kind.__annotations__ = {"code": str, "message": str}
        kind.code = strawberry.field(
            graphql_type=codes, description="This is the code of the problem, for programs."
        )
        kind.message = strawberry.field(
            description=(
                "The message says what happened and what the reader can do, in the language of the request."
            )
        )
        return strawberry.type(kind, description=f"{what} {who}")

    return make


@_problem(
    "recording",
    "This says why a recording or a media file failed or ended too early.",
    "Everyone who may read the recording can read its problem.",
)
class RecordingProblem(_Problem): ...


@_problem(
    "transcription",
    "This says why a recording has no transcript, or not a whole one.",
    "Everyone who may read the recording can read the problem.",
)
class TranscriptionProblem(_Problem): ...


@_problem(
    "insights",
    "This says why a recording has no insights, why they wait, or why the last refresh ended without new ones.",
    "Everyone who may read the recording can read the problem.",
)
class InsightsProblem(_Problem): ...


@_problem(
    "invitation", "This says why a staff invitation failed.", "Compliance officers can read the problem."
)
class StaffInvitationProblem(_Problem): ...


@_problem(
    "deletion",
    "This says why the newest attempt to destroy a recording failed. The worker tries again by itself.",
    "Everyone who may read the deletion can read its problem.",
)
class DeletionProblem(_Problem): ...


@_problem(
    "export",
    "This says why the worker could not make the encrypted copy of an access request.",
    "Everyone who may read the access request can read the problem.",
)
class AccessExportProblem(_Problem): ...


@_problem(
    "audit_export",
    "This says why the worker could not make an export of the audit log, or why it was stopped.",
    "Compliance officers can read the problem.",
)
class AuditExportProblem(_Problem): ...


@_problem(
    "officer_proposal",
    "This says why the worker could not carry out a proposal, or why the proposal ended undecided.",
    "Compliance officers can read the problem.",
)
class OfficerProposalProblem(_Problem): ...


@_problem(
    "webhook",
    "This says why an endpoint did not accept a message.",
    "Compliance officers can read the problem.",
)
class WebhookProblem(_Problem): ...


@_problem(
    "signed_note",
    "This says why a version of a signed note cannot be shown.",
    "The doctor who signed the note can read the problem.",
)
class SignedNoteProblem(_Problem): ...


@_problem(
    "clip",
    "This says why a clip could not be made.",
    "Everyone who may read the recording can read the problem.",
)
class ClipProblem(_Problem): ...
