"""Tests of policies/review.toml and of the file of related pairs."""

from pathlib import Path
from uuid import UUID

import pytest

from app.errors import InvalidInput
from app.review.model import ReviewRule
from app.review.proposals import Pair, parse_pairs
from app.review.rules_file import MAX_BYTES, parse

TEXT = (Path(__file__).parents[2] / "policies" / "review.toml").read_text(encoding="utf-8")
STAFF = "8b0d5c8e-2a3f-4f44-9d36-1f0a9f3f2c11"
HEADER = "staff_user_id,patient_external_id,relation\n"


def test_rules_of_the_repository_name_every_rule() -> None:
    rules = parse(TEXT)
    assert rules.terms["rules"].keys() == {rule.slug for rule in ReviewRule}
    assert rules.terms["time_zone"] == "UTC"


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("[self]\nenabled = true\n", "", "self"),
        ("[self]\nenabled = true\n", "[self]\nenabled = 1\n", "self.enabled"),
        ("[self]\nenabled = true\n", "[self]\nenabled = true\nloud = true\n", "self.loud"),
        ('time_zone = "UTC"', 'time_zone = "Mars/Olympus"', "time_zone"),
        ('opens_at = "06:00"', 'opens_at = "6"', "after_hours.opens_at"),
        ("days = [1, 2, 3, 4, 5, 6, 7]", "days = [0]", "after_hours.days.0"),
        ("count = 20", "count = 1001", "many_urls.count"),
        ("count = 20", "count = 0", "many_urls.count"),
        ("minutes = 60", "minutes = 1441", "many_urls.minutes"),
        ("factor = 3.0", "factor = 0.5", "volume.factor"),
        ("factor = 3.0", "factor = nan", "volume.factor"),
        ("[break_glass]\nenabled = true", "[break_glass]\nenabled = false", "break_glass.enabled"),
        ("name =", "name", "file"),
        ("# The rules", "# " + "x" * MAX_BYTES, "file"),
    ],
)
def test_bad_rules_are_refused_with_their_place(before: str, after: str, place: str) -> None:
    assert before in TEXT
    with pytest.raises(InvalidInput) as caught:
        parse(TEXT.replace(before, after, 1))
    assert (caught.value.reason, caught.value.detail["place"]) == ("review_malformed", place)


def test_pairs_are_read() -> None:
    assert parse_pairs(f"\ufeff{HEADER}{STAFF},mrn-1,SELF\n") == [Pair(UUID(STAFF), "mrn-1", "SELF")]
    assert parse_pairs(HEADER) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "line 1"),
        ("staff,patient\n", "line 1"),
        (f"{HEADER}{STAFF},mrn-1\n", "line 2"),
        (f"{HEADER}{STAFF},mrn-1,SELF\nx,mrn-1,SELF\n", "line 3"),
        (f"{HEADER}{STAFF},mrn-1,COUSIN\n", "line 2"),
        (f'{HEADER}"{STAFF},mrn-1,SELF\n', "line 1"),
    ],
)
def test_bad_file_of_pairs_is_refused_with_its_line(text: str, place: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_pairs(text)
    assert (caught.value.reason, caught.value.detail["place"]) == ("pairs_malformed", place)
