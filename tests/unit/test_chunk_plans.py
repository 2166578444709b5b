"""Tests of transcription plans. A plan contains the chunks of sound to transcribe, and the speaker of each chunk.
Each microphone recording belongs to one participant, and the plan contains the speech of every speaker.
"""

from collections.abc import Mapping
from uuid import UUID, uuid4

import pytest

from app.errors import Conflict
from app.media.alignment import shift_frames
from app.media.child_process import MediaRefused
from app.media.sound_plans import Cut, SoundFrames
from app.media.turns import FRAME_MS, SPEECH
from app.transcripts.model import Speaker
from app.transcripts.transcription.assembly import Voice
from app.transcripts.transcription.chunk_plans import ChunkPlan, PlannedChunk, Sound, plan_chunks
from tests.unit.talking import noisy, talk, video_of

pytestmark = pytest.mark.anyio

FRAMES = 3_000
DOCTOR = Voice(0, Speaker.DOCTOR, uuid4())
PATIENT = Voice(1, Speaker.PATIENT, uuid4())
VIDEO = Sound(uuid4(), "VIDEO", "r/video.mp4", 1, 0, ())
BROKEN = SoundFrames(90_000, (bytes(FRAMES),), frozenset((0,)), unused_tracks=1)


def microphone(voice: Voice, late_ms: int = 0) -> Sound:
    return Sound(uuid4(), "MICROPHONE", "r/microphone-1.mp4", 1, late_ms, (voice,))


def speakers(*voices: Voice, late_ms: int = 0) -> Sound:
    return Sound(uuid4(), "SPEAKERS", "r/speakers.ogg", 1, late_ms, voices)


def listened(*channels: bytes) -> SoundFrames:
    return SoundFrames(len(channels[0]) * FRAME_MS if channels else 0, channels)


def refusal() -> MediaRefused:
    return MediaRefused("media_unreadable")


async def planned(sounds: Mapping[Sound, SoundFrames | MediaRefused], cut: Cut = Cut.WINDOWS) -> ChunkPlan:
    async def measure(one: Sound) -> SoundFrames:
        found = sounds[one]
        if isinstance(found, MediaRefused):
            raise found
        return found

    return await plan_chunks(list(sounds), measure, cut)


def apart(seed: int, *, is_first: bool) -> bytes:
    """Return the sound of a person who speaks only in the first half of every 15 s, or only in the second half."""
    said = talk(FRAMES, seed=seed)
    return bytes(
        frame if (number % 500 < 230) is is_first and number % 250 < 230 else 0
        for number, frame in enumerate(said)
    )


A, B = apart(1, is_first=True), apart(2, is_first=False)
WORD = talk(500, seed=3, share=0.9)[-200:-188]


def times(plan: ChunkPlan, of: Sound) -> list[tuple[int, int]]:
    """Return the start and the end of each chunk of a sound recording, on the video's timeline."""
    return [
        (chunk.span.start_ms + chunk.late_ms, chunk.span.end_ms + chunk.late_ms)
        for chunk in plan.chunks
        if chunk.sound == of.id
    ]


def voices(plan: ChunkPlan) -> dict[UUID, set[Voice]]:
    found: dict[UUID, set[Voice]] = {}
    for chunk in plan.chunks:
        found.setdefault(chunk.sound, set()).add(chunk.voice)
    return found


def spoken(frames: bytes, within: list[tuple[int, int]]) -> float:
    """Return the fraction of the speech in `frames` that is within the time spans `within`."""
    speaking = [number * FRAME_MS for number, frame in enumerate(frames) if frame & SPEECH]
    return sum(any(start <= at < end for start, end in within) for at in speaking) / len(speaking)


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("wrong_ms", [0, -900, 1_400])
async def test_each_microphone_is_a_voice_on_the_videos_timeline(cut: Cut, wrong_ms: int) -> None:
    """Resguardo transcribes the recording of each microphone. Resguardo then takes no chunk from the video, because
    the video contains the same speech as the microphone recordings.
    """
    doctor, patient = microphone(DOCTOR, wrong_ms), microphone(PATIENT, 600 + wrong_ms)
    video = listened(video_of((A, 0), (B, 20), frames=FRAMES))
    plan = await planned({doctor: listened(A), patient: listened(B), VIDEO: video}, cut)
    assert voices(plan) == {doctor.id: {DOCTOR}, patient.id: {PATIENT}}
    assert spoken(A, times(plan, doctor)) > 0.99
    assert spoken(shift_frames(B, 600, FRAMES), times(plan, patient)) > 0.97
    assert all(abs(chunk.late_ms - 600) <= FRAME_MS for chunk in plan.chunks if chunk.sound == patient.id)
    assert all(end - start <= 30_000 for start, end in times(plan, patient)), "turns, also for windows"


@pytest.mark.parametrize("wrong_ms", [0, -900])
async def test_person_without_a_recorded_microphone_is_transcribed_from_the_video_without_a_name(
    wrong_ms: int,
) -> None:
    doctor = microphone(DOCTOR, wrong_ms)
    video = listened(video_of((A, 0), (B, 0), frames=FRAMES))
    plan = await planned({doctor: listened(A), VIDEO: video})
    assert voices(plan) == {doctor.id: {DOCTOR}, VIDEO.id: {Voice()}}
    assert spoken(B, times(plan, VIDEO)) > 0.95
    assert spoken(A, times(plan, VIDEO)) < 0.05, "the doctor's words are there once"


async def test_speech_before_a_microphone_was_recorded_comes_from_the_video() -> None:
    doctor, patient = microphone(DOCTOR), microphone(PATIENT, 1_000 * FRAME_MS)
    video = listened(video_of((A, 0), (B, 0), frames=FRAMES))
    plan = await planned({doctor: listened(A), patient: listened(B[1_000:]), VIDEO: video})
    assert spoken(B[:950], times(plan, VIDEO)) > 0.95
    assert spoken(bytes(1_050) + B[1_050:], times(plan, patient)) > 0.99
    assert spoken(bytes(1_050) + B[1_050:], times(plan, VIDEO)) < 0.02


async def test_microphone_that_is_published_again_is_the_same_voice() -> None:
    doctor, before, after = (
        microphone(DOCTOR),
        microphone(PATIENT),
        microphone(PATIENT, 1_500 * FRAME_MS - 900),
    )
    video = listened(video_of((A, 0), (B, 0), frames=FRAMES))
    plan = await planned({
        doctor: listened(A),
        before: listened(B[:1_490]),
        after: listened(B[1_500:]),
        VIDEO: video,
    })  # fmt: skip
    assert voices(plan)[before.id] == voices(plan)[after.id] == {PATIENT}
    assert spoken(B, times(plan, before) + times(plan, after)) > 0.97


async def test_part_with_a_word_alone_is_placed_by_what_was_measured_of_the_others() -> None:
    word = bytes(1_480) + WORD + bytes(1_508)
    doctor, patient = microphone(DOCTOR, -900), microphone(PATIENT, -900)
    video = listened(video_of((A, 0), (word, 0), frames=FRAMES))
    plan = await planned({doctor: listened(A), patient: listened(word), VIDEO: video})
    assert [abs(chunk.late_ms) <= FRAME_MS for chunk in plan.chunks if chunk.sound == patient.id] == [True]
    assert VIDEO.id not in voices(plan)


@pytest.mark.parametrize("video", [refusal(), listened(), listened(bytes(FRAMES)), BROKEN])
async def test_reported_times_stay_if_the_video_has_no_sound(video: SoundFrames | MediaRefused) -> None:
    doctor, patient = microphone(DOCTOR, -90), microphone(PATIENT, 5_000)
    plan = await planned({doctor: listened(A), patient: listened(B), VIDEO: video})
    assert voices(plan) == {doctor.id: {DOCTOR}, patient.id: {PATIENT}}
    assert {(chunk.sound, chunk.late_ms) for chunk in plan.chunks} == {(doctor.id, -90), (patient.id, 5_000)}


async def test_speech_is_not_planned_twice_if_the_reported_times_are_wrong_and_nothing_was_measured() -> None:
    word = bytes(1_000) + WORD + bytes(1_000)
    patient = microphone(PATIENT, -900)
    plan = await planned({
        patient: listened(word), VIDEO: listened(video_of((word, 0), frames=len(word), noise=2))
    })  # fmt: skip
    assert voices(plan) == {patient.id: {PATIENT}}


@pytest.mark.parametrize("part", [refusal(), BROKEN, listened()])
async def test_video_is_transcribed_if_a_part_cannot_be_decoded(part: SoundFrames | MediaRefused) -> None:
    doctor, patient = microphone(DOCTOR), microphone(PATIENT)
    plan = await planned({
        doctor: listened(A), patient: part, VIDEO: listened(video_of((A, 0), (B, 0), frames=FRAMES))
    })  # fmt: skip
    assert voices(plan) == {VIDEO.id: {Voice()}}
    assert plan.unused_tracks == 0
    assert min(spoken(A, times(plan, VIDEO)), spoken(B, times(plan, VIDEO))) > 0.95


@pytest.mark.parametrize("video", [refusal(), BROKEN])
@pytest.mark.parametrize("part", [refusal(), BROKEN])
async def test_transcript_says_what_it_lacks_if_neither_a_part_nor_the_video_can_be_decoded(
    part: SoundFrames | MediaRefused, video: SoundFrames | MediaRefused
) -> None:
    doctor, patient = microphone(DOCTOR), microphone(PATIENT)
    plan = await planned({doctor: listened(A), patient: part, VIDEO: video})
    assert voices(plan) == {doctor.id: {DOCTOR}}
    assert plan.unused_tracks == 1


async def test_nothing_that_can_be_decoded_is_never_silence() -> None:
    with pytest.raises(MediaRefused):
        await planned({microphone(DOCTOR): refusal(), VIDEO: refusal()})
    for part, video in ((BROKEN, refusal()), (refusal(), BROKEN), (BROKEN, BROKEN)):
        with pytest.raises(Conflict) as failed:
            await planned({microphone(DOCTOR): part, VIDEO: video})
        assert failed.value.reason == "sound_not_decodable"
    with pytest.raises(Conflict, match="sound_not_decodable"):
        await planned(
            {microphone(DOCTOR): listened(bytes(FRAMES)), microphone(PATIENT): BROKEN, VIDEO: BROKEN}
        )


async def test_silent_parts_and_a_silent_video_have_no_chunks() -> None:
    silent = listened(bytes(FRAMES))
    assert await planned(
        {microphone(DOCTOR): silent, microphone(PATIENT): silent, VIDEO: silent}
    ) == ChunkPlan((), 0)


def with_trace(own: bytes, other: bytes, decibels: float) -> bytes:
    """Return the sound of a microphone that records its owner and also, softer by `decibels`, a second person."""
    softer = round(decibels / 6.02 * 8)
    leak = bytes(max(0, (frame & 127) - softer) | (frame & SPEECH) for frame in other)
    return bytes(
        max(one & 127, other & 127) | (one | other) & SPEECH for one, other in zip(own, leak, strict=True)
    )


@pytest.mark.parametrize("decibels", [12, 20, 28])
@pytest.mark.parametrize("video_softer", [-16, 0, 16])
async def test_stranger_in_anothers_microphone_does_not_get_the_name_of_its_owner(
    decibels: float, video_softer: int
) -> None:
    """The doctor's microphone also records the patient, of whom there is no microphone recording. The sound of the
    video is louder or softer than the sound of the microphone recording.
    """
    doctor = microphone(DOCTOR)
    room = video_of((A, 0), (B, 0), frames=FRAMES, noise=4)
    video = bytes(min(127, max(0, (frame & 127) - video_softer)) | (frame & SPEECH) for frame in room)
    plan = await planned({doctor: listened(with_trace(A, B, decibels)), VIDEO: listened(video)})
    assert voices(plan) == {doctor.id: {DOCTOR}, VIDEO.id: {Voice()}}
    assert spoken(B, times(plan, VIDEO)) > 0.95
    assert spoken(B, times(plan, doctor)) < 0.05
    assert spoken(A, times(plan, doctor)) > 0.95


async def test_soft_voice_is_its_owners_however_loud_the_other_is() -> None:
    """The patient's speech is 15 dB softer than the doctor's, both in their microphone recordings and in the video."""
    soft = bytes(max(0, (frame & 127) - 20) | (frame & SPEECH) for frame in B)
    doctor, patient = microphone(DOCTOR), microphone(PATIENT)
    video = listened(video_of((A, 0), (soft, 0), frames=FRAMES, noise=4))
    plan = await planned({doctor: listened(A), patient: listened(soft), VIDEO: video})
    assert voices(plan) == {doctor.id: {DOCTOR}, patient.id: {PATIENT}}
    assert spoken(soft, times(plan, patient)) > 0.95


@pytest.mark.parametrize("video_lacks", ["a loud doctor", "a doctor", "half a minute"])
async def test_voices_stay_their_owners_in_a_video_that_has_one_of_them_softer_or_not_at_all(
    video_lacks: str,
) -> None:
    softer = bytes(max(0, (frame & 127) - 20) | (frame & SPEECH) for frame in A)
    of_doctor, hole = {
        "a loud doctor": (softer, 0),
        "a doctor": (bytes(FRAMES), 0),
        "half a minute": (A, 1_000),
    }[video_lacks]
    room = video_of((of_doctor, 0), (B, 0), frames=FRAMES, noise=4)
    doctor, patient = microphone(DOCTOR), microphone(PATIENT)
    video = listened(room[:500] + bytes(hole) + room[500 + hole :])
    plan = await planned({doctor: listened(A), patient: listened(B), VIDEO: video})
    assert voices(plan) == {doctor.id: {DOCTOR}, patient.id: {PATIENT}}
    assert min(spoken(A, times(plan, doctor)), spoken(B, times(plan, patient))) > 0.99


async def test_trace_of_another_microphone_is_not_said_twice() -> None:
    """The patient's microphone also records the doctor, 20 dB softer than the doctor's own microphone does. The
    recordings of the doctor's and the patient's microphones started at different times.
    """
    both = with_trace(B, A[10:] + bytes(10), 20)
    doctor, patient = microphone(DOCTOR), microphone(PATIENT, 300)
    video = listened(video_of((A, 0), (both, 10), frames=FRAMES))
    plan = await planned({doctor: listened(A), patient: listened(both), VIDEO: video})
    assert spoken(A, times(plan, patient)) < 0.05
    assert spoken(shift_frames(B, 300, FRAMES), times(plan, patient)) > 0.95


async def test_two_channels_are_named_only_if_they_were_routed() -> None:
    video = listened(video_of((A, 0), (B, 0), frames=FRAMES))
    routed, random = speakers(DOCTOR, PATIENT), speakers()
    plan = await planned({routed: listened(A, B), VIDEO: video})
    assert [chunk.voice for chunk in plan.chunks] == [
        (DOCTOR, PATIENT)[chunk.span.source] for chunk in plan.chunks
    ]
    plan = await planned({random: listened(A, B), VIDEO: video})
    assert voices(plan) == {random.id: {Voice(0), Voice(1)}}


async def test_two_routed_channels_that_hold_the_same_name_nobody() -> None:
    """If an egress ignores the request to write each participant to a separate channel, it writes the whole room to
    both channels. If both channels contain the whole room, the channels do not identify the speakers.
    """
    both = video_of((A, 0), (B, 0), frames=FRAMES)
    routed = speakers(DOCTOR, PATIENT)
    plan = await planned({routed: listened(both, both), VIDEO: listened(both)})
    assert voices(plan) == {routed.id: {Voice()}}


async def test_both_channels_of_a_stereo_microphone_are_its_participants() -> None:
    patient = microphone(PATIENT)
    plan = await planned({patient: listened(A, B), VIDEO: listened(video_of((A, 0), (B, 0), frames=FRAMES))})
    assert voices(plan) == {patient.id: {PATIENT}}
    assert {chunk.span.source for chunk in plan.chunks} == {0, 1}


async def test_video_alone_is_planned_as_any_file() -> None:
    plan = await planned({VIDEO: listened(A, B)})
    assert voices(plan) == {VIDEO.id: {Voice(0), Voice(1)}}
    plan = await planned({VIDEO: listened(noisy(A, seed=1, level=5))})
    assert voices(plan) == {VIDEO.id: {Voice()}}
    assert all(isinstance(chunk, PlannedChunk) and chunk.late_ms == 0 for chunk in plan.chunks)
