"""What insights cover, and the merging of the parts of a long consultation."""

from app.insights.drafts import Chapter, Insights, Topic
from app.insights.model import Citation, Line
from app.insights.writing.answers import read_answer
from app.insights.writing.coverage import UncitedKind, find_uncited, measure_coverage
from app.insights.writing.extractive import answer_request
from app.insights.writing.merging import MAX_TOPICS, merge_insights
from app.insights.writing.requests import MAX_SUMMARY_WORDS, plan_requests
from app.transcripts.model import Speaker, Turn
from tests.unit.dialogues import dialogue
from tests.unit.insight_answers import lines_of
from tests.unit.test_insight_injections import ENGLISH, SPANISH

TURNS = dialogue(
    "D: Do you have any allergies?",
    "P: Yes, to penicillin. I take 500 milligrams of metformin and lisinopril.",
    "D: Your blood pressure is 142 over 90. That one looks high.",
    "P: Soy alérgico al látex y tomo dos pastillas al día.",
    "P: Fine, thank you.",
)


def test_coverage_counts_what_is_missing() -> None:
    turns = [
        Turn(0, 0, 10_000, Speaker.DOCTOR, "Hello"),
        Turn(1, 10_000, 20_000, Speaker.PATIENT, "", is_unintelligible=True),
        Turn(2, 15_000, 25_000, Speaker.PATIENT, "", is_unintelligible=True),
        Turn(3, 25_000, 30_000, Speaker.UNKNOWN, "Yes"),
        Turn(4, 30_000, 31_000, Speaker.UNKNOWN, ""),
    ]
    coverage = measure_coverage(
        turns, duration_ms=60_000, is_truncated=True, is_interrupted=False, unused_track_count=1
    )
    assert (coverage.covered_ms, coverage.turn_count) == (45_000, 4)
    assert (coverage.unintelligible_count, coverage.unknown_speaker_count) == (2, 1)
    assert (coverage.is_truncated, coverage.is_interrupted, coverage.unused_track_count) == (True, False, 1)
    assert coverage.are_speakers_unknown


def test_coverage_without_a_duration_lasts_until_the_last_turn() -> None:
    def covered_ms(turns: list[Turn]) -> int:
        return measure_coverage(
            turns, duration_ms=None, is_truncated=False, is_interrupted=False, unused_track_count=0
        ).covered_ms

    assert covered_ms(dialogue("D: Hello", "P: Hi")) == 1_900
    assert covered_ms([]) == 0


def test_uncited_numbers_doses_allergies_and_medication_are_listed() -> None:
    found = {each.turn_number: each for each in find_uncited(TURNS, [])}
    assert {number: each.kinds for number, each in found.items()} == {
        0: {UncitedKind.ALLERGY},
        1: {UncitedKind.DOSE, UncitedKind.MEDICATION},
        2: {UncitedKind.NUMBER},
        3: {UncitedKind.ALLERGY, UncitedKind.DOSE, UncitedKind.MEDICATION},
    }
    assert found[2].quotes == ("Your blood pressure is 142 over 90.",)
    assert "pressure" not in repr(found[2])


def test_what_a_line_quotes_is_cited() -> None:
    lines = [
        Line(
            "Allergic to penicillin",
            (Citation(0, "Do you have any allergies?"), Citation(1, "Yes, to penicillin")),
        ),
        Line("Metformin", (Citation(1, "I take 500 milligrams of metformin"),)),
        Line("Pressure", (Citation(2, "pressure is 142 over"), Citation(3, TURNS[3].text))),
    ]
    found = {each.turn_number: each.kinds for each in find_uncited(TURNS, lines)}
    assert found == {1: {UncitedKind.MEDICATION}, 2: {UncitedKind.NUMBER}}  # lisinopril, 90


def test_merged_insights_keep_their_limits_and_the_order() -> None:
    turns = dialogue(*[f"P: The pain number {number} is on the left side" for number in range(40)])

    def part(first: int) -> Insights:
        lines = tuple(
            Line(
                f"Pain {number} is on the left side, as the patient said",
                (Citation(number, turns[number].text),),
            )
            for number in range(first, first + 10)
        )
        return Insights(
            summary=lines,
            key_points=lines,
            topics=tuple(Topic(f"topic {number}", lines[0].citations[0]) for number in range(9)),
            chapters=(Chapter("Pain", first * 1_000, lines[0].citations[0]),),
        )

    merged = merge_insights([part(0), part(10), part(20), part(30)], turns)
    assert 0 < sum(len(each.text.split()) for each in merged.summary) <= MAX_SUMMARY_WORDS
    cited = [each.citations[0].turn_number for each in merged.summary]
    assert cited == sorted(cited)
    assert {number // 10 for number in cited} == {0, 1, 2, 3}
    assert len(merged.topics) == 9 <= MAX_TOPICS
    assert [chapter.start_ms for chapter in merged.chapters] == [0, 10_000, 20_000, 30_000]
    assert merge_insights([part(0)], turns) == part(0)


def test_5000_turns_in_two_languages_are_written_in_parts_and_merged() -> None:
    said = (*ENGLISH, *SPANISH)
    turns = dialogue(*[f"{said[number % 10]} {number % 89}" for number in range(5_000)])
    requests = plan_requests(turns, None)
    assert len(requests) == 5
    parts = [read_answer(answer_request(request), turns, None) for request in requests]
    assert all(part.insights and part.dropped_count == 0 for part in parts)
    merged = merge_insights([part.insights for part in parts if part.insights], turns)
    assert 0 < sum(len(each.text.split()) for each in merged.summary) <= MAX_SUMMARY_WORDS
    numbers = {citation.turn_number for each in lines_of(merged) for citation in each.citations}
    assert min(numbers) < 1_000
    assert max(numbers) >= 4_000


def test_one_turn_is_written() -> None:
    turns = dialogue("P: I have a headache")
    [request] = plan_requests(turns, "en")
    read = read_answer(answer_request(request), turns, "en")
    assert read.insights is not None
    assert [each.text for each in read.insights.note.lines] == ["I have a headache"]
