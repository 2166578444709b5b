"""The planting of slips and their measurement."""

import random

from app.insights.model import Flag
from benchmarks.insight_slips import (
    MAX_FLAGS,
    MAX_POINTS_IN_SPANISH,
    MIN_NEGATIONS,
    NotedDialogue,
    describe_slips,
    format_percentages,
    measure_slips,
    read_spanish,
)
from benchmarks.slip_citations import Citer, split_note
from benchmarks.slip_planting import CATCHING_FLAGS, Kind, plant_slips
from tests.unit.dialogues import dialogue

LINE = "His mother currently takes metformin 20 mg for the right knee."


def seeded() -> random.Random:
    return random.Random(1)  # noqa: S311


def test_note_is_split_without_headings_and_bullets() -> None:
    note = "PLAN\n\nKnee\n• Neck: Supple. No masses were felt.\n1. Continue Mr. Smith's metformin.\nGout.\n"
    assert split_note(note) == ["No masses were felt.", "Continue Mr. Smith's metformin."]


def test_citation_is_the_most_similar_turn_with_its_answer() -> None:
    turns = dialogue("D: Hello.", "D: Do you have any knee pain?", "P: Yes.", "P: My back is fine.")
    cited = Citer(turns).cite("The patient reports knee pain.")
    assert [citation.turn_number for citation in cited] == [1, 2]
    assert [citation.turn_number for citation in Citer(turns).cite("His back is fine.")] == [3]


def test_slips_differ_from_the_line_and_are_the_same_for_a_seed() -> None:
    planted = plant_slips(LINE, [5.0, 20.0], ["lisinopril"], seeded())
    assert {slip.kind for slip in planted} == set(Kind) - {Kind.NEGATION_ADDED, Kind.NEGATION_DROPPED}
    assert all(slip.text != LINE for slip in planted)
    texts = {slip.kind: slip.text for slip in planted}
    assert "5 mg" in texts[Kind.OTHER_NUMBER]
    assert "left knee" in texts[Kind.SIDE]
    assert "lisinopril" in texts[Kind.DRUG]
    assert "father" in texts[Kind.RELATIVE]
    assert "previously" in texts[Kind.TIME]
    assert planted == plant_slips(LINE, [5.0, 20.0], ["lisinopril"], seeded())


def test_negation_is_dropped_where_there_is_one_and_added_where_there_is_none() -> None:
    (dropped,) = plant_slips("He denies fever.", [], [], seeded())
    assert (dropped.kind, dropped.text) == (Kind.NEGATION_DROPPED, "He reports fever.")
    (added,) = plant_slips("He reports fever.", [], [], seeded())
    assert (added.kind, added.text) == (Kind.NEGATION_ADDED, "He denies fever.")


def test_line_whose_number_is_not_cited_counts_apart() -> None:
    turns = tuple(dialogue("D: The knee is swollen.", "P: It hurts at night."))
    report = measure_slips([NotedDialogue(turns, "The knee is swollen.\nThe knee hurts 9 of 10.")])
    assert (report.every.line_count, report.rest.line_count) == (2, 1)
    assert report.rest.planted[Kind.DIGIT] == 0
    assert report.every.planted[Kind.DIGIT] == 1
    assert Flag.NUMBER in report.every.flags


def test_no_dialogue_gives_a_report() -> None:
    assert format_percentages(measure_slips([])) == "numbers 100.0 sides 100.0 negations 100.0 flags 0.0"


def test_every_kind_has_a_catching_flag() -> None:
    assert CATCHING_FLAGS.keys() == set(Kind)


def test_spanish_consultations_are_ten_and_their_slips_are_caught() -> None:
    dialogues = read_spanish()
    assert len(dialogues) == 10
    report = measure_slips(dialogues)
    assert report.percentages["numbers"] >= 95
    assert report.percentages["negations"] >= MIN_NEGATIONS
    assert report.percentages["flags"] <= MAX_FLAGS + MAX_POINTS_IN_SPANISH
    assert any("negation dropped" in line for line in describe_slips("Spanish", report))
