"""The catalogue of LiveKit's faults, each with the outcome that its recording must have. The catalogue covers every
known issue in the lists for livekit-server and livekit/egress.

The suite runs each fault in a consultation of its own. The function `act` performs the actions of the people and
orders the LiveKit stand-in to cause faults. Nobody acts in the consultation except as `act` says. The second field
of a fault names the LiveKit issue that describes the fault, or the rule that the product must obey.
"""

from datetime import timedelta
from itertools import permutations

from tests.faults import acts
from tests.faults.acts import NEVER, ordered, ordered_without_stop, then_again
from tests.faults.fault import Fault

UPLOAD_FAILED = "FAILED truncated egress_upload_failed"
FAULTS = (
    Fault(
        "the node dies, the room closes: listed as active for ever",
        "livekit#1717, rules 5, 8",
        "LOST egress_lost",
        acts.zombie,
        420,
    ),
    Fault(
        "the start is answered after 65 s, past our patience",
        "rule 2",
        "READY",
        ordered("answer_start_late", seconds=65),
    ),
    Fault(
        "the start is answered 503 and acts 75 s later: a second was asked for",
        "rules 2, 8",
        "READY",
        ordered("late_start", seconds=75),
    ),
    Fault(
        "the start is answered 503 and never acts",
        "rule 2",
        "READY",
        ordered("late_start", seconds=NEVER),
    ),
    Fault(
        "stuck in STARTING though people publish",
        "egress#796, rule 5",
        "FAILED start_overdue",
        ordered_without_stop("no_start_signal"),
    ),
    Fault(
        "the object comes a minute after it was given up",
        "rule 7",
        "LOST then READY object_missing",
        acts.object_comes_after_it_was_given_up,
    ),
    Fault(
        "started says status 0, and the first stops fail",
        "egress#862",
        "READY",
        acts.stopped_before_it_began,
        patience=240,  # LiveKit refuses three stops, and the reconciler pauses for up to two minutes between stops
    ),
    Fault(
        "the node dies and LiveKit forgets it; the doctor records again",
        "meet#1448, rule 1",
        "LOST egress_lost, READY",
        then_again(ordered_without_stop("die", "forget"), "LOST"),
    ),
    Fault("LiveKit forgets what goes on", "rule 4", "READY truncated egress_lost", ordered("forget")),
    Fault("the upload fails, the file is gone", "egress#329, rule 8", UPLOAD_FAILED, ordered("fail_upload")),
    Fault("the node dies, and the doctor stops", "livekit#1717", "LOST egress_lost", ordered("die"), 150),
    Fault(
        "the node dies while everybody stays; the doctor records again",
        "livekit#1717, rule 1",
        "LOST egress_lost, READY",
        then_again(acts.node_dies, "LOST", 200),
    ),
    Fault(
        "ghost recorder: the host crashes, people come back; the doctor records again",
        "issue",
        "LOST egress_lost, READY",
        then_again(acts.host_crashes, "LOST", 200),
    ),
    Fault(
        "the host crashes, and nobody comes back",
        "issue",
        "LOST egress_lost",
        acts.host_crashes_and_nobody_comes_back,
        200,
    ),
    Fault("the server crashes inside a recording", "issue", "READY interrupted", acts.server_crashes),
    Fault(
        "the recorder's process dies",
        "issue",
        "FAILED truncated egress_failed",
        ordered_without_stop("handler_dies"),
    ),
    Fault(
        "no recording service takes it; the doctor records again",
        "rule 2",
        "FAILED egress_start_unknown, READY",
        then_again(ordered_without_stop("no_recorder", count=5), "FAILED", 200),
    ),
    Fault(
        "the node dies after its upload, unheard",
        "livekit#1717, rule 7",
        "LOST then READY truncated stop_overdue",
        acts.dies_after_its_upload,
    ),
    Fault("no webhook at all", "livekit#2308", "READY", ordered("drop_all")),
    Fault("egress_ended is lost", "livekit#3976, rule 8", "READY", ordered("drop", event="egress_ended")),
    Fault(
        "nobody tells of the room that records itself", "livekit#2308", "READY", acts.auto_recorded_unheard
    ),
    Fault(
        "no start signal: FAILED",
        "egress#911",
        "FAILED truncated egress_start_not_received",
        ordered_without_stop("fail_start"),
    ),
    Fault(
        "no start signal: ABORTED",
        "egress#858",
        "ABORTED egress_start_not_received",
        ordered_without_stop("abort_start"),
    ),
    Fault("webhooks in another order", "egress#364, rules 3, 8", "READY", ordered("reorder", count=3)),
    Fault("nobody says that it ended with its room", "meet#525", "READY", acts.ends_with_its_room),
    Fault(
        "a failed egress of which nobody tells; the doctor records again",
        "meet#1391",
        "FAILED truncated egress_start_not_received, READY",
        then_again(ordered_without_stop("fail_start", "drop_all"), "FAILED"),
    ),
    Fault(
        "the start is refused for want of capacity; the doctor records again",
        "rule 2",
        "FAILED livekit_at_capacity, READY",
        then_again(ordered_without_stop("refuse_start"), "FAILED"),
    ),
    Fault("the start acts and is answered 503", "rule 2", "READY", ordered("start_but_answer_503")),
    Fault(
        "the same, and the list is away for a while",
        "rules 2, 4",
        "READY",
        ordered("start_but_answer_503", "list_unavailable", count=1),
    ),
    Fault(
        "the start is answered 503 and acts 20 s later",
        "rules 2, 8",
        "READY",
        ordered("late_start", seconds=20),
    ),
    Fault("the list is away while it records", "rule 4", "READY", ordered("list_unavailable", count=6)),
    Fault("the list is empty while it records", "rule 4", "READY", ordered("list_empty", count=6)),
    Fault("every webhook twice", "rule 8", "READY", ordered("duplicate", count=20)),
    Fault("every webhook again under a new id", "rule 8", "READY", ordered("renew", count=20)),
    Fault(
        "a webhook before the answer to the start", "rule 8", "READY", ordered("answer_start_late", seconds=3)
    ),
    Fault("a status that LiveKit does not have", "rule 8", "READY", ordered("unknown_status", count=3)),
    Fault(
        "egress_ended without an egress id",
        "rules 3, 8",
        "READY",
        ordered("blank_egress_id", event="egress_ended"),
    ),
    Fault("every webhook late", "rule 3", "READY", ordered("delay", count=4, seconds=4)),
    Fault("forged ends, signed with the right key", "issue", "READY", acts.forged),
    Fault("over the limit of a consultation", "rule 5", "READY truncated limit_reached", acts.over_the_limit),
    Fault("the stop times out and does nothing", "rule 5", "READY", ordered("stop_times_out", count=2)),
    Fault("the stop acts and times out", "rule 7", "READY", ordered("stop_but_times_out")),
    Fault("stopped twice", "rule 7", "READY", acts.stopped_twice),
    Fault(
        "the room is gone when it is started",
        "rule 2",
        "FAILED livekit_not_found | ABORTED",
        acts.room_is_empty,
    ),
    Fault(
        "LiveKit's own limit is reached",
        "rule 6",
        "READY truncated",
        ordered_without_stop("limit_reached", seconds=1),
    ),
    Fault("another size than was reported", "rule 6", "FAILED object_size_differs", ordered("size_differs")),
    Fault(
        "failed, though the object was stored",
        "rule 6",
        "READY truncated egress_upload_failed",
        ordered("fail_after_upload"),
    ),
    Fault("the object comes 5 s after the end", "rule 6", "READY", ordered("upload_late", seconds=5)),
    Fault(
        "the upload of one microphone's sound fails beside the picture's",
        "issue",
        f"READY; sound: 1 {UPLOAD_FAILED}, 1 READY",
        acts.one_sound_is_not_uploaded,
    ),
    *(
        Fault(
            f"random channels: {', '.join(order).lower()}; published anew, one unheard, one refused",
            "issue",
            "READY, READY; sound: 1 FAILED livekit_at_capacity, 8 READY",
            acts.random_channels(order),
        )
        for order in permutations(("DOCTOR", "PATIENT", "GUEST"))
    ),
    Fault("the room's server is away for a while", "rule 4", "READY", ordered("rooms_unavailable", count=4)),
    Fault(
        "LiveKit's clock was an hour ahead and is set right", "issue", "READY", acts.livekits_clock_was_ahead
    ),
    Fault(
        "the database's clock leaps a minute ahead, again and again",
        "issue",
        "READY",
        acts.database_clock_moves(timedelta(minutes=1)),
    ),
    Fault(
        "the database's clock is set back an hour, again and again",
        "issue",
        "READY",
        acts.database_clock_moves(timedelta(hours=-1)),
    ),
)
ROUTED_FAULTS = (
    Fault(
        "the upload of the routed sound fails beside the picture's",
        "issue",
        f"READY; sound: 1 {UPLOAD_FAILED}",
        acts.one_sound_is_not_uploaded,
    ),
)
"""Of a deployment with LIVEKIT_EGRESS_ROUTES."""
