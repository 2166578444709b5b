"""Words in GraphQL: a transcript, the search in all of one's own, corrections, and what a doctor decides about them."""

from datetime import datetime
from typing import Self

import strawberry

from app.errors import InvalidInput
from app.transcripts import model, search, service
from app.transcripts.corrections import Attribution, Rewording
from app.transcripts.matching import Snippet as ModelSnippet
from graphql_schema.context import Info
from graphql_schema.scalars import parse_id, parse_optional_id, to_id, to_optional_id

MOST_HITS = 50
_USUAL_HITS = 20

strawberry.enum(model.Speaker, description="Who speaks, where it is known.")


@strawberry.type(
    description="What one speaker said at a stretch. Times are seconds from the recording's beginning."
    " `number` names the turn for good; turns are in order of start."
)
class Turn:
    number: int
    start: float
    end: float
    speaker: model.Speaker
    participant_id: strawberry.ID | None = strawberry.field(
        description="The participant into whose microphone it was said. Null if nobody knows, and if a doctor has said"
        " who speaks. Two guests of one role have different ids."
    )
    text: str = strawberry.field(description="Empty for an unintelligible turn.")
    is_unintelligible: bool = strawberry.field(
        description="Somebody spoke, and the speech service could not make out what was said."
    )
    is_uncertain: bool = strawberry.field(
        description="The speech service was not sure of these words, and nobody has corrected them: show them as such."
    )
    heard_text: str | None = strawberry.field(description="What was heard, where its words were corrected.")

    @classmethod
    def of(cls, turn: model.Turn, heard: model.Turn) -> Self:
        return cls(
            number=turn.number,
            start=turn.start_ms / 1000,
            end=turn.end_ms / 1000,
            speaker=turn.speaker,
            participant_id=to_optional_id(turn.participant_id),
            text=turn.text,
            is_unintelligible=turn.is_unintelligible,
            is_uncertain=turn.is_uncertain,
            heard_text=heard.text if heard.text != turn.text else None,
        )


@strawberry.type(description="Who corrected a turn, and when.")
class Correction:
    turn: int
    text: str | None = strawberry.field(
        description="Its words from then on; null where its voice was given away."
    )
    speaker: model.Speaker | None = strawberry.field(
        description="Whom its voice was given to; null where its words were changed."
    )
    corrected_by: strawberry.ID
    corrected_at: datetime

    @classmethod
    def of(cls, correcting: service.Correcting) -> Self:
        made = correcting.correction
        return cls(
            turn=made.turn_number,
            text=made.text if isinstance(made, Rewording) else None,
            speaker=made.speaker if isinstance(made, Attribution) else None,
            corrected_by=to_id(correcting.corrected_by),
            corrected_at=correcting.corrected_at,
        )


@strawberry.type(description="The words of a recording, as they were corrected last.")
class Transcript:
    recording_id: strawberry.ID
    language: str | None
    turns: list[Turn]
    corrections: list[Correction]

    @classmethod
    def of(cls, recording_id: strawberry.ID, read: service.ReadTranscript) -> Self:
        return cls(
            recording_id=recording_id,
            language=read.transcript.language,
            turns=[Turn.of(turn, read.heard.turn(turn.number)) for turn in read.transcript.in_order],
            corrections=[Correction.of(one) for one in read.corrections],
        )


@strawberry.type(description="From which character to which, the last excluded, counted in code points.")
class Highlight:
    start: int
    end: int


@strawberry.type(description="A recording in which all of it was said, and where.")
class TranscriptHit:
    recording_id: strawberry.ID
    consultation_id: strawberry.ID
    scheduled_at: datetime
    turn: int
    start: float
    end: float
    speaker: model.Speaker
    participant_id: strawberry.ID | None = strawberry.field(description="As in `Turn`.")
    text: str = strawberry.field(description="At most 160 characters of the turn.")
    highlights: list[Highlight]
    is_uncertain: bool = strawberry.field(description="As in `Turn`: the words may be wrong.")

    @classmethod
    def of(cls, hit: search.Hit) -> Self:
        shown: ModelSnippet = hit.snippet
        return cls(
            recording_id=to_id(hit.recording_id),
            consultation_id=to_id(hit.consultation_id),
            scheduled_at=hit.recorded_at,
            turn=shown.turn_number,
            start=shown.start_ms / 1000,
            end=shown.end_ms / 1000,
            speaker=shown.speaker,
            participant_id=to_optional_id(shown.participant_id),
            text=shown.text,
            highlights=[Highlight(start=start, end=end) for start, end in shown.highlights],
            is_uncertain=shown.is_uncertain,
        )


@strawberry.type(
    description="What was found: best first, or as it was said where one recording or consultation is searched."
)
class TranscriptHits:
    hits: list[TranscriptHit]
    is_cut: bool = strawberry.field(
        description="More recordings than are looked at have these words: the oldest were left out."
    )
    unreadable: int = strawberry.field(
        description="How many recordings may have these words and could not be opened: they were left out."
    )


@strawberry.input(description="Where is searched; what is left out is everywhere.")
class TranscriptFilter:
    recording_id: strawberry.ID | None = None
    consultation_id: strawberry.ID | None = None
    patient_id: strawberry.ID | None = None
    scheduled_since: datetime | None = None
    scheduled_until: datetime | None = strawberry.field(default=None, description="Excluded.")
    with_sensitive: bool = strawberry.field(
        default=False, description="Psychotherapy and substance use too, which are left out otherwise."
    )

    def to_model(self) -> model.SearchFilter:
        return model.SearchFilter(
            patient_id=parse_optional_id(self.patient_id),
            consultation_id=parse_optional_id(self.consultation_id),
            recording_id=parse_optional_id(self.recording_id),
            since=self.scheduled_since,
            until=self.scheduled_until,
            with_sensitive=self.with_sensitive,
        )


async def transcript(info: Info, recording_id: strawberry.ID) -> Transcript:
    """What was said in a recording of one's own."""
    read = await info.context.services.transcripts.read(await info.context.asker(), parse_id(recording_id))
    return Transcript.of(recording_id, read)


async def search_transcripts(
    info: Info, query: str, filter: TranscriptFilter | None = None, first: int = _USUAL_HITS
) -> TranscriptHits:
    """One's own recordings in which all these words were said; phrases stand in quotes."""
    if not 1 <= first <= MOST_HITS:
        raise InvalidInput("bad_page_size", minimum=1, maximum=MOST_HITS)
    found = await info.context.services.transcript_search.search(
        await info.context.asker(), query, (filter or TranscriptFilter()).to_model(), first=first
    )
    hits = [TranscriptHit.of(hit) for hit in found.hits]
    return TranscriptHits(hits=hits, is_cut=found.is_cut, unreadable=found.unreadable)


async def correct_transcript(info: Info, recording_id: strawberry.ID, turn: int, text: str) -> Transcript:
    """Puts other words on top of a turn; what was there is kept."""
    read = await info.context.services.transcripts.reword(
        await info.context.asker(), parse_id(recording_id), turn, text
    )
    return Transcript.of(recording_id, read)


async def attribute_turn(
    info: Info, recording_id: strawberry.ID, turn: int, speaker: model.Speaker, only_this_turn: bool = False
) -> Transcript:
    """Gives a turn, and all that its voice says, to a speaker; the turn alone where nothing tells voices apart.

    `onlyThisTurn` is for a voice that is two people's: a guest beside the patient, at one microphone.
    """
    read = await info.context.services.transcripts.attribute(
        await info.context.asker(), parse_id(recording_id), turn, speaker, only_this_turn=only_this_turn
    )
    return Transcript.of(recording_id, read)


@strawberry.type(description="Two addresses of this API that read the subtitles, while the session stands.")
class SubtitleUrls:
    webvtt: str = strawberry.field(description="Relative to the API's own address.")
    srt: str
    expires_at: datetime

    @classmethod
    def of(cls, link: service.SubtitleLink) -> Self:
        path = f"/subtitles/{link.secret}"
        return cls(webvtt=f"{path}.vtt", srt=f"{path}.srt", expires_at=link.expires_at)


async def issue_subtitle_urls(info: Info, recording_id: strawberry.ID) -> SubtitleUrls:
    """For a player: short-lived addresses of the subtitles."""
    link = await info.context.services.transcripts.issue_subtitle_link(
        await info.context.asker(), parse_id(recording_id)
    )
    return SubtitleUrls.of(link)


async def retry_transcription(info: Info, recording_id: strawberry.ID) -> bool:
    """Tries again what FAILED, or was OFF and is wanted now; of a READY transcript its unintelligible turns alone.

    What was heard is not asked again. The transcript stays readable, and no turn changes its number.
    """
    await info.context.services.transcripts.retry(await info.context.asker(), parse_id(recording_id))
    return True


async def switch_transcription(info: Info, consultation_id: strawberry.ID, is_on: bool) -> bool:
    """Whether the consultation's recordings are turned into words from now on; what is under way ends."""
    await info.context.services.transcripts.switch(
        await info.context.asker(), parse_id(consultation_id), is_on=is_on
    )
    return is_on
