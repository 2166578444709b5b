"""GraphQL types that insights, note drafts and answers have in common: citations, flags, coverage and the writer."""

from collections.abc import Mapping
from typing import Self

import strawberry

from app.insights import model
from app.insights.writing import coverage as model_coverage
from app.transcripts.model import Turn


@strawberry.type(
    description=(
        "This is a verbatim quote of one turn, which supports a line. The API shows a line only if it found every "
        "quote of the line in its turn."
    )
)
class Citation:
    turn_number: int = strawberry.field(
        description="This is the number of the quoted turn, as in `Turn.number`."
    )
    start_seconds: float = strawberry.field(
        description="The turn begins this many seconds after the beginning of the recording."
    )
    end_seconds: float = strawberry.field(
        description="The turn ends this many seconds after the beginning of the recording."
    )
    quote: str = strawberry.field(description="This is the quote, which is a part of the text of the turn.")

    @classmethod
    def of(cls, citation: model.Citation, turns: Mapping[int, Turn]) -> Self:
        turn = turns[citation.turn_number]
        return cls(
            turn_number=turn.number,
            start_seconds=turn.start_ms / 1000,
            end_seconds=turn.end_ms / 1000,
            quote=citation.quote,
        )


@strawberry.type(
    description=(
        "This says how much of the consultation the transcript covers. A line about something that was not recorded, "
        "or not understood, is missing from everything that is made of the transcript."
    )
)
class Coverage:
    covered_seconds: float = strawberry.field(
        description="The transcript covers this many seconds of the recording: all but its unintelligible turns."
    )
    is_truncated: bool = strawberry.field(
        description=(
            "This says whether the recording ended before the consultation, because of a limit or a failure."
        )
    )
    is_interrupted: bool = strawberry.field(
        description="This says whether the recording has a gap, as in `Recording.isInterrupted`."
    )
    unused_track_count: int = strawberry.field(
        description="This says how many sound tracks the transcript lacks, because the worker could not decode them."
    )
    unintelligible_count: int = strawberry.field(
        description="This says how many turns have no text, because the speech service could not understand them."
    )
    unknown_speaker_count: int = strawberry.field(
        description=(
            "This says how many turns have an UNKNOWN speaker. No line attributes them to the doctor or the patient."
        )
    )

    @classmethod
    def of(cls, measured: model_coverage.Coverage) -> Self:
        return cls(
            covered_seconds=measured.covered_ms / 1000,
            is_truncated=measured.is_truncated,
            is_interrupted=measured.is_interrupted,
            unused_track_count=measured.unused_track_count,
            unintelligible_count=measured.unintelligible_count,
            unknown_speaker_count=measured.unknown_speaker_count,
        )


@strawberry.type(description="This names the language model that wrote the lines.")
class Writer:
    vendor: str = strawberry.field(
        description=(
            "This is the host of the language service. It is `resguardo` if no text left the practice, because "
            "Resguardo itself chose quotes from the transcript."
        )
    )
    model: str = strawberry.field(
        description="This is the name of the model, which is `resguardo-extract` for the writer of Resguardo itself."
    )
