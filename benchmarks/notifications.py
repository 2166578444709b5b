"""Creates signed LiveKit webhooks of recorded consultations, each with its own event id, before a measurement
starts.
"""

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
"""LiveKit's events of one consultation: the doctor, the patient and the recorder join, and the doctor and the
patient publish two tracks each.
"""


def notifications(rooms: Sequence[str]) -> Iterator[bytes]:
    """Yield an endless sequence of webhook bodies. Successive rooms are at different steps of their consultations,
    so successive events have different types.
    """
    for turn in itertools.count():
        for place, room in enumerate(rooms):
            yield notification(EVENTS[(place + turn) % len(EVENTS)], room)


def notification(event: str, room: str) -> bytes:
    """Return a webhook body in LiveKit's format. The body of an egress event also contains the request with which
    the egress was started.
    """
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
        if event.startswith("track_"):
            said["track"] = {"sid": f"TR_{uuid4().hex[:12]}", "source": "MICROPHONE", "mimeType": "audio/red"}
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
    """Return the webhook as an HTTP request to `url`."""
    return post(url, {"Content-Type": CONTENT_TYPE} | sign(body, key, secret), body)
