"""Tests of the oracle. Each history here is written by hand and contains one violation, which the oracle must
detect.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import pytest

from app.certificates.model import (
    Certificate,
    DestroyedKey,
    DestroyedObject,
    Ground,
    HoldCheck,
    SurvivingNote,
    compute_backups_until,
)
from tests.simulation.facts import By, Hold, Recording, Terms, Wrong
from tests.simulation.harness import SIGNER
from tests.simulation.oracle import Oracle
from tests.simulation.play import START

pytestmark = pytest.mark.anyio
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
TERMS = Terms(grace=7, default=90, kinds={"surgery": 150}, minors_until=18, applies_to_existing=False)
WRAPPED = b"a wrapped key"


class History:
    """Builds the history of one recording, and reports it to the oracle."""

    def __init__(self, kind: str = "follow_up", birth_date: date | None = None) -> None:
        self.oracle = Oracle(SIGNER.public_key)
        self.oracle.now = START
        self.oracle.adopted(TERMS)
        self.one = Recording(uuid4(), uuid4(), uuid4(), kind, birth_date, START, wrapped_key=WRAPPED)
        self.key = f"r/d90/{self.one.consultation}/{self.one.id}/video.mp4"
        self.oracle.created(self.one)
        self.oracle.ended(self.one.id, START)
        self.oracle.put(self.key, [self.one.id], 10, "a" * 64)

    def at(self, time: timedelta) -> "History":
        self.oracle.now = START + time
        self.oracle.moment += 1
        return self

    def hold(self, **scope: object) -> UUID:
        hold_id = uuid4()
        self.oracle.held(hold_id, Hold(self.oracle.moment + 1, **scope))  # type: ignore[arg-type]
        return hold_id

    def destroyed(self) -> "History":
        self.oracle.removed(self.key, By.DESTROYER)
        self.oracle.deleted(self.one.id)
        return self

    def certificate(self, **changes: object) -> bytes:
        at = self.oracle.now
        destroyed = DestroyedObject(
            sha256(self.key.encode()).hexdigest(), "video.mp4", 10, "a" * 64, "e", at, at
        )
        certificate = Certificate(
            deployment="simulation",
            recording_id=self.one.id,
            consultation_id=self.one.consultation,
            ground=Ground.RESTORE,
            reason=None,
            requested_at=None,
            policy=None,
            hold_check=HoldCheck(at),
            objects=(destroyed,),
            keys=(DestroyedKey("recording", sha256(WRAPPED).hexdigest(), "tests-1", at),),
            text_rows_cleared=(),
            destroyed_at=at,
            backups_until=compute_backups_until(at, 35),
            issued_at=at,
        )
        return SIGNER.sign(replace(certificate, **changes)).file  # type: ignore[arg-type]

    def judged(self, *files: bytes) -> dict[Wrong, int]:
        self.oracle.judge_certificates(self.one.id, list(files))
        return self.counts

    @property
    def counts(self) -> dict[Wrong, int]:
        return {wrong: many for wrong in Wrong if (many := self.oracle.count(wrong))}


def test_oracle_accepts_a_timely_destruction_with_a_certificate() -> None:
    history = History().at(90 * DAY).destroyed()
    assert history.judged(history.certificate()) == {}
    history.oracle.judge_left([], {})
    history.at(200 * DAY).oracle.judge_overdue()
    assert history.counts == {}


class TestHeld:
    @pytest.mark.parametrize("scope", ["consultation", "patient", "days"])
    def test_deletion_under_a_hold_is_a_violation(self, scope: str) -> None:
        history = History()
        of = {"days": (START, START + HOUR)}.get(scope) or getattr(history.one, scope)
        history.hold(**{scope: of})
        assert history.at(90 * DAY).destroyed().counts == {Wrong.HELD: 1}

    def test_hold_on_another_patients_consultation_does_not_count(self) -> None:
        history = History()
        history.hold(consultation=history.one.consultation, patient=uuid4())
        assert history.at(90 * DAY).destroyed().counts == {}

    def test_deletion_under_a_hold_between_two_attempts_is_a_violation(self) -> None:
        history = History().at(90 * DAY)
        history.oracle.begun(history.one.id)
        history.hold(patient=history.one.patient)
        assert history.at(91 * DAY).destroyed().counts == {Wrong.HELD: 1}

    def test_deletion_after_a_released_hold_is_no_violation(self) -> None:
        history = History()
        hold = history.hold(patient=history.one.patient)
        history.at(100 * DAY).oracle.released(hold)
        assert history.at(100 * DAY).destroyed().counts == {}

    def test_removal_of_one_of_two_copies_is_no_violation(self) -> None:
        history = History()
        history.hold(patient=history.one.patient)
        history.oracle.copied(history.key, "keep/copy")
        history.at(DAY).oracle.removed(history.key, By.OTHER)
        assert history.counts == {}
        history.oracle.removed("keep/copy", By.OTHER)
        assert history.counts == {Wrong.HELD: 1, Wrong.EARLY: 1}

    def test_removal_by_the_lifecycle_rule_is_a_violation(self) -> None:
        history = History()
        history.hold(patient=history.one.patient)
        history.at(97 * DAY).oracle.removed(history.key, By.BUCKET)
        assert history.counts == {Wrong.HELD: 1}


class TestEarly:
    def test_destruction_an_hour_before_the_term_is_a_violation(self) -> None:
        assert History().at(90 * DAY - HOUR).destroyed().counts == {Wrong.EARLY: 1}

    def test_term_of_the_consultations_kind_applies(self) -> None:
        assert History("surgery").at(149 * DAY).destroyed().counts == {Wrong.EARLY: 1}

    def test_recording_of_a_minor_is_due_after_the_birthday_in_every_time_zone(self) -> None:
        born = (START + 200 * DAY).date().replace(year=(START + 200 * DAY).year - 18)
        noon = datetime(born.year + 18, born.month, born.day, 12, tzinfo=UTC) - START
        assert History(birth_date=born).at(noon - HOUR).destroyed().counts == {Wrong.EARLY: 1}
        assert History(birth_date=born).at(noon).destroyed().counts == {}

    def test_minor_born_on_29_february_is_of_age_on_1_march(self) -> None:
        due = TERMS.due("follow_up", date(2084, 2, 29), datetime(2101, 12, 1, tzinfo=UTC))
        assert due == datetime(2102, 3, 1, 12, tzinfo=UTC)

    def test_policy_applies_to_existing_recordings_only_if_it_says_so(self) -> None:
        for applies, due in ((False, 90 * DAY), (True, 60 * DAY)):
            history = History().at(60 * DAY)
            history.oracle.adopted(replace(TERMS, default=30, applies_to_existing=applies))
            assert history.one.due == START + due

    def test_request_ends_the_term_after_its_grace_unless_it_is_undone(self) -> None:
        history = History().at(DAY)
        history.oracle.asked(history.one.id, START + 8 * DAY)
        assert history.at(8 * DAY).destroyed().counts == {}
        history = History().at(DAY)
        history.oracle.asked(history.one.id, START + 8 * DAY)
        history.oracle.undone(history.one.id)
        assert history.at(8 * DAY).destroyed().counts == {Wrong.EARLY: 1}

    def test_recording_without_an_object_may_be_destroyed_after_the_quarantine(self) -> None:
        history = History().at(DAY)
        history.oracle.removed(history.key, By.ACCIDENT)
        history.at(32 * DAY).oracle.deleted(history.one.id)
        assert history.counts == {}


class TestOverdue:
    def test_destruction_more_than_a_day_late_is_one_violation(self) -> None:
        history = History().at(91 * DAY)
        history.oracle.judge_overdue()
        assert history.counts == {}
        for days in (92, 93):
            history.at(days * DAY).oracle.judge_overdue()
        assert history.counts == {Wrong.OVERDUE: 1}

    def test_recording_is_overdue_a_day_after_the_end_of_its_hold(self) -> None:
        history = History()
        hold = history.hold(patient=history.one.patient)
        history.at(120 * DAY).oracle.judge_overdue()
        history.oracle.released(hold)
        history.at(121 * DAY).oracle.judge_overdue()
        assert history.counts == {}
        history.at(121 * DAY + HOUR).oracle.judge_overdue()
        assert history.counts == {Wrong.OVERDUE: 1}

    def test_restored_recording_must_be_destroyed_again(self) -> None:
        history = History().at(90 * DAY).destroyed()
        history.oracle.restored(history.one.id)
        history.at(92 * DAY).oracle.judge_overdue()
        assert history.counts == {Wrong.OVERDUE: 1}


class TestCertificates:
    def test_missing_certificate_is_a_violation(self) -> None:
        assert History().at(90 * DAY).destroyed().judged() == {Wrong.CERTIFICATE: 1}

    def test_altered_byte_of_a_certificate_is_a_violation(self) -> None:
        history = History().at(90 * DAY).destroyed()
        file = history.certificate()
        assert history.judged(file.replace(b'"size_bytes":10', b'"size_bytes":11')) == {Wrong.CERTIFICATE: 1}

    @pytest.mark.parametrize(
        "changes", [{"objects": ()}, {"keys": ()}, {"recording_id": uuid4()}, {"number": 2}]
    )
    def test_certificate_with_a_missing_or_wrong_fact_is_a_violation(
        self, changes: dict[str, object]
    ) -> None:
        history = History().at(90 * DAY).destroyed()
        assert history.judged(history.certificate(**changes)) == {Wrong.CERTIFICATE: 1}

    @pytest.mark.parametrize("change", [{"size_bytes": 11}, {"sha256": "b" * 64}, {"key_sha256": "c" * 64}])
    def test_certificate_with_a_wrong_fact_about_an_object_is_a_violation(
        self, change: dict[str, object]
    ) -> None:
        history = History().at(90 * DAY).destroyed()
        at = history.oracle.now
        right = DestroyedObject(
            sha256(history.key.encode()).hexdigest(), "video.mp4", 10, "a" * 64, "e", at, at
        )
        wrong = replace(right, **change)  # type: ignore[arg-type]
        assert history.judged(history.certificate(objects=(wrong,))) == {Wrong.CERTIFICATE: 1}


class TestLeftBehind:
    def test_remaining_object_is_a_violation(self) -> None:
        history = History().at(90 * DAY)
        history.oracle.deleted(history.one.id)
        history.oracle.judge_left([history.key], {})
        assert history.counts == {Wrong.LEFT: 1}

    def test_unknown_object_is_a_violation(self) -> None:
        history = History()
        history.oracle.judge_left([history.key, "keep/x"], {})
        assert history.counts == {Wrong.LEFT: 1}

    def test_remaining_data_key_is_a_violation(self) -> None:
        history = History().at(90 * DAY).destroyed()
        history.oracle.judge_left([], {"recording_keys": [history.one.id]})
        assert history.counts == {Wrong.LEFT: 1}

    def test_copy_left_by_a_death_may_wait_for_the_sweep(self) -> None:
        history = History().at(90 * DAY)
        history.oracle.begun(history.one.id)
        history.oracle.copied(history.key, "keep/copy")
        history.destroyed()
        history.at(100 * DAY).oracle.judge_left(["keep/copy"], {})
        assert history.counts == {}
        history.at(150 * DAY).oracle.judge_left(["keep/copy"], {})
        assert history.counts == {Wrong.LEFT: 1}


class TestSignedNotes:
    """The note of each history is signed on the first day. Its term is 200 days."""

    def _signed(self) -> tuple[History, UUID]:
        history, note = History(), uuid4()
        history.oracle.adopted(replace(TERMS, notes=200))
        history.oracle.signed(note, history.one.id, 2, "d" * 64, b"a patient's key")
        return history, note

    def test_note_destroyed_in_time_is_no_violation_and_an_hour_before_is_one(self) -> None:
        for time, counts in ((200 * DAY, {}), (200 * DAY - HOUR, {Wrong.EARLY: 1})):
            history, note = self._signed()
            history.at(time).oracle.note_ended(note)
            assert history.counts == counts

    def test_addendum_begins_the_term_anew(self) -> None:
        history, note = self._signed()
        history.at(100 * DAY).oracle.signed(note, history.one.id, 0, "e" * 64, b"a patient's key")
        history.at(299 * DAY).oracle.note_ended(note)
        assert history.counts == {Wrong.EARLY: 1}

    def test_held_note_that_is_destroyed_is_a_violation(self) -> None:
        history, note = self._signed()
        history.hold(patient=history.one.patient)
        history.at(200 * DAY).oracle.note_ended(note)
        assert history.counts == {Wrong.HELD: 1}

    def test_note_that_stays_is_overdue(self) -> None:
        history, _ = self._signed()
        history.at(90 * DAY).destroyed().at(204 * DAY).oracle.judge_overdue()
        assert history.counts == {Wrong.OVERDUE: 1}

    def test_certificate_of_a_recording_must_name_the_note_that_survives(self) -> None:
        history, note = self._signed()
        history.at(90 * DAY).destroyed()
        survivor = SurvivingNote(note, ("d" * 64,), 2, None)
        assert history.judged(history.certificate(surviving_notes=(survivor,))) == {}
        assert history.judged(history.certificate()) == {Wrong.CERTIFICATE: 1}

    def test_note_without_a_certificate_and_a_remaining_text_or_key_are_violations(self) -> None:
        history, note = self._signed()
        history.at(200 * DAY).oracle.note_ended(note)
        history.oracle.judge_note_certificates(note, [])
        history.oracle.judge_note_rows({note}, {history.one.patient})
        assert history.counts == {Wrong.CERTIFICATE: 1, Wrong.LEFT: 2}

    def test_text_of_a_kept_note_that_is_gone_is_a_violation(self) -> None:
        history, _ = self._signed()
        history.oracle.judge_note_rows(set(), {history.one.patient})
        assert history.counts == {Wrong.EARLY: 1}
