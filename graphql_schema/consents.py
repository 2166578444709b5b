"""Consents in GraphQL."""

from datetime import datetime
from enum import Enum
from typing import Self

import strawberry

from app.consents import model, texts
from graphql_schema.context import Info
from graphql_schema.scalars import parse_id, to_id

strawberry.enum(model.Decision, name="ConsentDecision")
strawberry.enum(model.Source, name="ConsentSource")
strawberry.enum(model.Relationship, name="RepresentativeRelationship")


@strawberry.enum(description="A language that people read here.")
class Language(Enum):
    EN = "en"
    ES = "es"


@strawberry.type(description="The words to show before anybody consents.")
class ConsentText:
    version: str
    language: str
    text: str = strawberry.field(description="Markdown.")
    sha256: str = strawberry.field(
        description="Of the text's UTF-8 bytes, in hex; recordConsent wants it back."
    )


@strawberry.type(description="Who spoke for a participant.")
class Representative:
    relationship: model.Relationship
    name: str


@strawberry.type(
    description="One word of a participant about being recorded. Never changed; the newest stands."
)
class Consent:
    id: strawberry.ID
    participant_id: strawberry.ID
    decision: model.Decision
    source: model.Source = strawberry.field(description="SELF, or ATTESTED by the doctor.")
    recorded_by: strawberry.ID
    representative: Representative | None
    text_version: str
    text_language: str
    text_sha256: str
    recorded_at: datetime

    @classmethod
    def of(cls, consent: model.Consent) -> Self:
        relationship, name = consent.representative_relationship, consent.representative_name
        return cls(
            id=to_id(consent.id),
            participant_id=to_id(consent.participant_id),
            decision=consent.decision,
            source=consent.source,
            recorded_by=to_id(consent.recorded_by),
            representative=(
                Representative(relationship=relationship, name=name) if relationship and name else None
            ),
            text_version=consent.text_version,
            text_language=consent.text_language,
            text_sha256=consent.text_sha256,
            recorded_at=consent.recorded_at,
        )


@strawberry.input(description="Who speaks for a participant, and on what ground.")
class RepresentativeInput:
    relationship: model.Relationship
    name: str

    def to_model(self) -> model.Representative:
        return model.Representative(self.relationship, self.name.strip())


@strawberry.input(description="A participant's consent to the words that were shown.")
class ConsentInput:
    participant_id: strawberry.ID = strawberry.field(
        description="Whose consent: one's own, or, attested by the doctor, the patient's or a guest's."
    )
    text_version: str
    language: Language
    text_sha256: str
    representative: RepresentativeInput | None = None


async def consent_text(language: Language = Language.EN) -> ConsentText:
    """The current words, in a language."""
    found = texts.consent_texts()[texts.CURRENT_VERSION, language.value]
    return ConsentText(version=found.version, language=found.language, text=found.text, sha256=found.sha256)


async def record_consent(info: Info, consent: ConsentInput) -> Consent:
    """Records a consent."""
    shown = model.ShownText(consent.text_version, consent.language.value, consent.text_sha256.lower())
    given = await info.context.services.consents.give(
        await info.context.asker(),
        parse_id(consent.participant_id),
        shown,
        consent.representative.to_model() if consent.representative else None,
    )
    return Consent.of(given)


async def withdraw_consent(
    info: Info, participant_id: strawberry.ID, representative: RepresentativeInput | None = None
) -> Consent:
    """Records a withdrawal; a running recording stops."""
    withdrawn = await info.context.services.consents.withdraw(
        await info.context.asker(),
        parse_id(participant_id),
        representative.to_model() if representative else None,
    )
    return Consent.of(withdrawn)
