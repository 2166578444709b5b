"""GraphQL types and root fields for consents."""

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from app.consents import model, texts
from app.postgres.composer import Row
from app.postgres.selection import Selection, merge
from graphql_schema.context import Info
from graphql_schema.enums import describe_enum
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.scalars import parse_id
from graphql_schema.selected_fields import select

if TYPE_CHECKING:
    from graphql_schema.consultations import Consultation, Participant
    from graphql_schema.recordings import Recording


class Language(Enum):
    "The API returns its texts in this language."

    EN = "en"
    ES = "es"


describe_enum(
    Language,
    description="The API returns its texts in this language.",
    values={Language.EN: "The texts are in English.", Language.ES: "The texts are in Spanish."},
)


@strawberry.type(
    description=(
        "This is a consent text, which a client displays before a participant consents. Everyone may read it."
    )
)
class ConsentText:
    version: str = strawberry.field(
        description=(
            "This is the version of the text, such as `2027-02`. A version that was published never changes."
        )
    )
    language: Language = strawberry.field(description="This is the language of the text.")
    markdown: str = strawberry.field(description="This is the text in Markdown.")
    sha256: str = strawberry.field(
        description=(
            "This is the SHA-256 of the text's UTF-8 bytes, in hex. `recordConsent` takes it as `textSha256`."
        )
    )


@strawberry.type(description="This is a representative who acted for a participant or a patient.")
class Representative:
    relationship: model.Relationship = strawberry.field(
        description="This is the relationship that entitles the representative to act."
    )
    name: str = strawberry.field(
        description="This is the name of the representative, in 1 to 200 characters."
    )


@strawberry.type(
    description=(
        "This is a statement of a participant that gives or withdraws consent. A statement never changes. The "
        "newest statement of a participant is the one that counts. Everyone who may read the consultation may "
        "read its consents."
    )
)
class Consent(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the statement of consent, a UUID.")
    participant: Annotated["Participant", strawberry.lazy("graphql_schema.consultations")] = strawberry.field(
        description="The statement belongs to this participant."
    )
    decision: model.Decision = strawberry.field(
        description="The decision says whether the statement gives or withdraws consent."
    )
    source: model.Source = strawberry.field(
        description=(
            "The source is SELF if the participant made the statement, and ATTESTED if the doctor attested it."
        )
    )
    recorded_by: User = strawberry.field(description="This user made the statement in the application.")
    representative: Representative | None = strawberry.field(
        description=(
            "This representative made the statement for the participant. It is null if the participant made "
            "the statement in person."
        )
    )
    text_version: str = strawberry.field(
        description=("This is the version of the consent text that was displayed.")
    )
    text_language: Language = strawberry.field(
        description="This is the language of the consent text that was displayed."
    )
    text_sha256: str = strawberry.field(
        description="This is the SHA-256 in hex of the consent text that was displayed."
    )
    recorded_at: datetime = strawberry.field(description="This is when the API recorded the statement.")


@strawberry.input(
    description="This is a representative who acts for a participant or a patient, and their relationship."
)
class RepresentativeInput:
    relationship: model.Relationship = strawberry.field(
        description="This is the representative's relationship to the participant."
    )
    name: str = strawberry.field(description="This is the representative's name, in 1 to 200 characters.")

    def to_model(self) -> model.Representative:
        return model.Representative(self.relationship, self.name.strip())


@strawberry.input(
    description=(
        "With this input, a participant consents to the consent text that the client displayed, or a doctor "
        "attests that the participant did."
    )
)
class RecordConsentInput:
    participant_id: strawberry.ID = strawberry.field(
        description=(
            "This is the id of the consenting participant: the caller, or a patient or guest for whom the "
            "doctor attests the consent."
        )
    )
    text_version: str = strawberry.field(
        description="This is the version of the consent text, as `consentText` returned it."
    )
    language: Language = strawberry.field(
        description="This is the language of the consent text that the client displayed."
    )
    text_sha256: str = strawberry.field(
        description=(
            "This is the SHA-256 of the consent text that the client displayed, as `consentText` returned it."
        )
    )
    representative: RepresentativeInput | None = strawberry.field(
        default=None,
        description=(
            "This representative acts for the participant. It is omitted if the participant acts in person."
        ),
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="`recordConsent` returns this payload.")
class RecordConsentPayload:
    consent: Consent = strawberry.field(description="This is the statement that gives consent.")
    participant: Annotated["Participant", strawberry.lazy("graphql_schema.consultations")] = strawberry.field(
        description="This is the participant, with the new value of `hasConsented`."
    )
    consultation: Annotated["Consultation", strawberry.lazy("graphql_schema.consultations")] = (
        strawberry.field(
            description=(
                "This is the consultation, with the statement among its `consents`, and its new "
                "`recordingBlockers`."
            )
        )
    )
    recording: Annotated["Recording", strawberry.lazy("graphql_schema.recordings")] | None = strawberry.field(
        description=(
            "This is the recording of the consultation that is in progress. It is null if there is none, and "
            "for a patient, who may not read recordings."
        )
    )


@strawberry.input(
    description=(
        "With this input, a participant withdraws their consent, or a doctor attests that the participant did."
    )
)
class WithdrawConsentInput:
    participant_id: strawberry.ID = strawberry.field(
        description=(
            "This is the id of the participant whose consent is withdrawn: the caller, or a patient or guest "
            "for whom the doctor attests the withdrawal."
        )
    )
    representative: RepresentativeInput | None = strawberry.field(
        default=None,
        description=(
            "This representative acts for the participant. It is omitted if the participant acts in person."
        ),
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="`withdrawConsent` returns this payload.")
class WithdrawConsentPayload:
    consent: Consent = strawberry.field(description="This is the statement that withdraws the consent.")
    participant: Annotated["Participant", strawberry.lazy("graphql_schema.consultations")] = strawberry.field(
        description="This is the participant, with the new value of `hasConsented`."
    )
    consultation: Annotated["Consultation", strawberry.lazy("graphql_schema.consultations")] = (
        strawberry.field(
            description=(
                "This is the consultation, with the statement among its `consents`, and its new "
                "`recordingBlockers`."
            )
        )
    )
    recording: Annotated["Recording", strawberry.lazy("graphql_schema.recordings")] | None = strawberry.field(
        description=(
            "This is the recording of the consultation that is in progress. It is null if there is none, and "
            "for a patient, who may not read recordings."
        )
    )


def _select(info: Info) -> Selection:
    """Return what the client selects of the statement, of its participant, of its consultation and of the recording, as
    one selection of the statement.
    """
    payload = select(info)
    others = (one for one in payload.fields if one.name != "consent")
    return merge((payload.below("consent").fields, others))


def _shown(row: Row) -> dict[str, Any]:
    return {
        "consent": row,
        "participant": row.get("participant"),
        "consultation": row.get("consultation"),
        "recording": row.get("recording"),
    }


async def consent_text(
    language: Annotated[
        Language,
        strawberry.argument(description="The text is in this language, which is English by default."),
    ] = Language.EN,
    version: Annotated[
        str | None,
        strawberry.argument(
            description=(
                "The text has this version, such as `Consent.textVersion`. The default is the current version. "
                "Every version that was ever published can be read, and an unknown version is refused."
            )
        ),
    ] = None,
) -> ConsentText | None:
    """Return a consent text in the given language."""
    found = texts.find_text(language.value, version)
    return ConsentText(
        version=found.version, language=Language(found.language), markdown=found.text, sha256=found.sha256
    )


async def record_consent(info: Info, input: RecordConsentInput) -> RecordConsentPayload | None:
    """Record a consent."""
    shown = model.ShownText(input.text_version, input.language.value, input.text_sha256.lower())
    given = await info.context.services.consents.give(
        await info.context.asker(),
        parse_id(input.participant_id),
        shown,
        input.representative.to_model() if input.representative else None,
        _select(info),
        idempotency_key=input.idempotency_key,
    )
    return RecordConsentPayload(**_shown(given))


async def withdraw_consent(info: Info, input: WithdrawConsentInput) -> WithdrawConsentPayload | None:
    """Record the withdrawal of a consent. A withdrawal stops a running recording."""
    withdrawn = await info.context.services.consents.withdraw(
        await info.context.asker(),
        parse_id(input.participant_id),
        input.representative.to_model() if input.representative else None,
        _select(info),
        idempotency_key=input.idempotency_key,
    )
    return WithdrawConsentPayload(**_shown(withdrawn))
