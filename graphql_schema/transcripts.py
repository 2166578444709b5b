"""GraphQL types and root fields for transcripts: reading, search, corrections and switches."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self

import strawberry

from app.errors import InvalidInput
from app.postgres.composer import Row
from app.texts import Language, redisclosure_notice
from app.transcripts import model, service
from app.transcripts.corrections import Attribution, Rewording
from app.transcripts.search import service as search_service
from app.transcripts.search.matches import Snippet as ModelSnippet
from graphql_schema.consultations import Consultation, Participant
from graphql_schema.context import Info
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.recordings import Recording
from graphql_schema.references import ConsultationBy, DateTimeRangeInput, PatientBy
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id, parse_optional_id, to_id
from graphql_schema.selected_fields import select

MOST_HITS = 50
_USUAL_HITS = 20
_FIRST = strawberry.argument(description=f"The search returns at most this many hits, from 1 to {MOST_HITS}.")
_FILTER = strawberry.argument(
    description=(
        "The search covers only these transcripts. Without a filter, it covers all transcripts of the calling doctor "
        "except those of psychotherapy and substance use consultations."
    )
)


@strawberry.type(
    description=(
        "A turn is the speech of one speaker without an interruption. Its times are in seconds from the "
        "beginning of the recording. The `number` of a turn never changes. Turns are ordered by their start."
    )
)
class Turn:
    number: int = strawberry.field(
        description="This is the number that identifies the turn in its transcript. The mutations take it."
    )
    start_seconds: float = strawberry.field(
        description="The turn begins this many seconds after the beginning of the recording."
    )
    end_seconds: float = strawberry.field(
        description="The turn ends this many seconds after the beginning of the recording."
    )
    speaker: model.Speaker = strawberry.field(
        description=(
            "This is the role of the person who speaks, according to the microphone or to a doctor's "
            "correction."
        )
    )
    participant: Participant | None = strawberry.field(
        description=(
            "This is the participant whose microphone recorded the turn. The value is null if the participant "
            "is unknown, or if a doctor has named the speaker. Two guests with the same role are different "
            "participants."
        )
    )
    text: str = strawberry.field(
        description="This is the text of the turn, which is empty if the turn is unintelligible."
    )
    is_unintelligible: bool = strawberry.field(
        description="This says whether the speech service could not understand the speech of this turn."
    )
    is_uncertain: bool = strawberry.field(
        description=(
            "This says whether the speech service was not sure of the text and nobody has corrected it. A "
            "client should show its user that the text is uncertain."
        )
    )
    confidence: float | None = strawberry.field(
        description=(
            "This is the speech service's confidence in the text, from 0 to 1: the geometric mean of the probabilities "
            "of its tokens. It is null if the service returned none, if the turn is unintelligible, or if a doctor has "
            "corrected the text."
        )
    )
    original_text: str | None = strawberry.field(
        description=(
            "This is the original text of the speech service. It is null if no doctor has corrected the text "
            "of the turn."
        )
    )

    @classmethod
    def of(cls, turn: model.Turn, original: model.Turn, participants: Mapping[str, Row]) -> Self:
        """Return the turn. `participants` has the participants of the consultation by id, if they are selected."""
        return cls(
            number=turn.number,
            start_seconds=turn.start_ms / 1000,
            end_seconds=turn.end_ms / 1000,
            speaker=turn.speaker,
            participant=_participant(participants.get(str(turn.participant_id))),
            text=turn.text,
            is_unintelligible=turn.is_unintelligible,
            is_uncertain=turn.is_uncertain,
            confidence=turn.confidence,
            original_text=original.text if original.text != turn.text else None,
        )


@strawberry.type(description="This is a doctor's correction of one turn of a transcript.")
class Correction:
    turn_number: int = strawberry.field(description="This is the number of the corrected turn.")
    text: str | None = strawberry.field(
        description=(
            "This is the corrected text. The value is null if the correction changed the speaker of the turn, "
            "and not the text."
        )
    )
    speaker: model.Speaker | None = strawberry.field(
        description=(
            "This is the corrected speaker. The value is null if the correction changed the text of the turn, "
            "and not the speaker."
        )
    )
    corrected_by: User = strawberry.field(description="This is the doctor who corrected the turn.")
    corrected_at: datetime = strawberry.field(description="This is when the doctor corrected the turn.")

    @classmethod
    def of(cls, correcting: service.AuthoredCorrection) -> Self:
        made = correcting.correction
        return cls(
            turn_number=made.turn_number,
            text=made.text if isinstance(made, Rewording) else None,
            speaker=made.speaker if isinstance(made, Attribution) else None,
            corrected_by=User(id=to_id(correcting.corrected_by)),
            corrected_at=correcting.corrected_at,
        )


@strawberry.type(
    description=(
        "This is the transcript of a recording, with the latest corrections. Only the doctor of the recording "
        "may read it."
    )
)
class Transcript(Node):
    id: strawberry.ID = strawberry.field(
        description=(
            "This is the id of the transcript, which stays the same when the transcript is corrected."
        )
    )
    recording: Recording = strawberry.field(description="This is the transcribed recording.")
    language_code: str | None = strawberry.field(
        description=(
            "This is the language that the speech service detected in most of the sound, as a code of ISO 639. "
            "The value is null if it detected none."
        )
    )
    full_text: str = strawberry.field(
        description=(
            "This is the corrected text of all turns in order of their start, with one line for each turn and without "
            "the speakers."
        )
    )
    word_count: int = strawberry.field(
        description=(
            "This is the number of words in `fullText`. Words are separated by spaces, and have a letter or a digit."
        )
    )
    turns: list[Turn] = strawberry.field(
        description="These are the turns of the transcript in order of their start."
    )
    corrections: list[Correction] = strawberry.field(
        description="These are all corrections of the transcript, oldest first."
    )

    @classmethod
    def of(cls, read: service.TranscriptHistory) -> Self:
        participants = {one["id"]: one for one in read.metadata.get("participants", ())}
        return cls(
            id=to_id(read.id),
            recording=shown(Recording, read.metadata.get("recording", {})),
            language_code=read.transcript.language,
            full_text=read.transcript.full_text,
            word_count=read.transcript.word_count,
            turns=[
                Turn.of(turn, read.original.turn(turn.number), participants)
                for turn in read.transcript.in_order
            ],
            corrections=[Correction.of(one) for one in read.corrections],
        )


@strawberry.type(
    description=(
        "This is a part of a search hit's excerpt. The texts of the parts in their order are the excerpt, so a "
        "client needs no positions."
    )
)
class SnippetPart:
    text: str = strawberry.field(description="This is the text of the part, which is never empty.")
    is_match: bool = strawberry.field(
        description="This says whether the part matches a term of the search, so that a client marks it."
    )


@strawberry.type(
    description="A search hit is a recording that contains all search terms, with its best matching turn."
)
class TranscriptHit:
    recording: Recording = strawberry.field(description="This is the recording that contains the hit.")
    turn_number: int = strawberry.field(description="This is the number of the matching turn.")
    start_seconds: float = strawberry.field(
        description="The turn begins this many seconds after the beginning of the recording."
    )
    end_seconds: float = strawberry.field(
        description="The turn ends this many seconds after the beginning of the recording."
    )
    speaker: model.Speaker = strawberry.field(
        description="This is the role of the person who speaks, as in `Turn.speaker`."
    )
    participant: Participant | None = strawberry.field(
        description="This is the participant whose microphone recorded the turn, as in `Turn.participant`."
    )
    snippet: list[SnippetPart] = strawberry.field(
        description=(
            "This is an excerpt of the turn, at most 160 characters, in parts that match the search or do not."
        )
    )
    is_uncertain: bool = strawberry.field(
        description="If it is true, the text is uncertain, as in `Turn.isUncertain`."
    )

    @classmethod
    def of(cls, hit: search_service.Hit) -> Self:
        excerpt: ModelSnippet = hit.snippet
        return cls(
            recording=shown(Recording, hit.metadata.get("recording", {})),
            turn_number=excerpt.turn_number,
            start_seconds=excerpt.start_ms / 1000,
            end_seconds=excerpt.end_ms / 1000,
            speaker=excerpt.speaker,
            participant=_participant(hit.metadata.get("participant")),
            snippet=[SnippetPart(text=part.text, is_match=part.is_match) for part in excerpt.parts],
            is_uncertain=excerpt.is_uncertain,
        )


@strawberry.type(
    description=(
        "These are the hits of a transcript search, best first. A search in one recording or one consultation "
        "returns the hits in order of time."
    )
)
class TranscriptSearch:
    hits: list[TranscriptHit] = strawberry.field(
        description="The hits, at most as many as the search asked for."
    )
    is_cut: bool = strawberry.field(
        description=(
            "This says whether the search left out the oldest recordings, because more recordings contain the "
            "search terms than one search examines."
        )
    )
    unreadable_count: int = strawberry.field(
        description=(
            "This says how many recordings the search left out because it could not decrypt their transcripts, "
            "which may contain the search terms."
        )
    )


@strawberry.input(
    description=(
        "This filters searches of transcripts. A field of the filter that is omitted matches every transcript."
    )
)
class TranscriptFilter:
    recording_id: strawberry.ID | None = strawberry.field(
        default=None, description="The filter selects only the transcript of this recording."
    )
    consultation: ConsultationBy | None = strawberry.field(
        default=None, description="The filter selects only transcripts of this consultation."
    )
    patient: PatientBy | None = strawberry.field(
        default=None, description="The filter selects only transcripts of this patient's consultations."
    )
    scheduled_during: DateTimeRangeInput | None = strawberry.field(
        default=None,
        description=(
            "The filter selects only transcripts of consultations that were scheduled in this range of time."
        ),
    )
    include_sensitive: bool = strawberry.field(
        default=False,
        description="If it is true, the search includes psychotherapy and substance use consultations.",
    )

    def to_model(self) -> model.SearchFilter:
        return model.SearchFilter(
            patient=self.patient.to_model() if self.patient else None,
            consultation=self.consultation.to_model() if self.consultation else None,
            recording_id=parse_optional_id(self.recording_id),
            scheduled=self.scheduled_during.to_model() if self.scheduled_during else None,
            with_sensitive=self.include_sensitive,
        )


def _participant(row: Row | None) -> Participant | None:
    return None if row is None else shown(Participant, row)


async def transcript(info: Info, recording_id: strawberry.ID) -> Transcript | None:
    """Return the transcript of one of the doctor's recordings."""
    read = await info.context.services.transcripts.read(
        await info.context.asker(), parse_id(recording_id), select(info)
    )
    return Transcript.of(read)


async def transcript_search(
    info: Info,
    query: str,
    filter: Annotated[TranscriptFilter | None, _FILTER] = None,
    first: Annotated[int, _FIRST] = _USUAL_HITS,
) -> TranscriptSearch | None:
    """Search the transcripts of the doctor's recordings. Each search hit is a recording whose transcript contains
    all words of the query. Quotes mark phrases.
    """
    if not 1 <= first <= MOST_HITS:
        raise InvalidInput("bad_page_size", minimum=1, maximum=MOST_HITS)
    found = await info.context.services.transcript_search.search(
        await info.context.asker(),
        query,
        (filter or TranscriptFilter()).to_model(),
        select(info, "hits"),
        first=first,
    )
    hits = [TranscriptHit.of(hit) for hit in found.hits]
    return TranscriptSearch(hits=hits, is_cut=found.is_cut, unreadable_count=found.unreadable_count)


@strawberry.input(description="With this input, a doctor corrects the text of one turn.")
class CorrectTranscriptInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a recording of the calling doctor with a READY transcript."
    )
    turn_number: int = strawberry.field(description="This is the number of the turn, as in `Turn.number`.")
    text: str = strawberry.field(
        description="The whole corrected text of the turn, in at most 30,000 characters."
    )
    expected_text: str | None = strawberry.field(
        default=None,
        description=(
            "This is the text of the turn that the doctor saw. If the turn has a different text now, the call "
            "is refused with `TURN_CHANGED`, unless the turn already has the corrected text. By default, any "
            "text is corrected."
        ),
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="`correctTranscript` returns this payload.")
class CorrectTranscriptPayload:
    transcript: Transcript = strawberry.field(description="This is the transcript with the correction.")


@strawberry.input(description="With this input, a doctor names the speaker of a turn.")
class AttributeTurnInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a recording of the calling doctor with a READY transcript."
    )
    turn_number: int = strawberry.field(description="This is the number of the turn, as in `Turn.number`.")
    speaker: model.Speaker = strawberry.field(description="This is the speaker of the turn.")
    only_this_turn: bool = strawberry.field(
        default=False,
        description=(
            "If it is true, only this turn gets the speaker, and not all turns with the same voice. It is "
            "meant for a voice under which two people speak, such as a patient and a companion at one "
            "microphone."
        ),
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="`attributeTurn` returns this payload.")
class AttributeTurnPayload:
    transcript: Transcript = strawberry.field(description="This is the transcript with the speaker.")


@strawberry.type(
    description=(
        "Two subtitle links of this API, which are valid until they expire or the caller's session ends."
    )
)
class SubtitleUrls:
    webvtt: str = strawberry.field(
        description="This is the address of the WebVTT subtitles, relative to the API's address."
    )
    srt: str = strawberry.field(
        description="This is the address of the SRT subtitles, relative to the API's address."
    )
    expires_at: datetime = strawberry.field(
        description="This is the time until which the links are valid at most."
    )
    expires_in_seconds: int = strawberry.field(
        description=(
            "The links are valid for at most this many seconds from now on. The value does not depend on the "
            "client's clock."
        )
    )
    redisclosure_notice: str | None = strawberry.field(
        description=(
            "This notice accompanies information about the treatment of a substance use disorder (42 CFR 2.32), in the "
            "language of the request. It is null if the consultation is not of the sensitivity `SUBSTANCE_USE`."
        )
    )

    @classmethod
    def of(cls, link: service.SubtitleLink, language: Language) -> Self:
        path = f"/subtitles/{link.secret}"
        return cls(
            webvtt=f"{path}.vtt",
            srt=f"{path}.srt",
            expires_at=link.expires_at,
            expires_in_seconds=link.expires_in_seconds,
            redisclosure_notice=redisclosure_notice(language) if link.has_notice else None,
        )


@strawberry.input(description="With this input, a doctor gets links to the subtitles of a recording.")
class IssueSubtitleUrlsInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a recording of the calling doctor with a READY transcript."
    )


@strawberry.type(description="`issueSubtitleUrls` returns this payload.")
class IssueSubtitleUrlsPayload:
    subtitle_urls: SubtitleUrls = strawberry.field(description="These are the links to the subtitles.")


async def correct_transcript(info: Info, input: CorrectTranscriptInput) -> CorrectTranscriptPayload | None:
    """Correct the text of a turn. After a correction, the database also keeps the text before the correction."""
    read = await info.context.services.transcripts.reword(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.turn_number,
        input.text,
        select(info, "transcript"),
        expected_text=input.expected_text,
        idempotency_key=input.idempotency_key,
    )
    return CorrectTranscriptPayload(transcript=Transcript.of(read))


async def attribute_turn(info: Info, input: AttributeTurnInput) -> AttributeTurnPayload | None:
    """Name the speaker of a turn and of all other turns with the same voice. If the turn's voice is unknown, name
    only the speaker of this one turn.
    """
    read = await info.context.services.transcripts.attribute(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.turn_number,
        input.speaker,
        select(info, "transcript"),
        only_this_turn=input.only_this_turn,
        idempotency_key=input.idempotency_key,
    )
    return AttributeTurnPayload(transcript=Transcript.of(read))


async def issue_subtitle_urls(info: Info, input: IssueSubtitleUrlsInput) -> IssueSubtitleUrlsPayload | None:
    """Issue short-lived subtitle links for a video player."""
    link = await info.context.services.transcripts.issue_subtitle_link(
        await info.context.asker(), parse_id(input.recording_id)
    )
    return IssueSubtitleUrlsPayload(subtitle_urls=SubtitleUrls.of(link, info.context.language))


@strawberry.input(description="With this input, a doctor retries a transcription.")
class RetryTranscriptionInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a recording of the calling doctor."
    )


@strawberry.type(description="`retryTranscription` returns this payload.")
class RetryTranscriptionPayload:
    recording: Recording = strawberry.field(
        description="This is the recording with the state of its transcription."
    )


@strawberry.input(description="With this input, a doctor switches the transcription of a consultation.")
class SwitchTranscriptionInput:
    consultation_id: strawberry.ID = strawberry.field(
        description="This is the id of a consultation of the calling doctor."
    )
    is_transcribed: bool = strawberry.field(
        description="If it is true, recordings of the consultation are transcribed from now on."
    )


@strawberry.type(description="`switchTranscription` returns this payload.")
class SwitchTranscriptionPayload:
    consultation: Consultation = strawberry.field(
        description="This is the consultation with the new setting."
    )


async def retry_transcription(info: Info, input: RetryTranscriptionInput) -> RetryTranscriptionPayload | None:
    """Retry a transcription that FAILED or was OFF, or only the unintelligible turns of a READY transcript.

    The worker does not send a chunk again that the speech service has already answered. A READY transcript stays
    readable, and no turn changes its number.
    """
    retried = await info.context.services.transcripts.retry(
        await info.context.asker(), parse_id(input.recording_id), select(info, "recording")
    )
    return RetryTranscriptionPayload(recording=shown(Recording, retried))


async def switch_transcription(
    info: Info, input: SwitchTranscriptionInput
) -> SwitchTranscriptionPayload | None:
    """Switch transcription of the consultation's later recordings on or off. If the doctor switches transcription
    off, a running transcription ends.
    """
    switched = await info.context.services.transcripts.switch(
        await info.context.asker(),
        parse_id(input.consultation_id),
        select(info, "consultation"),
        is_on=input.is_transcribed,
    )
    return SwitchTranscriptionPayload(consultation=shown(Consultation, switched))
