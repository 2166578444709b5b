"""GraphQL types of stored problems: why a recording, a transcription, a staff invitation, a deletion or an encrypted
copy failed. The registry of reasons (`app/texts/reasons.toml`) contains the codes and the texts.
"""

from enum import Enum
from typing import Any, ClassVar, Final, Self

import strawberry

from app.texts import Language, problem_text
from app.texts.reasons import Reader, load_reasons

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
    """The constructor of the types of problems."""

    _reader: ClassVar[Reader]

    @classmethod
    def of(cls, stored: str | None, language: Language) -> Self | None:
        """Return the problem for a stored code in snake_case, or None if nothing is stored."""
        if stored is None:
            return None
        known = load_reasons().get(stored)
        code = stored if known is not None and cls._reader in known.readers else UNKNOWN
        return cls(code=code, message=problem_text(cls._reader, code, language))  # type: ignore[call-arg]


_MESSAGE = "What happened and what the reader can do, in the language of the request."

RecordingProblemCode = reason_enum(
    "RecordingProblemCode", "recording", "Why a recording or a media file failed or ended too early."
)
TranscriptionProblemCode = reason_enum(
    "TranscriptionProblemCode", "transcription", "Why a recording has no transcript, or not a whole one."
)
StaffInvitationProblemCode = reason_enum(
    "StaffInvitationProblemCode", "invitation", "Why a staff invitation failed."
)
DeletionProblemCode = reason_enum(
    "DeletionProblemCode", "deletion", "Why the newest attempt to destroy a recording failed."
)
AccessExportProblemCode = reason_enum(
    "AccessExportProblemCode",
    "export",
    "Why the worker could not make the encrypted copy of an access request.",
)


@strawberry.type(
    description=(
        "Why a recording or a media file failed or ended too early. Everyone who may read the recording can "
        "read its problem."
    )
)
class RecordingProblem(_Problem):
    _reader = "recording"
    code: str = strawberry.field(
        graphql_type=RecordingProblemCode, description="The code of the problem, for programs."
    )
    message: str = strawberry.field(description=_MESSAGE)


@strawberry.type(
    description=(
        "Why a transcription FAILED or is OFF, or why its last retry ended early. The doctor of the recording "
        "can read the problem."
    )
)
class TranscriptionProblem(_Problem):
    _reader = "transcription"
    code: str = strawberry.field(
        graphql_type=TranscriptionProblemCode, description="The code of the problem, for programs."
    )
    message: str = strawberry.field(description=_MESSAGE)


@strawberry.type(description="Why a staff invitation FAILED. Compliance can read the problem.")
class StaffInvitationProblem(_Problem):
    _reader = "invitation"
    code: str = strawberry.field(
        graphql_type=StaffInvitationProblemCode, description="The code of the problem, for programs."
    )
    message: str = strawberry.field(description=_MESSAGE)


@strawberry.type(
    description=(
        "Why the newest attempt to destroy a recording failed. The worker tries again by itself. Everyone who "
        "may read the deletion can read its problem."
    )
)
class DeletionProblem(_Problem):
    _reader = "deletion"
    code: str = strawberry.field(
        graphql_type=DeletionProblemCode, description="The code of the problem, for programs."
    )
    message: str = strawberry.field(description=_MESSAGE)


@strawberry.type(
    description=(
        "Why the worker could not make the encrypted copy of an access request. Everyone who may read the "
        "access request can read the problem."
    )
)
class AccessExportProblem(_Problem):
    _reader = "export"
    code: str = strawberry.field(
        graphql_type=AccessExportProblemCode, description="The code of the problem, for programs."
    )
    message: str = strawberry.field(description=_MESSAGE)
