"""Tests of retention policies: which policy files are refused, which changes shorten terms, and when recordings are
due.
"""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.retention.model import (
    RetentionPolicy,
    Terms,
    compare_policies,
    compute_coming_of_age,
    compute_due_at,
    compute_sha256,
    find_shortened_places,
)
from app.retention.policy_file import parse

FILE = Path(__file__).parents[2] / "policies" / "retention.toml"
SMALL = """
name = "one"
applies_to_existing = false
[default]
recording_days = 90
signed_note_days = 2557
[deletion]
grace_days = 7
"""

days = st.integers(1, 36_500)
terms = st.builds(Terms, days, days)
kinds = st.dictionaries(st.sampled_from(["first", "follow_up", "psychotherapy"]), terms)
policies = st.builds(
    RetentionPolicy,
    name=st.just("any"),
    default=terms,
    kinds=kinds,
    minors_until_age_years=st.none() | st.integers(1, 100),
    grace_days=days,
    jurisdiction=st.none(),
    applies_to_existing=st.booleans(),
)


def test_the_file_of_the_repository_keeps_recordings_ninety_days() -> None:
    policy = parse(FILE.read_text(encoding="utf-8"))
    assert policy.terms_of("anything") == Terms(90, 2557)
    assert (policy.grace_days, policy.minors_until_age_years) == (7, 18)
    assert (policy.jurisdiction, policy.applies_to_existing) == (None, False)


def test_kinds_have_terms_of_their_own_and_the_default_where_they_say_nothing() -> None:
    policy = parse(SMALL + '[[kinds]]\nkinds = ["first", "second"]\nrecording_days = 365\n')
    assert policy.terms_of("second") == Terms(365, 2557)
    assert policy.terms_of("third") == Terms(90, 2557)


@pytest.mark.parametrize(
    ("text", "reason", "place"),
    [
        ("", "retention_malformed", "name"),
        ("name = ", "retention_malformed", "syntax"),
        ("[" * 50_000, "retention_malformed", "syntax"),
        ("x = " + "1" * 5_000, "retention_malformed", "syntax"),
        ("#" * 64_001, "retention_malformed", "size"),
        (SMALL.replace("90", '"90"'), "retention_malformed", "default.recording_days"),
        (SMALL.replace("90", "90.0"), "retention_malformed", "default.recording_days"),
        (SMALL.replace("90", "true"), "retention_malformed", "default.recording_days"),
        (SMALL.replace("false", '"no"'), "retention_malformed", "applies_to_existing"),
        (SMALL.replace("recording_days = 90\n", ""), "retention_malformed", "default.recording_days"),
        (SMALL.replace('"one"', '""'), "retention_malformed", "name"),
        (SMALL.replace('"one"', '"a\\nb"'), "retention_malformed", "name"),
        (SMALL.replace('"one"', '"one\\u0000"'), "retention_malformed", "name"),
        (SMALL.replace("90", "0"), "retention_term_absurd", "default.recording_days"),
        (SMALL.replace("90", "-1"), "retention_term_absurd", "default.recording_days"),
        (SMALL.replace("90", "36501"), "retention_term_absurd", "default.recording_days"),
        (SMALL.replace("= 7", "= 0"), "retention_term_absurd", "deletion.grace_days"),
        (SMALL + "[minors]\nuntil_age_years = 101\n", "retention_term_absurd", "minors.until_age_years"),
        (SMALL + "[minors]\nuntil_age = 18\n", "retention_malformed", "minors.until_age_years"),
        ("forever = true\n" + SMALL, "retention_unknown_key", "forever"),
        (SMALL + "undo_days = 3\n", "retention_unknown_key", "deletion.undo_days"),
        (SMALL + '[[kinds]]\nkinds = ["Not a slug"]\n', "retention_malformed", "kinds.0.kinds.0"),
        (SMALL + '[[kinds]]\nkinds = ["first\\n"]\n', "retention_malformed", "kinds.0.kinds.0"),
        (SMALL + "[[kinds]]\nkinds = []\n", "retention_malformed", "kinds.0.kinds"),
        (SMALL + '[[kinds]]\nkinds = ["a", "a"]\n', "retention_kinds_overlap", "kinds.0.a"),
        (
            SMALL + '[[kinds]]\nkinds = ["a", "b"]\n[[kinds]]\nkinds = ["c", "b"]\nrecording_days = 9\n',
            "retention_kinds_overlap",
            "kinds.1.b",
        ),
        ('jurisdiction = "US-XX"\n' + SMALL, "retention_jurisdiction_unknown", "floors.US-XX"),
    ],
)
def test_bad_file_is_refused_with_its_place(text: str, reason: str, place: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(text)
    assert (refused.value.reason, refused.value.detail["place"]) == (reason, place)


FLOORS = "[floors.US-XX]\nrecording_days = 30\nsigned_note_days = 1827\nuntil_age_years = 21\n"
BOUND = 'jurisdiction = "US-XX"\n' + SMALL + "[minors]\nuntil_age_years = 21\n" + FLOORS


@pytest.mark.parametrize(
    ("text", "place", "given_days", "floor"),
    [
        (BOUND.replace("= 90", "= 29"), "default.recording_days", 29, 30),
        (BOUND.replace("2557", "1826"), "default.signed_note_days", 1826, 1827),
        (
            BOUND.replace("[minors]\nuntil_age_years = 21", "[minors]\nuntil_age_years = 20"),
            "minors.until_age_years",
            20,
            21,
        ),
        (BOUND.replace("[minors]\nuntil_age_years = 21\n", ""), "minors.until_age_years", 0, 21),
        (
            BOUND + '[[kinds]]\nkinds = ["first"]\nrecording_days = 7\n',
            "kinds.first.recording_days",
            7,
            30,
        ),
    ],
)
def test_term_below_the_floor_of_the_jurisdiction_is_refused(
    text: str, place: str, given_days: int, floor: int
) -> None:
    with pytest.raises(InvalidInput, match="retention_below_floor") as refused:
        parse(text)
    assert refused.value.detail == {"place": place, "given": given_days, "floor": floor}


def test_floors_bind_nobody_who_does_not_name_them() -> None:
    assert parse(BOUND).jurisdiction == "US-XX"
    text = BOUND.replace('jurisdiction = "US-XX"\n', "").replace("= 90", "= 1")
    assert parse(text).default.recording_days == 1


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    refused = None
    try:
        parse(text)
    except InvalidInput as error:
        refused = error
    assert refused is None or refused.detail["place"]


@given(policies)
def test_what_the_database_keeps_reads_back_the_same(policy: RetentionPolicy) -> None:
    assert RetentionPolicy.of_terms(policy.name, policy.terms) == policy
    assert compare_policies(policy, policy) == ()


@given(policies, policies, st.sampled_from(["first", "follow_up", "psychotherapy", "other"]))
def test_nothing_is_due_sooner_unless_something_is_shortened(
    before: RetentionPolicy, after: RetentionPolicy, kind: str
) -> None:
    now, birth = datetime(2026, 11, 21, tzinfo=UTC), date(2015, 2, 28)
    if not find_shortened_places(before, after):
        assert compute_due_at(after, kind, birth, now) >= compute_due_at(before, kind, birth, now)
        assert after.terms_of(kind).signed_note_days >= before.terms_of(kind).signed_note_days
        assert after.grace_days >= before.grace_days


@given(policies, policies)
def test_a_change_and_its_reverse_shorten_what_the_other_lengthens(
    before: RetentionPolicy, after: RetentionPolicy
) -> None:
    there, back = set(find_shortened_places(before, after)), set(find_shortened_places(after, before))
    assert there | back == {change.place for change in compare_policies(before, after)}
    assert not there & back


def test_a_kind_that_loses_its_longer_term_is_shortened() -> None:
    before = parse(SMALL + '[[kinds]]\nkinds = ["first"]\nrecording_days = 365\n')
    assert find_shortened_places(before, parse(SMALL)) == ("kinds.first.recording_days",)
    assert find_shortened_places(parse(SMALL), before) == ()


@pytest.mark.parametrize(
    ("birth", "years", "expected"),
    [
        (date(2010, 5, 3), 18, datetime(2028, 5, 3, 12, tzinfo=UTC)),
        (date(2008, 2, 29), 18, datetime(2026, 3, 1, 12, tzinfo=UTC)),
        (date(2008, 2, 29), 20, datetime(2028, 2, 29, 12, tzinfo=UTC)),
        (date(2010, 12, 31), 18, datetime(2028, 12, 31, 12, tzinfo=UTC)),
    ],
)
def test_a_birthday_has_begun_everywhere_on_earth(birth: date, years: int, expected: datetime) -> None:
    assert compute_coming_of_age(birth, years) == expected


def test_a_minors_recording_is_kept_until_of_age_and_for_its_term() -> None:
    policy = parse(SMALL + "[minors]\nuntil_age_years = 18\n")
    now = datetime(2026, 11, 21, 9, tzinfo=UTC)
    assert compute_due_at(policy, "first", date(2020, 1, 2), now) == datetime(2038, 1, 2, 12, tzinfo=UTC)
    assert compute_due_at(policy, "first", date(2008, 11, 22), now) == now + timedelta(days=90)
    assert compute_due_at(policy, "first", None, now) == now + timedelta(days=90)


def test_a_version_is_known_by_its_bytes() -> None:
    assert compute_sha256(SMALL) != compute_sha256(SMALL + "\n")
