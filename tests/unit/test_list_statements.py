"""The SQL statement for a list query contains only the conditions of the filters that the caller gave. Each filter
selects the rows that the API's documentation describes.
"""

from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

import pytest

from app.deletions.model import FAILING, DeletionFilter, DeletionStatus
from app.postgres.paging import Cursor, PageRequest
from app.postgres.references import ConsultationBy, PatientBy
from app.postgres.selection import Selection
from app.recordings import store
from app.recordings.model import RecordingFilter, RecordingStatus
from tests.list_reads import Case, Facts, statement

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
FACTS = Facts(UUID(int=1), UUID(int=2), UUID(int=3), "room", NOON, NOON)


def _text(wanted: RecordingFilter, *fields: str) -> str:
    selection = Selection.of(*fields)
    case = Case("", "", lambda tx, request, _: store.list_page(tx, request, wanted, selection))
    return statement(case, FACTS).text


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("sizeBytes", "r.size_bytes"),
        ("problem.code", "r.error"),
        ("mediaFiles.kind", 'as "media_files"'),
        ("transcription.status", "resguardo.transcripts"),
        ("consultation.externalId", 'as "consultation"'),
    ],
)
def test_field_is_read_only_if_it_is_selected(field: str, part: str) -> None:
    assert part in _text(RecordingFilter(), field)
    assert part not in _text(RecordingFilter(), "id")


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        (RecordingFilter(statuses=(RecordingStatus.LOST,)), "r.status = "),
        (RecordingFilter(consultation=ConsultationBy(UUID(int=1))), "r.consultation_id = "),
        (RecordingFilter(room_name="room"), "r.room_name = "),
        (RecordingFilter(since=NOON), "r.created_at >= "),
        (RecordingFilter(patient=PatientBy(external_id="mrn-1")), "r.patient_id = "),
        (RecordingFilter(until=NOON), "(r.created_at, r.id) < "),
    ],
)
def test_filter_is_a_condition_only_if_it_is_given(wanted: RecordingFilter, part: str) -> None:
    assert part in _text(wanted)
    assert part not in _text(RecordingFilter())


def test_repeated_status_is_read_once() -> None:
    twice = RecordingFilter(statuses=(RecordingStatus.LOST, RecordingStatus.READY, RecordingStatus.LOST))
    assert twice.parameters["statuses"] == ["LOST", "READY"]


@pytest.mark.parametrize("until", [NOON, NOON.replace(tzinfo=None)])
def test_upper_end_of_a_range_excludes_its_own_time(until: datetime) -> None:
    assert PageRequest(10, None).before(until).after == Cursor(NOON, UUID(int=0))


def test_page_begins_at_the_lower_of_its_cursor_and_the_end_of_the_range() -> None:
    cursor = Cursor(NOON, UUID(int=7))
    request = PageRequest(10, cursor)
    assert request.before(None) == request
    assert request.before(NOON + timedelta(seconds=1)) == request
    assert request.before(NOON).after == Cursor(NOON, UUID(int=0))


@pytest.mark.parametrize(
    ("status", "is_failing"), list(product([None, *DeletionStatus], [None, True, False]))
)
def test_stages_are_those_of_the_filtered_deletions(
    status: DeletionStatus | None, is_failing: bool | None
) -> None:
    stages = DeletionFilter(None if status is None else (status,), None, is_failing).parameters["stages"]
    for of_row, error in product(DeletionStatus, [None, "bucket_down"]):
        fails = of_row is DeletionStatus.DELETING and error is not None
        is_wanted = status in (None, of_row) and is_failing in (None, fails)
        stage = FAILING if fails else of_row
        assert (stages is None or stage in stages) == is_wanted  # type: ignore[operator] # a list
