"""GraphQL types and the root field for questions about a transcript."""

from typing import Self

import strawberry

from app.insights import model
from app.insights.asking.service import AnswerStatus
from app.insights.asking.service import TranscriptAnswer as ServiceAnswer
from app.insights.writing.coverage import Coverage as ServiceCoverage
from app.texts import Language, answer_not_found_text
from graphql_schema.citations import Citation, Coverage, Writer
from graphql_schema.context import Info
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.scalars import parse_id
from graphql_schema.selected_fields import select


@strawberry.type(description="This is one line of an answer, with the quotes that support it.")
class AnswerLine:
    text: str = strawberry.field(description="This is the text of the line.")
    flags: list[model.Flag] = strawberry.field(
        description="These say in what the line seems to differ from its quotes. The doctor should check it."
    )
    citations: list[Citation] = strawberry.field(
        description="These are the quotes that support the line, at least one."
    )


@strawberry.type(
    description=(
        "This is the answer to a question about one transcript. Only the doctor of the recording may read it."
    )
)
class TranscriptAnswer:
    status: AnswerStatus = strawberry.field(
        description="This says whether the transcript contains an answer."
    )
    message: str | None = strawberry.field(
        description=(
            "If no answer was found, the message says so in the language of the request. An answer that was not found "
            "may still have been said. The value is null if there is an answer."
        )
    )
    lines: list[AnswerLine] = strawberry.field(
        description="These are the lines of the answer. The list is empty if no answer was found."
    )
    dropped_count: int = strawberry.field(
        description=(
            "This says how many lines of the language model were left out, because their quotes are not in the "
            "transcript."
        )
    )
    writer: Writer = strawberry.field(description="This is the language model that wrote the answer.")
    measured: strawberry.Private[ServiceCoverage | None]

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="This says how much of the consultation the transcript covers."
    )
    def coverage(self) -> Coverage:
        assert self.measured is not None  # noqa: S101 - the service measures it if it is selected
        return Coverage.of(self.measured)

    @classmethod
    def of(cls, answer: ServiceAnswer, language: Language) -> Self:
        turns = {turn.number: turn for turn in answer.turns}
        return cls(
            status=answer.status,
            message=None if answer.lines else answer_not_found_text(language),
            lines=[
                AnswerLine(
                    text=flagged.line.text,
                    flags=sorted(flagged.flags),
                    citations=[Citation.of(citation, turns) for citation in flagged.line.citations],
                )
                for flagged in answer.lines
            ],
            dropped_count=answer.dropped_count,
            writer=Writer(vendor=answer.vendor, model=answer.model),
            measured=answer.coverage,
        )


@strawberry.input(description="With this input, a doctor asks a question about a transcript.")
class AskTranscriptInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a recording of the calling doctor with a READY transcript."
    )
    question: str = strawberry.field(
        description=(
            "This is the question, in at most 1,000 characters on one line. It is neither stored nor logged, and the "
            "audit log does not contain it."
        )
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="`askTranscript` returns this payload.")
class AskTranscriptPayload:
    answer: TranscriptAnswer = strawberry.field(
        description="This is the answer to the question, or says that none was found."
    )


async def ask_transcript(info: Info, input: AskTranscriptInput) -> AskTranscriptPayload | None:
    """Ask the language service a question about a transcript."""
    answer = await info.context.services.asking.ask(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.question,
        select(info, "answer"),
        idempotency_key=input.idempotency_key,
    )
    return AskTranscriptPayload(answer=TranscriptAnswer.of(answer, info.context.language))
