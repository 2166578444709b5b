"""The benchmark of insights reads its data folder and scores as the common scorers do."""

import json
from pathlib import Path

import pytest

from app.insights.model import Citation, Line
from app.transcripts.model import Speaker, Turn
from benchmarks.insight_data import Consultation, find_data, read_consultations, read_dialogues
from benchmarks.insight_writer import is_verbatim, measure_highlights
from benchmarks.rouge import rouge_1, stem


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("caresses", "caress"), ("ponies", "poni"), ("dies", "die"), ("agreed", "agre"), ("plastered", "plaster"),
        ("hopping", "hop"), ("filing", "file"), ("happy", "happi"), ("enjoy", "enjoy"), ("relational", "relat"),
        ("hypertension", "hypertens"), ("electrical", "electr"), ("adjustment", "adjust"), ("news", "news"),
        ("controlled", "control"), ("rate", "rate"), ("adoption", "adopt"), ("geology", "geolog"),
    ],
)  # fmt: skip
def test_words_are_stemmed_as_by_porter(word: str, expected: str) -> None:
    assert stem(word) == expected


def test_rouge_1_counts_shared_words_once_each() -> None:
    assert rouge_1("the pain, the pains", "The pain is severe.") == pytest.approx(2 * 2 / (4 + 4))
    assert rouge_1("", "") == 0


def test_dialogues_become_turns(tmp_path: Path) -> None:
    folder = tmp_path / "aci-bench"
    folder.mkdir()
    source = "[doctor] hi , andrew\n[patient] hello\nand good day\n[patient_guest] hi"
    (folder / "test.json").write_text(json.dumps({"data": [{"src": source, "tgt": "Note.", "file": "D1"}]}))
    [dialogue] = read_dialogues(tmp_path)
    assert [(turn.number, turn.speaker, turn.text) for turn in dialogue.turns] == [
        (0, Speaker.DOCTOR, "hi , andrew"),
        (1, Speaker.PATIENT, "hello and good day"),
        (2, Speaker.COMPANION, "hi"),
    ]
    assert [turn.start_ms for turn in dialogue.turns] == [0, 1200, 2800]
    assert (dialogue.name, dialogue.note) == ("test/D1", "Note.")


def test_consultations_are_read_from_text_grids(tmp_path: Path) -> None:
    notes, transcripts = tmp_path / "primock57" / "notes", tmp_path / "primock57" / "transcripts"
    notes.mkdir(parents=True)
    transcripts.mkdir()
    (notes / "day1.json").write_text(json.dumps({"highlights": ["cough", ""]}))
    (notes / "day2.json").write_text(json.dumps({"highlights": [""]}))
    grid = 'intervals [1]:\n xmin = {0}\n xmax = {1}\n text = "{2}"\n'
    (transcripts / "day1_doctor.TextGrid").write_text(
        grid.format(2.5, 4, "Hello? <UNIN/>") + grid.format(4, 5, "")
    )
    (transcripts / "day1_patient.TextGrid").write_text(grid.format(1, 2, '<UNSURE>A ""bad""</UNSURE> cough'))
    [consultation] = read_consultations(tmp_path)
    assert consultation.highlights == ("cough",)
    assert [(turn.start_ms, turn.end_ms, turn.speaker, turn.text) for turn in consultation.turns] == [
        (1000, 2000, Speaker.PATIENT, 'A "bad" cough'),
        (2500, 4000, Speaker.DOCTOR, "Hello?"),
    ]


def test_a_missing_data_folder_is_none(tmp_path: Path) -> None:
    assert find_data(str(tmp_path / "missing")) is None
    assert find_data(str(tmp_path)) == tmp_path


def test_a_highlight_is_covered_by_half_of_its_content_words() -> None:
    turn = Turn(0, 0, 4_000, Speaker.PATIENT, "I have a bad headache since Monday")
    figures = measure_highlights([Consultation("one", (turn,), ("severe headaches", "SOB"))])
    assert (figures.covered, figures.said_at_all, figures.count) == (50, 50, 2)


def test_a_line_is_verbatim_only_as_its_quotes() -> None:
    turns = [Turn(0, 0, 1, Speaker.DOCTOR, "any fever ?"), Turn(1, 1, 2, Speaker.PATIENT, "no")]
    quoted = (Citation(0, "any fever ?"), Citation(1, "no"))
    assert is_verbatim(Line("any fever ? no", quoted), turns)
    assert not is_verbatim(Line("any fever ? yes", quoted), turns)
    assert not is_verbatim(Line("any fever", (Citation(1, "any fever"),)), turns)
    assert not is_verbatim(Line("any fever"), turns)
