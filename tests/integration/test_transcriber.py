"""Tests of the transcriber: a recording is transcribed once, stored only in encrypted form, and resumed after an
interruption.
"""

from array import array
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from io import BytesIO
from statistics import median
from uuid import UUID

import av
import pytest

from app.errors import Conflict, RateLimited
from app.integrations.speech.client import Speech
from app.settings import SpeechApi
from app.transcripts import encryption
from app.transcripts.model import Speaker, Transcript
from app.transcripts.transcript_format import parse_transcript
from app.transcripts.transcription.service import Transcriber
from devstack.object_store import ObjectStore
from devstack.openai import OpenAIStandIn, Order, create_openai_app
from tests.databases import Database
from tests.integration.recording_harness import served
from tests.integration.retention_harness import KEYRING, RetentionHarness, opened
from tests.integration.spoken import FIXTURES, RATE, channels, mp4, turns, word_error_rate

pytestmark = pytest.mark.anyio

KEY = "sk-of-the-tests"
SECONDS = 16.0
OPUS_RATE = 48_000
"""The clock rate of Opus timestamps, for every recorded sample rate (RFC 7845)."""
SAID = [turn for turn in turns() if turn.end < SECONDS]


@dataclass
class Practice:
    """A test practice, with the transcriber and the speech service that transcribe its recordings."""

    harness: RetentionHarness
    stand_in: OpenAIStandIn
    transcriber: Transcriber

    async def recorded(self, sound: bytes | None = None) -> UUID:
        """Insert a READY video, and the sound recording that has the doctor and the patient on separate channels.
        Return the id of the video.
        """
        consultation = await self.harness.consultation()
        for kind in ("DOCTOR", "PATIENT"):
            await self.harness.participant(consultation, kind)
        video = await self.harness.recording(consultation)
        await self.harness.recording(
            consultation, medium="SPEAKERS", video_id=video, is_routed=True, content=sound or beginning()
        )
        return video

    async def state_of(self, video: UUID) -> tuple[str, str | None, int, int | None]:
        rows = await self.harness.rows(
            "select status, error, chunks_done, chunks_total from resguardo.transcripts where recording_id = %s",
            video,
        )
        return tuple(rows[0].values())

    async def transcript_of(self, video: UUID) -> Transcript:
        rows = await self.harness.rows(
            "select w.ciphertext, k.wrapped_key, k.root_key_id from private.transcript_texts as w"
            " inner join private.recording_keys as k on k.recording_id = w.recording_id where w.recording_id = %s",
            video,
        )
        sealed, wrapped, root_key_id = rows[0].values()
        return parse_transcript(
            KEYRING.unwrap(wrapped, root_key_id).decrypt(encryption.transcript_field(video), sealed)
        )


@cache
def beginning() -> bytes:
    """Return the first seconds of the sound fixture's two channels."""
    file = BytesIO()
    with (
        av.open(str(FIXTURES / "headache.dual.ogg")) as whole,
        av.open(file, "w", format="ogg") as cut,
    ):
        source = whole.streams.audio[0]
        copied = cut.add_stream_from_template(source)
        for packet in whole.demux(source):
            if packet.pts is not None and packet.pts / OPUS_RATE < SECONDS:
                packet.stream = copied
                cut.mux(packet)
    return file.getvalue()


@pytest.fixture
async def practice(database: Database, emptied_store: ObjectStore) -> AsyncIterator[Practice]:
    async with AsyncExitStack() as stack:
        harness = await stack.enter_async_context(opened(database, emptied_store))
        for key_id, value in KEYRING.check_values().items():
            await harness.rows(
                "insert into private.root_keys (id, check_value) values (%s, %s)", key_id, value
            )
        app = create_openai_app(KEY)
        url = await stack.enter_async_context(served(app))
        speech = Speech(api_key=KEY, model="gpt-transcribe", api=SpeechApi.TEXT, base_url=f"{url}/v1")
        stack.push_async_callback(speech.aclose)
        yield Practice(
            harness, app.state.stand_in, Transcriber(harness.worker, harness.storage, speech, KEYRING)
        )


async def test_speech_of_both_is_stored_with_turns_and_times(practice: Practice) -> None:
    video = await practice.recorded()
    await practice.transcriber.transcribe(video)
    status, error, done, total = await practice.state_of(video)
    assert (status, error, done) == ("READY", None, total)
    transcript = await practice.transcript_of(video)
    speakers = [Speaker(turn.speaker.upper()) for turn in SAID]
    assert [turn.speaker for turn in transcript.turns][: len(SAID)] == speakers
    pairs = [(said.text, turn.text) for said, turn in zip(SAID, transcript.turns, strict=False)]
    assert word_error_rate(pairs) <= 0.3
    assert all(
        abs(turn.start_ms / 1000 - said.start) < 0.3
        for said, turn in zip(SAID, transcript.turns, strict=False)
    )
    assert await practice.harness.value("select count(*) from private.transcript_chunks") == 0


def second(number: float) -> int:
    """Return how many bytes the given number of seconds of sound has, with 16-bit samples at 16 kHz."""
    return round(number * RATE) * 2


def microphones() -> list[bytes]:
    """Return the two channels of the sound fixture, up to the end of the speech, in the form in which two
    microphones would record them. Each of the two channels also contains the voice of the other channel, 24 dB
    softer.
    """
    return [channel[: second(SAID[-1].end + 0.3)] for channel in channels()]


def mixed(*channels: bytes) -> bytes:
    """Return the sound of the whole room, mixed from all channels."""
    together = [array("h", channel) for channel in channels]
    return array(
        "h", [max(-32_768, min(32_767, sum(samples))) for samples in zip(*together, strict=True)]
    ).tobytes()


async def recorded_apart(practice: Practice, parts: dict[str, tuple[bytes, float]], video: bytes) -> UUID:
    """Insert a READY video, and one microphone recording with the given start time for each kind of participant.
    The stored start time of the video is 0.9 s too late, as LiveKit may report it.
    """
    harness = practice.harness
    consultation = await harness.consultation()
    recording = await harness.recording(consultation, status="VERIFYING")
    key = KEYRING.new_data_key()
    await harness.rows(
        "insert into private.recording_keys values (%s, %s, %s)", recording, key.wrapped, key.root_key_id
    )
    made = [(recording, video, 0.9)]
    for kind, (content, began) in parts.items():
        participant = await harness.participant(
            consultation, kind, "INTERPRETER" if kind == "GUEST" else None
        )
        one = await harness.recording(
            consultation, medium="MICROPHONE", video_id=recording, participant=participant, status="VERIFYING"
        )
        made.append((one, content, began + 0.09))
    for one, content, began in reversed(made):
        await harness.storage.put_new(await harness.key_of(one), content, "video/mp4")
        await harness.rows(
            "update resguardo.recordings set started_at = private.now() + make_interval(secs => %s),"
            " status = 'READY', size_bytes = %s where id = %s",
            began,
            len(content),
            one,
        )
    return recording


async def test_transcribed_sound_is_in_the_cost_ledger(practice: Practice) -> None:
    video = await practice.recorded()
    await practice.transcriber.transcribe(video)
    rows = await practice.harness.rows(
        "select vendor, model, unit, quantity from private.cost_entries where recording_id = %s and kind = 'SPEECH'",
        video,
    )
    [(vendor, model, unit, quantity)] = [tuple(row.values()) for row in rows]
    assert (vendor, model, unit) == ("127.0.0.1", practice.stand_in.calls[0].model, "MILLISECONDS")
    sent = sum(call.seconds for call in practice.stand_in.calls)
    assert quantity == pytest.approx(1000 * sent, rel=0.01)


async def test_separate_microphones_name_each_speaker_at_the_videos_times(practice: Practice) -> None:
    """In this test the video starts first, and the microphones start 0.4 s and 1 s later. In this test, the file of
    each microphone ends with 4 s of silence.
    """
    doctor, patient = microphones()
    before, silence = bytes(second(2.0)), bytes(second(4.0))
    video = mp4(before + mixed(doctor, patient) + silence)
    parts = {
        "PATIENT": (mp4(before[second(0.4) :] + patient + silence), 0.4),
        "DOCTOR": (mp4(before[second(1.0) :] + doctor + silence), 1.0),
    }
    recording = await recorded_apart(practice, parts, video)
    await practice.transcriber.transcribe(recording)
    assert (await practice.state_of(recording))[:2] == ("READY", None)
    transcript = await practice.transcript_of(recording)
    assert [turn.speaker for turn in transcript.turns] == [Speaker(turn.speaker.upper()) for turn in SAID]
    errors = [
        abs(turn.start_ms / 1000 - 2.0 - said.start)
        for said, turn in zip(SAID, transcript.turns, strict=True)
    ]
    assert median(errors) < 0.15, "a turn begins up to a tenth of a second before its speech"
    assert max(errors) < 0.25
    assert len(practice.stand_in.calls) == len(SAID)


async def test_guest_without_a_recorded_microphone_is_transcribed_from_the_video(practice: Practice) -> None:
    doctor, guest = microphones()
    recording = await recorded_apart(practice, {"DOCTOR": (mp4(doctor), 0.0)}, mp4(mixed(doctor, guest)))
    await practice.transcriber.transcribe(recording)
    transcript = await practice.transcript_of(recording)
    said = [Speaker.DOCTOR if turn.speaker == "doctor" else Speaker.UNKNOWN for turn in SAID]
    assert [turn.speaker for turn in transcript.turns] == said
    pairs = [(said.text, turn.text) for said, turn in zip(SAID, transcript.turns, strict=True)]
    assert word_error_rate(pairs) <= 0.3


def two_tracks(*, is_second_decodable: bool) -> bytes:
    """Return an MP4 file with two audio tracks: the doctor's first words on one, and a tone on the other."""
    file = BytesIO()
    with av.open(BytesIO(beginning()), "r") as speech, av.open(file, "w", format="mov") as movie:
        source = speech.streams.audio[0]
        copied = movie.add_stream("aac", rate=OPUS_RATE, layout="stereo")
        other = movie.add_stream("aac" if is_second_decodable else "pcm_mulaw", rate=OPUS_RATE, layout="mono")
        for frame in speech.decode(source):
            movie.mux(copied.encode(frame))
        movie.mux(copied.encode(None))
        silence = av.AudioFrame(format="s16", layout="mono", samples=OPUS_RATE)
        silence.planes[0].update(bytes(OPUS_RATE * 2))
        silence.sample_rate, silence.pts, silence.time_base = OPUS_RATE, 0, Fraction(1, OPUS_RATE)
        frames = av.AudioResampler(other.format, "mono", OPUS_RATE, frame_size=1024).resample(silence)
        for part in (*frames, None):
            movie.mux(other.encode(part))
    return file.getvalue()


@pytest.mark.parametrize("is_second_decodable", [True, False])
async def test_transcript_reports_the_number_of_missing_tracks(
    practice: Practice, is_second_decodable: bool
) -> None:
    video = await practice.harness.recording(content=two_tracks(is_second_decodable=is_second_decodable))
    await practice.transcriber.transcribe(video)
    assert (await practice.state_of(video))[0] == "READY"
    lacks = await practice.harness.value("select unused_track_count from resguardo.transcripts")
    assert lacks == (0 if is_second_decodable else 1)


async def test_sound_that_cannot_be_decoded_is_a_failure_and_not_silence(practice: Practice) -> None:
    file = BytesIO()
    with av.open(file, "w", format="mov") as movie:
        stream = movie.add_stream("pcm_mulaw", rate=8_000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=80_000)
        frame.planes[0].update(bytes(160_000))
        frame.sample_rate, frame.pts, frame.time_base = 8_000, 0, Fraction(1, 8_000)
        movie.mux([*stream.encode(frame), *stream.encode(None)])
    video = await practice.harness.recording(content=file.getvalue())
    await practice.transcriber.transcribe(video)
    assert await practice.state_of(video) == ("FAILED", "sound_not_decodable", 0, None)


async def test_chunk_with_an_answer_is_not_sent_again_after_a_failure(practice: Practice) -> None:
    video = await practice.recorded()
    await _transcribe_until_it_fails(practice, video)
    done, total = (await practice.state_of(video))[2:]
    assert total is not None
    assert 0 < done < total
    await practice.transcriber.transcribe(video)
    assert (await practice.state_of(video))[0] == "READY"
    digests = [call.sha256 for call in practice.stand_in.calls]
    assert len(digests) == len(set(digests)) + 1, "only the failed chunk is sent again"


async def _transcribe_until_it_fails(practice: Practice, video: UUID) -> None:
    take = practice.stand_in.orders.take
    asked = 0

    def second_is_refused() -> Order | None:
        nonlocal asked
        asked += 1
        return Order("rate_limit") if asked == 2 else take()

    practice.stand_in.orders.take = second_is_refused  # type: ignore[method-assign, assignment]
    with pytest.raises(RateLimited, match="speech_busy"):
        await practice.transcriber.transcribe(video)


async def test_no_word_of_a_transcript_is_in_the_database(practice: Practice) -> None:
    before = await _all_rows(practice.harness)
    video = await practice.recorded()
    await _transcribe_until_it_fails(practice, video)
    half_way = await _all_rows(practice.harness)
    await practice.transcriber.transcribe(video)
    said = " ".join(turn.text for turn in (await practice.transcript_of(video)).turns).lower().split()
    words = {word for word in said if len(word) > 4 and word not in before}
    assert len(words) > 5
    for rows in (half_way, await _all_rows(practice.harness)):
        assert not [word for word in words if word in rows]


async def _all_rows(harness: RetentionHarness) -> str:
    tables = await harness.rows(
        "select c.oid::regclass::text as name from pg_class as c where c.relkind in ('r', 'm')"
        " and c.relnamespace in ('resguardo'::regnamespace, 'private'::regnamespace, 'audit'::regnamespace,"
        " 'jobs'::regnamespace)"
    )
    found = []
    for table in tables:
        query = f"select t::text as row from {table['name']} as t"  # noqa: S608 - table names from the catalogue
        found += [row["row"] for row in await harness.rows(query)]
    return "\n".join(found).lower()


async def test_ciphertext_in_another_row_cannot_be_decrypted(practice: Practice) -> None:
    video = await practice.recorded()
    await practice.transcriber.transcribe(video)
    rows = await practice.harness.rows(
        "select w.ciphertext, k.wrapped_key, k.root_key_id from private.transcript_texts as w"
        " inner join private.recording_keys as k on k.recording_id = w.recording_id"
    )
    sealed, wrapped, root_key_id = rows[0].values()
    key = KEYRING.unwrap(wrapped, root_key_id)
    with pytest.raises(Conflict, match="field_unreadable"):
        key.decrypt(encryption.correction_field(video, 1), sealed)


async def test_no_chunk_is_sent_after_transcription_is_switched_off(practice: Practice) -> None:
    video = await practice.recorded()
    await _transcribe_until_it_fails(practice, video)
    await practice.harness.rows("update resguardo.consultations set transcribe = false")
    before = len(practice.stand_in.calls)
    await practice.transcriber.transcribe(video)
    assert len(practice.stand_in.calls) == before
    assert (await practice.state_of(video))[:2] == ("OFF", "switched_off")


async def test_refused_sound_fails_the_transcription(practice: Practice) -> None:
    video = await practice.recorded(b"OggS" + bytes(5000))
    await practice.transcriber.transcribe(video)
    assert (await practice.state_of(video))[:2] == ("FAILED", "media_unreadable")
    await practice.transcriber.transcribe(video)
    assert practice.stand_in.calls == []
