"""Judges a recording after a fault: lost, doubled or stuck.

A result counts as lost if the bucket contains an object that belongs to no READY recording, or if a READY recording
has no object or an object of the wrong size. A result also counts as lost if a recording that the API had confirmed
has disappeared, or if a recording that should be READY is not READY. A result counts as doubled if two egresses
recorded the same source at once for longer than the reconciler needs to notice it, or if more recordings are READY
than were started. A result counts as stuck if a recording has not ended in time, or if an egress that the product
started still runs.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpx

from devstack.api_client import Refused
from tests.faults.fault import Fault, Verdict
from tests.faults.harness import RECONCILE_SECONDS
from tests.faults.visit import Row, Visit

DOUBLE_SECONDS = 3 * RECONCILE_SECONDS + 4
_ACT_SECONDS = 300
_TROUBLED_SECONDS = 30
_LOOK_SECONDS = 0.5
_ENDS = ("READY", "FAILED", "ABORTED")


@dataclass(frozen=True)
class Found:
    """The final state of a consultation: its rows, its objects with their sizes, its running egresses, and the
    recordings that the API confirmed.
    """

    rows: Sequence[Row]
    stored: Mapping[str, int]
    live: Sequence[str]
    started: Sequence[str]
    double_seconds: float


async def tried(visit: Visit, fault: Fault) -> Verdict:
    """Run the fault, wait until the recording has ended or the fault's `patience` is over, and return the verdict."""
    trouble = await _trouble(visit, fault)
    patience = min(fault.patience, _TROUBLED_SECONDS) if trouble else fault.patience
    began = time.monotonic()
    with suppress(TimeoutError):  # After a timeout, the current state is judged
        async with asyncio.timeout(patience):
            await _settled(visit, fault)
    seconds = time.monotonic() - began
    found = await _found(visit)
    visit.close()
    return verdict(fault, found, seconds, trouble)


def verdict(fault: Fault, found: Found, seconds: float, trouble: str = "") -> Verdict:
    """Return the verdict. `trouble` is the error because of which people could not act, or an empty text."""
    outcome = _outcome(found.rows)
    return Verdict(
        fault,
        f"{outcome} ({trouble})" if trouble else outcome,
        seconds,
        lost=_is_lost(fault, found),
        doubled=_is_doubled(found),
        stuck=not _is_settled(fault, found.rows, found.live),
    )


def _outcome(rows: Sequence[Row]) -> str:
    """Return the outcomes of the video recordings, oldest first, and then the number of sound recordings with each
    outcome.
    """
    videos = ", ".join(row.outcome for row in rows if row.medium == "VIDEO") or "nothing"
    sounds = Counter(row.outcome for row in rows if row.medium != "VIDEO")
    told = [f"{count} {outcome}" for outcome, count in sorted(sounds.items())]
    return f"{videos}; sound: {', '.join(told)}" if told else videos


async def _trouble(visit: Visit, fault: Fault) -> str:
    try:
        await asyncio.wait_for(fault.act(visit), _ACT_SECONDS)
    except (TimeoutError, AssertionError, Refused, httpx.TransportError) as error:
        return f"{type(error).__name__} {error}".strip()
    return ""


async def _settled(visit: Visit, fault: Fault) -> None:
    while not _is_settled(fault, await visit.rows(), visit.live()):  # noqa: ASYNC110 - rows have no event
        await asyncio.sleep(_LOOK_SECONDS)


async def _found(visit: Visit) -> Found:
    return Found(
        rows=await visit.rows(),
        stored=await visit.stored(),
        live=visit.live(),
        started=visit.started,
        double_seconds=visit.harness.doubles.longest.get(visit.room, 0.0),
    )


def _is_settled(fault: Fault, rows: Sequence[Row], live: Sequence[str]) -> bool:
    ends = (*_ENDS, "LOST") if fault.may_end_lost else _ENDS
    return bool(rows) and not live and all(row.status in ends for row in rows)


def _is_lost(fault: Fault, found: Found) -> bool:
    ready = [row for row in found.rows if row.status == "READY"]
    has_vanished = not {str(row.id) for row in found.rows} >= set(found.started)
    is_not_there = any(found.stored.get(row.object_key) != row.size_bytes for row in ready)
    is_refused = any("object_size_differs" in (row.error or "") for row in found.rows)
    return (
        has_vanished
        or is_not_there
        or (not ready and (fault.must_be_kept or (bool(found.stored) and not is_refused)))
    )


def _is_doubled(found: Found) -> bool:
    ready = [row for row in found.rows if row.status == "READY" and row.medium == "VIDEO"]
    return found.double_seconds > DOUBLE_SECONDS or len(ready) > max(1, len(set(found.started)))
