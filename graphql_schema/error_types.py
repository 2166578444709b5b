"""The types of an error's `extensions`. No field returns them, and the schema prints them, so that a client can
generate types for its error handling.
"""

from datetime import date
from enum import Enum
from typing import Final

import strawberry

from app.consultations.model import GuestRole, ParticipantKind
from app.texts import error_texts
from graphql_schema.problems import reason_enum
from graphql_schema.scalars import BigInt

_HTTP_CODES: Final = {
    "BAD_REQUEST": "The request is not a GraphQL request in JSON.",
    "METHOD_NOT_ALLOWED": "The address does not take the HTTP method of the request.",
    "NOT_ACCEPTABLE": "The API cannot answer in any media type that the request accepts.",
    "PAYLOAD_TOO_LARGE": "The body of the request is too large.",
    "PERSISTED_QUERY_NOT_SUPPORTED": "The request contains only the hash of a query. Send the query itself.",
    "REQUEST_TIMEOUT": "The body of the request did not arrive in time.",
    "UNSUPPORTED_MEDIA_TYPE": "The content type of the request is not JSON in UTF-8.",
}
_DOCUMENT_CODES: Final = {
    "GRAPHQL_PARSE_FAILED": "The GraphQL document has a syntax error.",
    "GRAPHQL_VALIDATION_FAILED": "The GraphQL document does not fit the schema.",
}
_CODES: Final = {
    **error_texts("en")["codes"],
    "UNAUTHENTICATED": "The request has no valid token, or its session has ended.",
    **_DOCUMENT_CODES,
    **_HTTP_CODES,
}
_ROLES: Final = {
    "DOCTOR": "The participant is the doctor of the consultation.",
    "PATIENT": "The participant is the patient of the consultation.",
    "INTERPRETER": "The participant is a guest who interprets.",
    "COMPANION": "The participant is a guest who accompanies the patient.",
    "REPRESENTATIVE": "The participant is a guest who represents the patient.",
    "CLINICIAN": "The participant is a guest who is a second clinician.",
    "STUDENT": "The participant is a guest who is a student.",
}

ErrorCode = strawberry.enum(
    Enum(  # type: ignore[call-overload]
        "ErrorCode",
        {code: strawberry.enum_value(code, description=text) for code, text in sorted(_CODES.items())},
    ),
    description=(
        "The code is the kind of an error. FORBIDDEN always concerns the caller: their role, their "
        "registration or their second factor. CONFLICT means that the stored state does not allow the change."
    ),
)
ErrorReason = reason_enum(
    "ErrorReason",
    "caller",
    (
        "The reason says exactly why a request was refused. Names in braces stand for values from the error's "
        "`details`. Later releases may add reasons, so a client must also handle reasons that it does not "
        "know."
    ),
)
ParticipantRole = strawberry.enum(
    Enum(  # type: ignore[call-overload]
        "ParticipantRole",
        {
            role: strawberry.enum_value(role, description=_ROLES[role])
            for role in (*(kind for kind in ParticipantKind if kind is not ParticipantKind.GUEST), *GuestRole)
        },
    ),
    description="A participant takes part in a consultation in this role.",
)


@strawberry.type(description="This is a participant who must consent before the refused action is possible.")
class MissingConsent:
    participant_id: strawberry.ID = strawberry.field(description="This is the UUID of the participant.")
    role: str = strawberry.field(
        graphql_type=ParticipantRole, description="This is the role of the participant."
    )


@strawberry.type(
    description=(
        "These are the values that belong to an error. A value that does not belong to the error is absent."
    )
)
class ErrorDetails:
    allowed_types: list[str] | None = strawberry.field(description="The API accepts these media types.")
    argument: str | None = strawberry.field(description="The argument with this name has the bad value.")
    count: int | None = strawberry.field(description="This is the measured value, which exceeds `limit`.")
    earliest: date | None = strawberry.field(description="The API accepts no day before this day.")
    expected_type: str | None = strawberry.field(
        description="The schema expects this GraphQL type at `inputPath`."
    )
    input_path: str | None = strawberry.field(
        description="This is the place of the bad value, such as `$input.items[0].startsAt`."
    )
    limit: int | None = strawberry.field(
        description=(
            "An operation may have at most this size, or a request at most this number of operations."
        )
    )
    maximum: BigInt | None = strawberry.field(
        description="The API accepts at most this value or this length."
    )
    minimum: BigInt | None = strawberry.field(description="The API accepts no smaller value than this.")
    missing: list[MissingConsent] | None = strawberry.field(
        description="The consent of these participants is missing. They are sorted by role."
    )
    recording_id: strawberry.ID | None = strawberry.field(
        description="The recording with this UUID prevents the action."
    )
    retry_after_seconds: int | None = strawberry.field(
        description="The same request can succeed after this many seconds."
    )
    variable: str | None = strawberry.field(description="The variable with this name has the bad value.")


@strawberry.type(
    description=(
        "Every error has this object as `extensions`, in GraphQL answers, in HTTP answers and on WebSockets "
        "alike."
    )
)
class ErrorExtensions:
    code: str = strawberry.field(graphql_type=ErrorCode, description="This is the kind of the error.")
    reason: str | None = strawberry.field(
        graphql_type=ErrorReason | None,
        description="This is the exact reason. It is null if the error has no registered reason.",
    )
    retryable: bool = strawberry.field(
        description="This says whether the same request can succeed later without a change."
    )
    request_id: strawberry.ID | None = strawberry.field(
        description="This is the id of the request, which the logs and the audit log contain."
    )
    details: ErrorDetails | None = strawberry.field(
        description="This tells more about the error, such as the limit of an input. It is null if there is no more."
    )
