"""Tests of the egress of one microphone's track, and of the egress that records two speakers on separate channels.
LiveKit's own client sends the requests to the LiveKit stand-in.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import pytest
from av.audio.frame import AudioFrame
from livekit.api import LiveKitAPI, ServerError
from livekit.protocol.egress import (
    AudioConfig,
    AudioRoute,
    EgressInfo,
    EgressSourceType,
    EgressStatus,
    EncodedFileOutput,
    EncodedFileType,
    EncodingOptions,
    EncodingOptionsPreset,
    FileOutput,
    ListEgressRequest,
    MediaSource,
    Output,
    S3Upload,
    SegmentedFileOutput,
    StartEgressRequest,
    StorageConfig,
    TemplateSource,
    TrackCompositeEgressRequest,
)
from livekit.protocol.models import AudioCodec, ParticipantInfo
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.integrations.livekit.client import EgressSnapshot, LiveKitRefused, S3Target
from devstack.joining import CHANNELS
from devstack.livekit import Order, Pace
from devstack.livekit.media import PART_BYTES, Media, upload
from devstack.object_store import ObjectStore
from tests.integration.livekit_harness import (
    KEY,
    MEDIA,
    NOWHERE,
    OBJECT_KEY,
    PACE,
    ROOM,
    SECRET,
    LiveKitHarness,
    opened,
    stored,
)
from tests.integration.recording_harness import served

pytestmark = pytest.mark.anyio

FOLDER = "r/10y/consultation/recording"
PERSONS = ("person-1", "person-2")
TONES_HZ = (400, 1500)
SOUND_SECONDS = 3


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with three seconds of a low tone on the left channel and a high tone on the right channel."""
    path = tmp_path_factory.mktemp("sound") / "tones.ogg"
    tones = "|".join(f"0.3*sin(2*PI*{hertz}*t)" for hertz in TONES_HZ)
    with av.open(str(path), mode="w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="stereo")
        graph = av.filter.Graph()
        source = graph.add("aevalsrc", f"{tones}:s=48000:d={SOUND_SECONDS}")
        shape = graph.add("aformat", "sample_fmts=s16:channel_layouts=stereo")
        frames = graph.add("asetnsamples", "n=960")
        graph.link_nodes(source, shape, frames, graph.add("abuffersink")).configure()
        while True:
            try:
                frame = graph.pull()
            except (av.BlockingIOError, av.EOFError):
                break
            container.mux(stream.encode(frame))  # type: ignore[arg-type]
        container.mux(stream.encode())
    return path


@pytest.fixture
async def harness(anyio_backend: str, sound: Path) -> AsyncIterator[LiveKitHarness]:
    async with opened(audio=sound) as harness:
        yield harness


def loudness(path: Path, hertz: int, channel: int = 0) -> float:
    """Return the peak amplitude, from 0 to 1, of a tone in one channel of a sound file."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        graph = av.filter.Graph()
        nodes = [
            graph.add_abuffer(template=stream),
            graph.add("pan", f"mono|c0=c{channel}"),
            graph.add("bandpass", f"f={hertz}:width_type=h:w=100"),
            graph.add("aformat", "sample_fmts=s16"),
            graph.add("abuffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        for decoded in container.decode(stream):
            graph.push(decoded)
        graph.push(None)
        peak = 1
        while True:
            try:
                frame = graph.pull()
            except (av.BlockingIOError, av.EOFError):
                break
            assert isinstance(frame, AudioFrame)
            samples = memoryview(bytes(frame.planes[0])[: frame.samples * 2]).cast("h")
            peak = max(peak, *(abs(sample) for sample in samples))
    return peak / 32768


async def microphones(harness: LiveKitHarness, identity: str = PERSONS[0]) -> tuple[str, ...]:
    people = {one.identity: one for one in await harness.livekit.participants(ROOM)}
    return people[identity].microphones


async def start(
    harness: LiveKitHarness, identity: str = PERSONS[0], upload: S3Target = NOWHERE, *, extension: str = "mp4"
) -> EgressSnapshot:
    """Start an egress of a participant's microphone."""
    (track_sid,) = await microphones(harness, identity)
    key = f"{FOLDER}/microphone-{identity}.{extension}"
    return await harness.livekit.start_microphone(
        room_name=ROOM, track_sid=track_sid, object_key=key, upload=upload
    )


async def start_routed(
    harness: LiveKitHarness, doctor: str = PERSONS[0], patient: str = PERSONS[1], upload: S3Target = NOWHERE
) -> EgressSnapshot:
    """Start an egress that routes the doctor's microphone to the left channel and the patient's to the right."""
    return await harness.livekit.start_speakers(
        room_name=ROOM,
        doctor_identity=doctor,
        patient_identity=patient,
        object_key=f"{FOLDER}/{doctor}/speakers.ogg",
        upload=upload,
    )


async def object_of(store: ObjectStore, ended: EgressSnapshot, path: Path) -> Path:
    assert ended.object_key is not None
    found = await asyncio.to_thread(stored, store, ended.object_key)
    assert found is not None
    assert len(found.content) == ended.size_bytes
    await asyncio.to_thread(path.write_bytes, found.content)
    return path


def asked(**changes: Any) -> TrackCompositeEgressRequest:
    """Return the egress request with which a program other than Resguardo would start a recording."""
    s3 = S3Upload(access_key="a", secret="s", bucket="b", endpoint="http://127.0.0.1:1")
    file = {"file_type": EncodedFileType.MP4, "filepath": "x.mp4"} | changes.pop("file", {})
    output = EncodedFileOutput(s3=s3, **file)
    request: dict[str, Any] = {"room_name": ROOM, "audio_track_id": "TR_1", "file_outputs": [output]}
    return TrackCompositeEgressRequest(**request | changes)


def routed(**changes: Any) -> StartEgressRequest:
    s3 = S3Upload(access_key="a", secret="s", bucket="b", endpoint="http://127.0.0.1:1")
    output = Output(file=FileOutput(file_type=EncodedFileType.OGG, filepath="x.ogg"))
    media = MediaSource(audio=AudioConfig(routes=[AudioRoute(participant_identity="p")]))
    request: dict[str, Any] = {
        "room_name": ROOM,
        "media": media,
        "outputs": [output],
        "storage": StorageConfig(s3=s3),
    }
    return StartEgressRequest(**request | changes)


async def test_microphones_of_the_room_are_named_by_its_participants(harness: LiveKitHarness) -> None:
    for identity in PERSONS:
        await harness.join(identity)
    await harness.stand_in.notifier.idle()
    told = {
        one.publisher_identity: one.microphone_sid for one in harness.receiver.events() if one.microphone_sid
    }
    assert told == {identity: (await microphones(harness, identity))[0] for identity in PERSONS}
    (event, *_) = [one for one in harness.receiver.vendor_events() if one.event == "track_published"]
    assert event.participant.identity == PERSONS[0]
    bodies = [body for body, _, _ in harness.receiver.bodies if b"MICROPHONE" in body]
    assert len(bodies) == len(PERSONS)
    assert not any(b'"type"' in body for body in bodies)


async def test_each_microphone_gets_the_channel_of_its_person(
    harness: LiveKitHarness, target: S3Target, store: ObjectStore, tmp_path: Path
) -> None:
    for identity in PERSONS:
        await harness.join(identity)
    started = [await start(harness, identity, target) for identity in reversed(PERSONS)]
    for one in started:
        await harness.until(one.egress_id, "active")
        await harness.livekit.stop_egress(one.egress_id)
    for number, one in zip((1, 0), started, strict=True):
        ended = await harness.until(one.egress_id, "complete")
        path = await object_of(store, ended, tmp_path / f"{number}.mp4")
        for channel in (0, 1):
            assert loudness(path, TONES_HZ[number], channel) > 4 * loudness(
                path, TONES_HZ[1 - number], channel
            )


@pytest.mark.parametrize(
    ("extension", "content_type", "codec", "frequency"),
    [("mp4", "video/mp4", "aac", 44_100), ("ogg", "audio/ogg", "opus", 48_000)],
)
async def test_microphone_is_recorded_as_a_real_file_with_silence_at_its_end(
    target: S3Target,
    store: ObjectStore,
    sound: Path,
    tmp_path: Path,
    extension: str,
    content_type: str,
    codec: str,
    frequency: int,
) -> None:
    async with opened(audio=sound) as harness:
        harness.stand_in.orders.add(Order("scale", seconds=0.1))
        await harness.join()
        started = await start(harness, upload=target, extension=extension)
        await harness.until(started.egress_id, "active")
        await harness.livekit.stop_egress(started.egress_id)
        ended = await harness.until(started.egress_id, "complete")
    path = await object_of(store, ended, tmp_path / "x")
    assert ended.object_key is not None
    found = await asyncio.to_thread(stored, store, ended.object_key)
    assert found is not None
    assert (found.content_type, found.disposition) == (content_type, "attachment")
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert isinstance(stream, av.AudioStream)
        assert (stream.codec_context.name, stream.rate, stream.channels) == (codec, frequency, 2)
        seconds = (container.duration or 0) / av.time_base
    assert ended.duration_seconds is not None
    assert seconds == pytest.approx(SOUND_SECONDS + 0.42, abs=0.08)
    assert seconds - ended.duration_seconds == pytest.approx(0.42, abs=0.03)


async def test_recording_ends_with_its_track_and_a_new_track_is_a_new_recording(
    harness: LiveKitHarness,
) -> None:
    await harness.join()
    first = await start(harness)
    await harness.until(first.egress_id, "active")
    (old,) = await microphones(harness)
    assert (await harness.control("republish", {"room": ROOM, "identity": PERSONS[0]})).status_code == 204
    ended = await harness.until(first.egress_id, "failed")
    assert ended.error_reason == "upload_failed"
    (new,) = await microphones(harness)
    assert new != old
    second = await start(harness)
    await harness.until(second.egress_id, "active")
    await harness.stand_in.notifier.idle()
    tracks = [
        (one.event, one.track.sid)
        for one in harness.receiver.vendor_events()
        if one.event.startswith("track_")
    ]
    assert tracks.index(("track_published", new)) < tracks.index(("track_unpublished", old))
    info = harness.stand_in.recorder.rows.row(first.egress_id).info
    assert info.details == "End reason: Source closed"


async def test_recording_of_an_unpublished_track_contains_the_sound_until_then(
    harness: LiveKitHarness, target: S3Target
) -> None:
    await harness.join()
    started = await start(harness, upload=target)
    await harness.until(started.egress_id, "active")
    await harness.control("unpublish", {"room": ROOM, "identity": PERSONS[0]})
    ended = await harness.until(started.egress_id, "complete")
    assert ended.duration_seconds is not None
    assert ended.duration_seconds < SOUND_SECONDS / 2
    assert harness.receiver.names()[-2:] == ["egress_updated", "egress_ended"]


async def test_recording_of_a_leaving_participant_is_complete(
    harness: LiveKitHarness, target: S3Target
) -> None:
    await harness.join()
    await harness.join(PERSONS[1])
    started = await start(harness, upload=target)
    await harness.until(started.egress_id, "active")
    await harness.control("leave", {"room": ROOM, "identity": PERSONS[0]})
    ended = await harness.until(started.egress_id, "complete")
    assert ended.duration_seconds == pytest.approx(SOUND_SECONDS, abs=0.1)


async def test_recording_of_a_dead_device_ends_later_with_as_much_silence(
    sound: Path, target: S3Target, store: ObjectStore, tmp_path: Path
) -> None:
    async with opened(audio=sound, pace=PACE) as harness:
        harness.stand_in.orders.add(Order("scale", seconds=0.02))
        await harness.join()
        await harness.join(PERSONS[1])
        started = await start(harness, upload=target)
        await harness.until(started.egress_id, "active")
        await harness.control("kill", {"room": ROOM, "identity": PERSONS[0]})
        assert len(await microphones(harness)) == 1
        assert (await harness.listed(started.egress_id)).status == "active"
        ended = await harness.until(started.egress_id, "complete")
        assert [one.identity for one in await harness.livekit.participants(ROOM)] == [PERSONS[1]]
    path = await object_of(store, ended, tmp_path / "x.mp4")
    with av.open(str(path)) as container:
        assert (container.duration or 0) / av.time_base > 21 * 0.02


async def test_microphone_file_matches_the_times_of_the_rooms_video(
    harness: LiveKitHarness, target: S3Target, store: ObjectStore, tmp_path: Path
) -> None:
    await harness.control("join", {"room": ROOM, "identity": PERSONS[1], "channel": 1})
    video = await harness.start(target)
    began = await harness.until(video.egress_id, "active")
    await asyncio.sleep(0.3)
    await harness.control("join", {"room": ROOM, "identity": PERSONS[0], "channel": 0})
    started = await start(harness, upload=target)
    active = await harness.until(started.egress_id, "active")
    await harness.livekit.stop_egress(started.egress_id)
    ended = await harness.until(started.egress_id, "complete")
    assert began.started_at is not None
    assert active.started_at is not None
    assert ended.duration_seconds is not None
    late = (active.started_at - began.started_at).total_seconds()
    assert late > 0.3
    assert ended.duration_seconds == pytest.approx(SOUND_SECONDS - late, abs=0.15)


async def test_unknown_track_is_accepted_and_fails_later(harness: LiveKitHarness) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order("scale", seconds=0.002))
    started = await harness.livekit.start_microphone(
        room_name=ROOM, track_sid="TR_unknown", object_key="r/x.mp4", upload=NOWHERE
    )
    assert started.status == "starting"
    failed = await harness.until(started.egress_id, "failed")
    assert (failed.error_code, failed.error_reason) == (404, "failed")
    await harness.stand_in.notifier.idle()
    assert harness.receiver.names() == ["egress_started", "egress_ended"]


async def test_track_that_is_published_while_it_is_waited_for_is_recorded(harness: LiveKitHarness) -> None:
    harness.stand_in.orders.add(Order("scale", seconds=0.3))
    await harness.control("join", {"room": ROOM, "identity": PERSONS[0], "publishes": False})
    started = await start_routed(harness)
    await harness.join(PERSONS[1])
    assert (await harness.listed(started.egress_id)).status == "starting"
    await harness.control("publish", {"room": ROOM, "identity": PERSONS[0]})
    await harness.until(started.egress_id, "active")


@pytest.mark.parametrize("doctor", PERSONS)
async def test_routed_speakers_are_doctor_left_and_patient_right_in_any_order_of_joining(
    harness: LiveKitHarness, target: S3Target, store: ObjectStore, tmp_path: Path, doctor: str
) -> None:
    for identity in PERSONS:
        await harness.join(identity)
    (patient,) = set(PERSONS) - {doctor}
    started = await start_routed(harness, doctor, patient, target)
    await harness.until(started.egress_id, "active")
    await harness.livekit.stop_egress(started.egress_id)
    ended = await harness.until(started.egress_id, "complete")
    path = await object_of(store, ended, tmp_path / "x.ogg")
    for channel, identity in enumerate((doctor, patient)):
        number = PERSONS.index(identity)
        assert loudness(path, TONES_HZ[number], channel) > 4 * loudness(path, TONES_HZ[1 - number], channel)


async def test_routed_speakers_fail_if_one_does_not_join(harness: LiveKitHarness) -> None:
    harness.stand_in.orders.add(Order("scale", seconds=0.002))
    await harness.join(PERSONS[0])
    started = await start_routed(harness)
    assert (await harness.until(started.egress_id, "failed")).error_code == 404


async def test_sound_egress_shows_its_request_without_storage_keys(harness: LiveKitHarness) -> None:
    for identity in PERSONS:
        await harness.join(identity)
    await start(harness)
    await start_routed(harness)
    async with LiveKitAPI(harness.url, KEY, SECRET) as api:
        listed = await api.egress.list_egress(ListEgressRequest())
    track = next(one for one in listed.items if one.HasField("track_composite"))
    routes = next(one for one in listed.items if one.HasField("egress"))
    assert track.track_composite.file_outputs[0].s3.secret == "{secret}"
    assert routes.egress.outputs[0].storage.s3.session_token == "{session_token}"
    assert {one.source_type for one in listed.items} == {EgressSourceType.EGRESS_SOURCE_TYPE_SDK}
    await harness.stand_in.notifier.idle()
    told = b"".join(body for body, _, _ in harness.receiver.bodies) + listed.SerializeToString()
    assert b"-KEPT" not in told


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (asked(room_name=""), "invalid_argument", "token or api key/secret"),
        (asked(room_name="nowhere"), "not_found", "requested room does not exist"),
        (asked(audio_track_id=""), "invalid_argument", "audio_track_id or video_track_id"),
        (asked(video_track_id="TR_2"), "unimplemented", "video"),
        (asked(file_outputs=[]), "invalid_argument", "output"),
        (asked(file_outputs=[EncodedFileOutput()] * 2), "invalid_argument", "multiple file outputs"),
        (asked(file_outputs=[EncodedFileOutput(filepath="x.mp4")]), "invalid_argument", "output"),
        (asked(segment_outputs=[SegmentedFileOutput()]), "unimplemented", "files"),
        (asked(preset=EncodingOptionsPreset.PASSTHROUGH), "invalid_argument", "preset"),
        (
            asked(
                file={"file_type": EncodedFileType.OGG}, advanced=EncodingOptions(audio_codec=AudioCodec.AAC)
            ),
            "invalid_argument",
            "format audio/ogg incompatible with codec audio/aac",
        ),
        (asked(advanced=EncodingOptions(audio_codec=AudioCodec.AC_MP3)), "unimplemented", "MP3"),
        (asked(advanced=EncodingOptions(width=15)), "invalid_argument", "width"),
        (routed(room_name=""), "invalid_argument", "token or api key/secret"),
        (routed(room_name="nowhere"), "not_found", "requested room does not exist"),
        (routed(media=None), "invalid_argument", "source"),
        (routed(media=None, template=TemplateSource()), "unimplemented", "template"),
        (routed(media=MediaSource()), "invalid_argument", "audio or video"),
        (routed(media=MediaSource(audio=AudioConfig(capture_all=True))), "unimplemented", "everybody"),
        (
            routed(
                media=MediaSource(
                    audio=AudioConfig(routes=[AudioRoute(participant_kind=ParticipantInfo.Kind.STANDARD)])
                )
            ),
            "unimplemented",
            "kind",
        ),
        (routed(outputs=[]), "invalid_argument", "output"),
        (routed(outputs=[Output()]), "invalid_argument", "output config"),
        (routed(outputs=[Output(file=FileOutput())] * 2), "invalid_argument", "multiple file outputs"),
        (routed(storage=None), "invalid_argument", "output"),
        (routed(preset=EncodingOptionsPreset.PASSTHROUGH), "unimplemented", "passthrough"),
    ],
)
async def test_start_of_a_sound_egress_is_refused_like_in_livekit(
    harness: LiveKitHarness,
    request_: TrackCompositeEgressRequest | StartEgressRequest,
    code: str,
    message: str,
) -> None:
    await harness.join()
    with pytest.raises(ServerError) as refused:
        await called(harness, request_)
    assert refused.value.code == code
    assert message in refused.value.message
    assert await harness.livekit.list_egress() == []


@pytest.mark.parametrize(
    ("file", "codec", "filename"),
    [
        ({"filepath": "a/x.opus", "file_type": EncodedFileType.OGG}, 0, "a/x.opus.ogg"),
        ({"filepath": "a/x.ogg", "file_type": EncodedFileType.MP4}, 0, "a/x.mp4"),
        ({"filepath": "a/x.aac", "file_type": EncodedFileType.MP4}, 0, "a/x.aac.mp4"),
        ({"filepath": "a/x", "file_type": EncodedFileType.DEFAULT_FILETYPE}, 0, "a/x.ogg"),
        ({"filepath": "a/x", "file_type": EncodedFileType.DEFAULT_FILETYPE}, AudioCodec.AAC, "a/x.mp4"),
    ],
)
async def test_key_keeps_only_the_extension_of_its_type(
    harness: LiveKitHarness, file: dict[str, Any], codec: Any, filename: str
) -> None:
    await harness.join()
    info = await called(harness, asked(file=file, advanced=EncodingOptions(audio_codec=codec)))
    assert info.file_results[0].filename == info.file.filename == filename
    assert info.status == EgressStatus.EGRESS_STARTING


async def called(
    harness: LiveKitHarness, request: TrackCompositeEgressRequest | StartEgressRequest
) -> EgressInfo:
    """Send the egress request with LiveKit's own client."""
    async with LiveKitAPI(harness.url, KEY, SECRET) as api:
        if isinstance(request, StartEgressRequest):
            return await api.egress.start_egress(request)
        return await api.egress.start_track_composite_egress(request)


@pytest.mark.parametrize("kind", ["refuse_start", "start_but_answer_503"])
async def test_order_on_a_start_applies_to_a_microphone(harness: LiveKitHarness, kind: str) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order(kind))
    with pytest.raises(Exception, match="livekit_") as refused:
        await start(harness)
    assert isinstance(refused.value, LiveKitRefused) == (kind == "refuse_start")


async def test_stop_before_the_start_aborts_a_microphone(harness: LiveKitHarness) -> None:
    await harness.join()
    harness.stand_in.orders.add(Order("no_start_signal"))
    started = await start(harness)
    await harness.livekit.stop_egress(started.egress_id)
    assert (await harness.until(started.egress_id, "aborted")).error_reason == "stopped_before_start"


async def test_delays_at_scale_one_are_those_of_livekit() -> None:
    async with opened(pace=Pace(scale=0.001)) as harness:
        assert harness.stand_in.delays.seconds(30) == pytest.approx(0.03)
        await harness.control("orders", {"order": "scale", "seconds": 1})
        assert harness.stand_in.delays.seconds(30) == 30
        assert all(0.3 <= harness.stand_in.delays.seconds((0.3, 0.9)) <= 0.9 for _ in range(50))
        await harness.control("orders", {"order": "scale", "seconds": 0})
        assert harness.stand_in.delays.seconds(30) == 0


async def test_object_keys_of_video_and_microphone_differ(harness: LiveKitHarness) -> None:
    await harness.join()
    video, microphone = await harness.start(), await start(harness)
    keys = {one.egress_id: one.object_key for one in await harness.livekit.list_egress(room_name=ROOM)}
    assert keys == {
        video.egress_id: OBJECT_KEY,
        microphone.egress_id: f"{FOLDER}/microphone-{PERSONS[0]}.mp4",
    }


async def test_voice_is_the_channel_given_at_joining_with_a_token(harness: LiveKitHarness) -> None:
    token = harness.livekit.join_token(identity="patient", room=ROOM, metadata="")
    for wrong in (-1, "1", True, 0.5):
        assert (await harness.post("join", {"token": token, "channel": wrong})).status_code == 400
    assert await harness.livekit.participants(ROOM) == []
    assert (await harness.post("join", {"token": token, "channel": 1})).status_code == 200
    await harness.join("doctor")
    await harness.join("guest")
    rooms = harness.stand_in.rooms
    assert [rooms.channel(ROOM, identity) for identity in ("patient", "doctor", "guest")] == [1, 0, 2]
    await harness.control("leave", {"room": ROOM, "identity": "patient"})
    await harness.join("patient")
    assert rooms.channel(ROOM, "patient") == 1


def test_demo_gives_the_doctor_the_first_channel_and_the_patient_the_second() -> None:
    reference = json.loads(MEDIA.with_suffix(".ref.json").read_text())
    assert {kind: reference["channels"][channel].upper() for kind, channel in CHANNELS.items()} == {
        "DOCTOR": "DOCTOR",
        "PATIENT": "PATIENT",
    }


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (PART_BYTES, ["PUT x-id=PutObject"]),
        (
            PART_BYTES + 1,
            [
                "POST uploads=",
                "PUT partNumber=1&uploadId=U&x-id=UploadPart",
                "PUT partNumber=2&uploadId=U&x-id=UploadPart",
                "POST uploadId=U",
            ],
        ),
    ],
)
async def test_upload_is_one_put_up_to_5_mib_and_multipart_above(
    tmp_path: Path, size_bytes: int, expected: list[str]
) -> None:
    asked: list[str] = []

    async def answer(request: Request) -> Response:
        await request.body()
        query = request.url.query
        asked.append(f"{request.method} {query}")
        xml = "<{0}><UploadId>U</UploadId><ETag>e</ETag></{0}>"
        if request.method == "POST":
            name = "InitiateMultipartUploadResult" if query == "uploads=" else "CompleteMultipartUploadResult"
            return Response(xml.format(name), media_type="application/xml")
        return Response(headers={"etag": '"e"'})

    path = tmp_path / "x.mp4"
    await asyncio.to_thread(path.write_bytes, bytes(size_bytes))
    app = Starlette(routes=[Route("/{rest:path}", answer, methods=["PUT", "POST"])])
    async with served(app) as url:
        s3 = S3Upload(access_key="a", secret="s", bucket="b", endpoint=url, force_path_style=True)
        output = EncodedFileOutput(filepath="r/x.mp4", s3=s3)
        media = Media(path, "video/mp4", size_bytes, 1)
        await asyncio.to_thread(upload, media, output, backoff_seconds=0)
    assert (asked[0], sorted(asked[1:-1]), asked[-1]) == (expected[0], expected[1:-1], expected[-1])
