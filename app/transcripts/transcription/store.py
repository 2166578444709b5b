"""Reads and writes the database rows of a transcription. Each SQL function that this module calls first checks that
the recording is still to be transcribed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from app.keys.keyring import DataKey
from app.media.sound_plans import Span
from app.postgres.database import Transaction
from app.postgres.queries import Queries
from app.transcripts.model import Speaker
from app.transcripts.transcription.assembly import Voice
from app.transcripts.transcription.chunk_plans import ChunkPlan, PlannedChunk, Sound

_sql = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class BegunTranscription:
    """A transcription that this worker has begun: the sound files to transcribe, and the recording's wrapped data
    key. `run` identifies this attempt of a worker to transcribe the recording, so that a later attempt can take
    over.

    Before the plan of chunks is stored, `sounds` contains the video and the microphones' files that are to be
    transcribed. After the plan of chunks is stored, `sounds` contains only the files of the plan. `language` is the
    ISO 639-1 code for the speech service, or None if the service detects the language.
    """

    sounds: tuple[Sound, ...]
    wrapped: bytes = field(repr=False)
    root_key_id: str
    is_planned: bool
    run: int
    language: str | None


async def begin(tx: Transaction, recording_id: UUID, texts: Sequence[str]) -> BegunTranscription | None:
    """Begin or continue a transcription. Return None if nothing is left to transcribe, or if the sound recording of
    a microphone is not complete yet.
    """
    rows = await tx.all(_sql["begin"], {"id": recording_id, "texts": list(texts)})
    if not rows:
        return None
    first = rows[0]
    sounds = (
        Sound(
            row["sound"],
            row["medium"],
            row["object_key"],
            row["size_bytes"],
            row["late_ms"],
            tuple(Voice(label, Speaker(speaker), UUID(one)) for label, speaker, one in row["voices"]),
        )
        for row in rows
    )
    return BegunTranscription(
        tuple(sounds),
        first["wrapped"],
        first["root_key"],
        first["is_planned"],
        first["run"],
        first["language"],
    )


async def store_chunks(tx: Transaction, recording_id: UUID, plan: ChunkPlan) -> None:
    """Store the planned chunks, unless a plan is already stored."""
    rows = [
        {
            "sound": str(chunk.sound),
            "late_ms": chunk.late_ms,
            "channel": chunk.span.channel,
            "source": chunk.span.source,
            "start_ms": chunk.span.start_ms,
            "end_ms": chunk.span.end_ms,
            "label": chunk.voice.label,
            "speaker": chunk.voice.speaker.value,
            "participant_id": chunk.voice.participant_id and str(chunk.voice.participant_id),
        }
        for chunk in plan.chunks
    ]
    parameters = {"id": recording_id, "chunks": Jsonb(rows), "unused_tracks": plan.unused_tracks}
    await tx.run(_sql["store_chunks"], parameters)


async def list_unanswered_chunks(tx: Transaction, recording_id: UUID) -> dict[int, PlannedChunk]:
    """Return the chunks for which the speech service has not answered yet, as a dict from the number of each chunk
    to the chunk.
    """
    rows = await tx.all(_sql["list_unanswered_chunks"], {"id": recording_id})
    return {
        row["number"]: PlannedChunk(
            row["sound"],
            Span(row["channel"], row["start_ms"], row["end_ms"], row["source"]),
            Voice(row["label"], Speaker(row["speaker"]), row["participant_id"]),
            row["late_ms"],
        )
        for row in rows
    }


async def is_any_chunk_transcribed(tx: Transaction, recording_id: UUID) -> bool:
    """Return whether the speech service has transcribed at least one chunk of this recording. For the retry of a
    READY transcript, the method always returns True.
    """
    return bool(await tx.value(_sql["is_any_chunk_transcribed"], {"id": recording_id}))


async def is_chunk_wanted(tx: Transaction, recording_id: UUID, run: int, number: int) -> bool | None:
    """Return True if a chunk must be sent, False if another worker has transcribed it, and None if the recording is
    no longer to be transcribed.

    Raises Conflict (transcription_overtaken) if another worker has taken over the transcription.
    """
    wanted: bool | None = await tx.value(
        _sql["is_chunk_wanted"], {"id": recording_id, "run": run, "number": number}
    )
    return wanted


async def count_failed_request(tx: Transaction, recording_id: UUID, number: int) -> int:
    """Count an attempt for a chunk that was sent to the speech service and brought no result, because the service
    may still charge for it. Return how many attempts without a result the chunk has had.
    """
    return int(await tx.value(_sql["count_failed_request"], {"id": recording_id, "number": number}))


async def store_answer(
    tx: Transaction, recording_id: UUID, number: int, ciphertext: bytes, *, gives_up: bool = False
) -> None:
    """Store the answer for a chunk, if the recording is still to be transcribed and the chunk has no answer yet.
    `gives_up` is true if the chunk is stored as unintelligible, because its last attempt failed.
    """
    parameters = {"id": recording_id, "number": number, "ciphertext": ciphertext, "gives_up": gives_up}
    await tx.run(_sql["store_answer"], parameters)


async def count_transcribed_sound(
    tx: Transaction, recording_id: UUID, *, vendor: str, model: str, duration_ms: int
) -> None:
    """Add the duration of sound that the speech service transcribed to the recording's cost ledger."""
    parameters = {"id": recording_id, "vendor": vendor, "model": model, "duration_ms": duration_ms}
    await tx.run(_sql["count_transcribed_sound"], parameters)


@dataclass(frozen=True)
class EncryptedAnswer:
    """The speech service's answer for a chunk, encrypted. `turn` is the number of the turn that the answer
    replaces, if the transcript was READY before.
    """

    ciphertext: bytes = field(repr=False)
    is_unintelligible: bool
    turn: int | None


async def read_answers(tx: Transaction, recording_id: UUID) -> dict[int, EncryptedAnswer] | None:
    """Return the speech service's answers for all chunks, by the number of the chunk. Return None while the answer
    for a chunk is missing, or if the recording is no longer to be transcribed.
    """
    rows = await tx.all(_sql["read_answers"], {"id": recording_id})
    return {
        row["number"]: EncryptedAnswer(row["answer"], row["is_unintelligible"], row["turn"]) for row in rows
    } or None


@dataclass(frozen=True)
class RetriedTranscript:
    """A READY transcript whose unintelligible turns are being transcribed again, and its corrections, all
    encrypted.
    """

    ciphertext: bytes = field(repr=False)
    corrections: tuple[bytes, ...] = field(repr=False)


async def read_retried_transcript(tx: Transaction, recording_id: UUID) -> RetriedTranscript | None:
    """Return the READY transcript that is being retried, or None if the transcript is not a retry."""
    row = await tx.one(_sql["read_retried_transcript"], {"id": recording_id})
    return None if row is None else RetriedTranscript(row["ciphertext"], tuple(row["corrections"]))


@dataclass(frozen=True)
class FinishedTranscript:
    """A finished transcript to store. `ciphertext` is None if the transcript has no turn.

    `terms` are the word index's numbers for the words of the transcript. `corrections` is the number of the
    transcript's corrections that the worker had read. `turns_of_chunks` maps the number of each unintelligible
    chunk to the number of its turn.
    """

    language: str | None
    ciphertext: bytes | None = field(repr=False)
    terms: Sequence[int]
    corrections: int
    unintelligible_count: int
    turns_of_chunks: Mapping[int, int]


async def finish(tx: Transaction, recording_id: UUID, finished: FinishedTranscript) -> None:
    """Store the transcript as READY, or as NO_SPEECH if it has no turn.

    Raises Conflict (concurrent_change) if the transcript was corrected after the worker read it.
    """
    await tx.run(
        _sql["finish"],
        {
            "id": recording_id,
            "language": finished.language,
            "new_text": finished.ciphertext,
            "terms": list(finished.terms),
            "corrections": finished.corrections,
            "turns_without_text": finished.unintelligible_count,
            "unintelligible_chunks": list(finished.turns_of_chunks),
            "unintelligible_turns": list(finished.turns_of_chunks.values()),
        },
    )


async def give_up(tx: Transaction, recording_id: UUID, status: Literal["FAILED", "OFF"], reason: str) -> None:
    """End the transcription with a reason, which the doctor sees."""
    await tx.run(_sql["give_up"], {"id": recording_id, "status": status, "reason": reason})


async def queue_unfinished(tx: Transaction) -> None:
    """Queue a job for each unfinished transcription that has no job."""
    await tx.run(_sql["resume"])


async def store_word_index_key(tx: Transaction, offered: DataKey) -> tuple[bytes, str]:
    """Store the given key of the word index, unless a key is stored already. Return the key of the word index that
    is now stored, still wrapped, and the id of the root key that wraps it.
    """
    row = await tx.one(
        _sql["word_index_key"], {"wrapped": offered.wrapped, "root_key_id": offered.root_key_id}
    )
    assert row is not None  # noqa: S101 - the function always returns one row
    return row["wrapped"], row["root_key"]
