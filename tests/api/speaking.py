"""A test helper that stores transcripts of recordings in the same way as the worker."""

from collections.abc import Sequence
from uuid import UUID

from app.integrations.speech.answers import NO_FIGURES, Figures
from app.transcripts import encryption
from app.transcripts.model import Speaker, Transcript, Turn
from app.transcripts.search.word_index import IndexKey, hash_transcript
from app.transcripts.transcript_format import format_transcript
from app.transcripts.transcription import store
from tests.api.harness import ApiHarness

SAID = (
    (Speaker.DOCTOR, "Good morning. How long have you had the headaches?"),
    (Speaker.PATIENT, "For two weeks, and the pills do nothing."),
    (Speaker.DOCTOR, "Take ibuprofen, 400 mg, twice a day."),
)

UNCERTAIN = "? "
"""The prefix of a text that the transcription marked as uncertain."""


async def store_transcript(
    harness: ApiHarness,
    recording: UUID,
    said: tuple[tuple[Speaker, str], ...] = SAID,
    *,
    language: str = "en",
    microphones: Sequence[UUID] = (),
    figures: Figures = NO_FIGURES,
) -> Transcript:
    """Store a transcript with these turns for the recording. For each turn, `microphones` names the participant
    whose microphone recorded the turn. `figures` are the speech service's confidence values of every turn.
    """
    keyring = harness.worker_settings.keyring
    turns = (
        Turn(
            number,
            number * 5000,
            number * 5000 + 4000,
            speaker,
            text.removeprefix(UNCERTAIN),
            microphones.index(microphones[number]) if microphones else number % 2,
            is_unintelligible=not text,
            is_uncertain=text.startswith(UNCERTAIN),
            figures=figures,
            participant_id=microphones[number] if microphones else None,
        )
        for number, (speaker, text) in enumerate(said)
    )
    transcript = Transcript(tuple(turns), language)
    offered = keyring.new_data_key()
    (key,) = await harness.rows(
        "insert into private.recording_keys as k values (%s, %s, %s) on conflict (recording_id)"
        " do update set root_key_id = k.root_key_id returning wrapped_key, root_key_id",
        recording,
        offered.wrapped,
        offered.root_key_id,
    )
    await harness.rows(
        "insert into resguardo.transcripts (recording_id, consultation_id, doctor_id, patient_id, status, chunks_total)"
        " select r.id, r.consultation_id, r.doctor_id, r.patient_id, 'RUNNING', 0 from resguardo.recordings as r"
        " where r.id = %s on conflict (recording_id) do update set status = 'RUNNING', error = null",
        recording,
    )
    async with harness.services.database.as_service("tests") as tx:
        wrapped, root_key_id = await store.store_word_index_key(tx, keyring.new_data_key())
        index_key = IndexKey(keyring.unwrap_secret(wrapped, root_key_id))
        ciphertext = keyring.unwrap(key["wrapped_key"], key["root_key_id"]).encrypt(
            encryption.transcript_field(recording), format_transcript(transcript)
        )
        await store.finish(
            tx,
            recording,
            store.FinishedTranscript(
                language=language,
                ciphertext=ciphertext,
                terms=sorted(hash_transcript(index_key, transcript)),
                corrections=0,
                unintelligible_count=sum(turn.is_unintelligible for turn in transcript.turns),
                turns_of_chunks={},
            ),
        )
    return transcript
