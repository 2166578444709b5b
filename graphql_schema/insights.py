"""GraphQL types and root fields for insights: reading them, dismissing a line, and writing them again."""

from collections.abc import Iterable
from datetime import datetime
from typing import Self

import strawberry

from app.insights import drafts, model, numbered, service
from app.insights.writing import coverage as model_coverage
from graphql_schema.citations import Citation, Coverage, Writer
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.recordings import Recording
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id, to_id
from graphql_schema.selected_fields import select

_NUMBER = (
    "This is the number of the line among all lines of the insights. `dismissInsight` takes it. It stays the same "
    "until the insights are written again."
)
_FLAGS = "These say in what the line seems to differ from its quotes. The doctor should check it."
_CITATIONS = "These are the quotes that support the line, at least one."


@strawberry.type(
    description="This is one line of a summary, or one key point, with the quotes that support it."
)
class InsightLine:
    number: int = strawberry.field(description=_NUMBER)
    text: str = strawberry.field(description="This is the text of the line.")
    flags: list[model.Flag] = strawberry.field(description=_FLAGS)
    citations: list[Citation] = strawberry.field(description=_CITATIONS)

    @classmethod
    def of(cls, line: numbered.NumberedLine) -> Self:
        return cls(number=line.number, text=line.text, flags=sorted(line.flags), citations=_citations(line))


@strawberry.type(description="This is something that somebody has to do after the consultation.")
class ActionItem:
    number: int = strawberry.field(description=_NUMBER)
    text: str = strawberry.field(description="This is what somebody has to do.")
    who: drafts.Responsible | None = strawberry.field(
        description="This person has to do it. The value is null if the words do not tell, or the speaker is UNKNOWN."
    )
    when: str | None = strawberry.field(
        description="This part of the text says when it has to be done. The value is null if the words tell no time."
    )
    flags: list[model.Flag] = strawberry.field(description=_FLAGS)
    citations: list[Citation] = strawberry.field(description=_CITATIONS)

    @classmethod
    def of(cls, item: numbered.NumberedActionItem) -> Self:
        line = item.line
        return cls(
            number=line.number,
            text=line.text,
            who=item.who,
            when=item.when,
            flags=sorted(line.flags),
            citations=_citations(line),
        )


@strawberry.type(description="This is a subject of the consultation.")
class Topic:
    number: int = strawberry.field(description=_NUMBER)
    name: str = strawberry.field(description="This is the name of the topic, in a few words.")
    flags: list[model.Flag] = strawberry.field(description=_FLAGS)
    citations: list[Citation] = strawberry.field(description=_CITATIONS)

    @classmethod
    def of(cls, line: numbered.NumberedLine) -> Self:
        return cls(number=line.number, name=line.text, flags=sorted(line.flags), citations=_citations(line))


@strawberry.type(description="This is a part of the consultation, up to the start of the next chapter.")
class Chapter:
    number: int = strawberry.field(description=_NUMBER)
    title: str = strawberry.field(description="This is the title of the chapter.")
    start_seconds: float = strawberry.field(
        description="The chapter begins this many seconds after the beginning of the recording."
    )
    flags: list[model.Flag] = strawberry.field(description=_FLAGS)
    citations: list[Citation] = strawberry.field(description=_CITATIONS)

    @classmethod
    def of(cls, chapter: numbered.NumberedChapter) -> Self:
        line = chapter.line
        return cls(
            number=line.number,
            title=line.text,
            start_seconds=chapter.start_ms / 1000,
            flags=sorted(line.flags),
            citations=_citations(line),
        )


@strawberry.type(description="This is a part of the recording that is worth seeing.")
class Highlight:
    number: int = strawberry.field(description=_NUMBER)
    text: str = strawberry.field(description="This says what the highlight shows.")
    reason: drafts.HighlightReason = strawberry.field(description="This says why the part is worth seeing.")
    start_seconds: float = strawberry.field(
        description="The highlight begins this many seconds after the beginning of the recording."
    )
    end_seconds: float = strawberry.field(
        description="The highlight ends this many seconds after the beginning of the recording."
    )
    flags: list[model.Flag] = strawberry.field(description=_FLAGS)
    citations: list[Citation] = strawberry.field(description=_CITATIONS)

    @classmethod
    def of(cls, highlight: numbered.NumberedHighlight) -> Self:
        line = highlight.line
        return cls(
            number=line.number,
            text=line.text,
            reason=highlight.reason,
            start_seconds=highlight.start_ms / 1000,
            end_seconds=highlight.end_ms / 1000,
            flags=sorted(line.flags),
            citations=_citations(line),
        )


@strawberry.type(description="This is one line that the language model suggests for a section of the note.")
class SuggestedNoteLine:
    number: int = strawberry.field(description=_NUMBER)
    section: drafts.Section = strawberry.field(description="The line belongs to this section of the note.")
    text: str = strawberry.field(description="This is the text of the line.")
    flags: list[model.Flag] = strawberry.field(description=_FLAGS)
    citations: list[Citation] = strawberry.field(description=_CITATIONS)

    @classmethod
    def of(cls, section: drafts.Section, line: numbered.NumberedLine) -> Self:
        return cls(
            number=line.number,
            section=section,
            text=line.text,
            flags=sorted(line.flags),
            citations=_citations(line),
        )


@strawberry.type(
    description=(
        "This is a turn that says a number, a dose, or something about an allergy or a medication, and that no line of "
        "the note cites."
    )
)
class UncitedTurn:
    turn_number: int = strawberry.field(description="This is the number of the turn, as in `Turn.number`.")
    kinds: list[model_coverage.UncitedKind] = strawberry.field(
        description="These say what the turn mentions."
    )
    quotes: list[str] = strawberry.field(description="These are the parts of the turn that mention it.")


@strawberry.type(
    description=(
        "These are the insights into a recording, which a language model wrote from the transcript. Every line has "
        "verified quotes, and the doctor checks it. Lines that the doctor has dismissed are left out. Only the doctor "
        "of the recording may read them."
    )
)
class Insights(Node):
    id: strawberry.ID = strawberry.field(
        description="This is the id of the insights, which stays the same when they are written again."
    )
    recording: Recording = strawberry.field(description="This is the recording that the insights are about.")
    language_code: str | None = strawberry.field(
        description="This is the language of the lines, as a code of ISO 639. It is null if it is unknown."
    )
    generation_number: int = strawberry.field(
        description="This counts how often the insights were written. `dismissInsight` takes it."
    )
    written_at: datetime = strawberry.field(description="This is when the insights were written.")
    is_stale: bool = strawberry.field(
        description=(
            "This says whether the transcript has changed since, so that the insights may be wrong. `refreshInsights` "
            "writes them again."
        )
    )
    is_refreshed: bool = strawberry.field(
        description="This says whether the worker is writing the insights again. These ones stay readable meanwhile."
    )
    summary: list[InsightLine] = strawberry.field(
        description="These lines are the summary, in at most 120 words."
    )
    key_points: list[InsightLine] = strawberry.field(
        description="These are the facts that the doctor should remember."
    )
    action_items: list[ActionItem] = strawberry.field(
        description="These are the things that somebody has to do."
    )
    topics: list[Topic] = strawberry.field(description="These are the subjects of the consultation.")
    chapters: list[Chapter] = strawberry.field(description="These are the chapters in order of their start.")
    highlights: list[Highlight] = strawberry.field(
        description="These are the parts of the recording that are worth seeing."
    )
    note_lines: list[SuggestedNoteLine] = strawberry.field(
        description="These are the lines for a note, in the order of its sections S, O, A and P."
    )
    uncited_turns: list[UncitedTurn] = strawberry.field(
        description="These turns may be missing from the note, at most 500, in order of their start."
    )
    dropped_count: int = strawberry.field(
        description=(
            "This says how many lines of the language model were left out, because their quotes are not in the "
            "transcript."
        )
    )
    dismissed_count: int = strawberry.field(
        description="This says how many lines the doctor has dismissed as wrong. The lists lack them."
    )
    coverage: Coverage = strawberry.field(
        description="This says how much of the consultation the insights cover."
    )
    writer: Writer = strawberry.field(description="This is the language model that wrote the insights.")

    @classmethod
    def of(cls, read: service.ReadInsights) -> Self:
        insights = read.insights
        return cls(
            id=to_id(read.id),
            recording=shown(Recording, read.metadata.get("recording", {})),
            language_code=read.language,
            generation_number=read.generation,
            written_at=read.written_at,
            is_stale=read.is_stale,
            is_refreshed=read.is_refreshed,
            summary=_lines(insights.summary),
            key_points=_lines(insights.key_points),
            action_items=[ActionItem.of(one) for one in insights.action_items],
            topics=[Topic.of(one) for one in insights.topics],
            chapters=[Chapter.of(one) for one in insights.chapters],
            highlights=[Highlight.of(one) for one in insights.highlights],
            note_lines=[
                SuggestedNoteLine.of(section, line)
                for section in drafts.Section
                for line in insights.note.get(section, ())
            ],
            uncited_turns=[
                UncitedTurn(turn_number=one.turn_number, kinds=sorted(one.kinds), quotes=list(one.quotes))
                for one in read.uncited
            ],
            dropped_count=read.dropped_count,
            dismissed_count=read.dismissed_count,
            coverage=Coverage.of(read.coverage),
            writer=Writer(vendor=read.vendor, model=read.model),
        )


def _lines(lines: Iterable[numbered.NumberedLine]) -> list[InsightLine]:
    return [InsightLine.of(line) for line in lines]


def _citations(line: numbered.NumberedLine) -> list[Citation]:
    return [
        Citation(
            turn_number=one.turn_number,
            start_seconds=one.start_ms / 1000,
            end_seconds=one.end_ms / 1000,
            quote=one.quote,
        )
        for one in line.citations
    ]


@strawberry.input(description="With this input, a doctor retries the writing of insights.")
class RetryInsightsInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a recording of the calling doctor."
    )


@strawberry.type(description="`retryInsights` returns this payload.")
class RetryInsightsPayload:
    recording: Recording = strawberry.field(
        description="This is the recording with the progress of its insights."
    )


@strawberry.input(description="With this input, a doctor has STALE insights written again.")
class RefreshInsightsInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a recording of the calling doctor."
    )


@strawberry.type(description="`refreshInsights` returns this payload.")
class RefreshInsightsPayload:
    recording: Recording = strawberry.field(
        description="This is the recording with the progress of its insights."
    )


@strawberry.input(description="With this input, a doctor takes a wrong line of insights out of view.")
class DismissInsightInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a recording of the calling doctor with readable insights."
    )
    line_number: int = strawberry.field(
        description="This is the number of the line, as in `InsightLine.number`."
    )
    generation_number: int = strawberry.field(
        description=(
            "This is `Insights.generationNumber`, as the doctor saw it. If the insights were written again since, the "
            "call is refused with `INSIGHTS_CHANGED`, because the number now belongs to a different line."
        )
    )


@strawberry.type(description="`dismissInsight` returns this payload.")
class DismissInsightPayload:
    insights: Insights = strawberry.field(description="These are the insights without the line.")


async def insights(info: Info, recording_id: strawberry.ID) -> Insights | None:
    """Return the insights into one of the doctor's recordings."""
    read = await info.context.services.insights.read(
        await info.context.asker(), parse_id(recording_id), select(info)
    )
    return Insights.of(read)


async def retry_insights(info: Info, input: RetryInsightsInput) -> RetryInsightsPayload | None:
    """Begin FAILED insights again, or OFF insights if nothing forbids them any more."""
    recording = await info.context.services.insights.retry(
        await info.context.asker(), parse_id(input.recording_id), select(info, "recording")
    )
    return RetryInsightsPayload(recording=shown(Recording, recording))


async def refresh_insights(info: Info, input: RefreshInsightsInput) -> RefreshInsightsPayload | None:
    """Write STALE insights again from the present transcript."""
    recording = await info.context.services.insights.refresh(
        await info.context.asker(), parse_id(input.recording_id), select(info, "recording")
    )
    return RefreshInsightsPayload(recording=shown(Recording, recording))


async def dismiss_insight(info: Info, input: DismissInsightInput) -> DismissInsightPayload | None:
    """Take a wrong line out of view, and count it."""
    read = await info.context.services.insights.dismiss(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.generation_number,
        input.line_number,
        select(info, "insights"),
    )
    return DismissInsightPayload(insights=Insights.of(read))
