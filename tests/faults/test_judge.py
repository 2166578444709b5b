"""Tests that the judge detects lost, doubled and stuck recordings, that the table prints the counts last, and that
the catalogue covers every known issue.
"""

from dataclasses import replace
from uuid import UUID

import pytest
from rich.console import Console

from tests.faults import table
from tests.faults.catalogue import FAULTS, UPLOAD_FAILED
from tests.faults.fault import Fault, Verdict
from tests.faults.judge import DOUBLE_SECONDS, Found, verdict
from tests.faults.visit import Row, Visit

COMPLAINTS = (
    *("egress#329", "livekit#1717", "livekit#2308", "livekit#3976", "egress#862", "egress#796", "egress#911"),
    *("egress#858", "egress#364", "meet#525", "meet#1391", "meet#1448"),
)
RULES = "12345678"
KEY = "keep/consultation/recording/video.mp4"
FIRST, SECOND = UUID(int=1), UUID(int=2)


async def _nobody_acts(_: Visit) -> None:
    return


def _row(
    status: str,
    recording_id: UUID = FIRST,
    *,
    key: str = KEY,
    error: str | None = None,
    was_lost: bool = False,
) -> Row:
    return Row(recording_id, status, False, error, "VIDEO", key, 10 if status == "READY" else None, was_lost)


def _judged(found: Found, expected: str = "READY", trouble: str = "") -> tuple[str, ...]:
    """Return what the judge finds wrong (`lost`, `doubled`, `stuck`), and `unexpected` if the outcome is not the
    expected one.
    """
    one = verdict(Fault("a fault", "", expected, _nobody_acts), found, 1.0, trouble)
    words = [word for word in ("lost", "doubled", "stuck") if getattr(one, word)]
    return (*words, *([] if one.is_as_expected else ["unexpected"]))


GOOD = Found(rows=[_row("READY")], stored={KEY: 10}, live=[], started=[str(FIRST)], double_seconds=0)
FAILED = replace(GOOD, rows=[_row("FAILED")], stored={})
TWO = replace(
    GOOD, rows=[_row("READY"), _row("READY", SECOND, key="another")], stored={KEY: 10, "another": 10}
)


def test_judge_reports_nothing_for_a_correct_recording() -> None:
    assert _judged(GOOD) == ()
    assert _judged(FAILED, "FAILED") == ()
    assert _judged(replace(TWO, started=[str(FIRST), str(SECOND)]), "READY, READY") == ()


def test_judge_counts_the_sounds_after_the_videos() -> None:
    sounds = [replace(_row(status), medium="MICROPHONE") for status in ("READY", "FAILED", "READY")]
    assert _judged(replace(GOOD, rows=[*sounds, *GOOD.rows]), "READY; sound: 1 FAILED, 2 READY") == ()
    assert _judged(replace(GOOD, rows=[*sounds, *GOOD.rows]), "READY") == ("unexpected",)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(FAILED, id="should have become READY"),
        pytest.param(replace(GOOD, rows=[]), id="the intent has vanished"),
        pytest.param(replace(GOOD, started=[str(FIRST), str(SECOND)]), id="a later intent has vanished"),
        pytest.param(replace(GOOD, stored={}), id="READY without an object"),
        pytest.param(replace(GOOD, stored={KEY: 9}), id="READY with an object of another size"),
        pytest.param(replace(FAILED, stored={KEY: 10}), id="stored, and nothing is READY"),
    ],
)
def test_judge_reports_lost_recordings(found: Found) -> None:
    assert "lost" in _judged(found)


def test_judge_reports_lost_for_a_failed_recording_with_an_object() -> None:
    assert _judged(replace(FAILED, stored={KEY: 10}), "FAILED") == ("lost", "unexpected")
    refused = replace(FAILED, rows=[_row("FAILED", error="object_size_differs")], stored={KEY: 10})
    assert _judged(refused, "FAILED object_size_differs") == ()


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(replace(GOOD, double_seconds=DOUBLE_SECONDS + 1), id="two egresses at once"),
        pytest.param(TWO, id="one start, two READY"),
    ],
)
def test_judge_reports_doubled_recordings(found: Found) -> None:
    assert "doubled" in _judged(found)


def test_judge_allows_a_second_egress_until_the_reconciler_detects_it() -> None:
    assert _judged(replace(GOOD, double_seconds=DOUBLE_SECONDS - 1)) == ()


@pytest.mark.parametrize("status", ["REQUESTED", "STARTING", "RECORDING", "STOPPING", "VERIFYING", "LOST"])
def test_judge_reports_stuck_for_a_recording_that_has_not_ended(status: str) -> None:
    assert "stuck" in _judged(replace(FAILED, rows=[_row(status)]), f"READY | {status}")


def test_judge_reports_stuck_for_an_egress_that_still_runs() -> None:
    assert _judged(replace(GOOD, live=["video"])) == ("stuck", "unexpected")


def test_judge_accepts_an_expected_lost_recording() -> None:
    lost = replace(FAILED, rows=[_row("LOST", error="egress_lost")])
    assert _judged(lost, "LOST egress_lost") == ()
    returned = replace(GOOD, rows=[_row("READY", was_lost=True)])
    assert _judged(returned, "LOST then READY") == ()
    assert _judged(lost, "LOST then READY") == ("lost", "stuck", "unexpected")


def test_judge_expects_no_recording_if_people_could_not_act() -> None:
    assert _judged(GOOD, trouble="TimeoutError") == ("unexpected",)


@pytest.mark.parametrize(("lost", "doubled", "stuck"), [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)])
def test_table_ends_with_counts_and_fails_if_one_is_not_zero(
    capsys: pytest.CaptureFixture[str], lost: int, doubled: int, stuck: int
) -> None:
    fault = Fault("a fault", "", "READY", _nobody_acts)
    one = Verdict(fault, "READY", 1.0, bool(lost), bool(doubled), bool(stuck))
    exit_code = table.show(Console(highlight=False), [one])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"faults: 1, lost {lost}, doubled {doubled}, stuck {stuck}"
    assert exit_code == (1 if lost or doubled or stuck else 0)


def test_table_fails_if_an_outcome_is_unexpected_or_nothing_was_tested(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault = Fault("a fault", "", UPLOAD_FAILED, _nobody_acts)
    assert table.show(Console(highlight=False), [Verdict(fault, "READY", 1.0, False, False, False)]) == 1
    assert "not as expected: 1" in capsys.readouterr().out
    assert table.show(Console(highlight=False), []) == 1


def test_catalogue_has_a_fault_for_every_issue_and_every_rule() -> None:
    sources = ", ".join(fault.source for fault in FAULTS)
    ruled = {digit for fault in FAULTS if "rule" in fault.source for digit in fault.source.split("rule")[1]}
    assert [one for one in COMPLAINTS if one not in sources] == []
    assert set(RULES) <= ruled
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
