"""LiveKit's notifications of recorded consultations, each of its own id and properly signed, made before any timing."""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from uuid import NAMESPACE_URL, uuid4, uuid5

from benchmarks.loopback import post
from devstack.livekit.webhooks import CONTENT_TYPE, sign

EVENTS = (
    "room_started",
    *("participant_joined",) * 3,
    *("track_published",) * 4,
    "egress_started",
    *("egress_updated",) * 2,
    "egress_ended",
    *("track_unpublished",) * 4,
    *("participant_left",) * 3,
    "room_finished",
)
"""What LiveKit says of one: the doctor, the patient and the recorder; two tracks each of two people."""


def notifications(rooms: Sequence[str]) -> Iterator[bytes]:
    """Without end, each room a step further in its consultation, and at another step than the room before it."""
    for turn in itertools.count():
        for place, room in enumerate(rooms):
            yield notification(EVENTS[(place + turn) % len(EVENTS)], room)


def notification(event: str, room: str) -> bytes:
    """One, in the shape that LiveKit gives it; an egress's has its request in it."""
    now = time.time_ns()
    said: dict[str, object] = {
        "event": event,
        "id": f"EV_{uuid4().hex[:12]}",
        "createdAt": str(now // 10**9),
    }
    if event.startswith("egress_"):
        said["egressInfo"] = _egress(room, now)
    else:
        said["room"] = {
            "sid": f"RM_{uuid4().hex[:12]}",
            "name": room,
            "emptyTimeout": 300,
            "numParticipants": 2,
        }
        said["participant"] = {"sid": f"PA_{uuid4().hex[:12]}", "identity": str(uuid4()), "state": "ACTIVE"}
    return json.dumps(said).encode()


def _egress(room: str, now: int) -> dict[str, object]:
    path = f"r/d90/{uuid4()}/{uuid4()}/video.mp4"
    output = {"filepath": path, "s3": {"bucket": "recordings", "region": "auto"}}
    return {
        "egressId": f"EG_{uuid5(NAMESPACE_URL, room).hex[:12]}",
        "roomId": f"RM_{uuid4().hex[:12]}",
        "roomName": room,
        "status": "EGRESS_ACTIVE",
        "startedAt": str(now),
        "updatedAt": str(now),
        "roomComposite": {"roomName": room, "layout": "grid", "fileOutputs": [output]},
        "fileResults": [{"filename": path, "startedAt": str(now)}],
    }


def signed(url: str, body: bytes, *, key: str, secret: str) -> bytes:
    """A notification as it is sent to `url`."""
    return post(url, {"Content-Type": CONTENT_TYPE} | sign(body, key, secret), body)
