"""Reads the consultations that `make bench-insights` measures on: ACI-Bench and PriMock57, in folders of their own.

A data folder has `aci-bench/*.json` (dialogue and reference note), `primock57/transcripts/*.TextGrid` (utterances of
one speaker with their times) and `primock57/notes/*.json` (note and highlights). Either of the two may be missing.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.transcripts.model import Speaker, Turn

_MILLISECONDS_A_WORD: Final = 400
_TAG: Final = re.compile(r"\[(\w+)\]\s*(.*)")
_SPEAKERS: Final = {"doctor": Speaker.DOCTOR, "patient": Speaker.PATIENT}
_INTERVAL: Final = re.compile(r'xmin = ([\d.]+)\s+xmax = ([\d.]+)\s+text = "((?:[^"]|"")*)"')
_MARKUP: Final = re.compile(r"<[^>]*>")
_CHECKOUT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Dialogue:
    """An ACI-Bench dialogue as turns, with the clinician's note. The times of the turns are invented."""

    name: str
    turns: tuple[Turn, ...] = field(repr=False)
    note: str = field(repr=False)


@dataclass(frozen=True)
class Consultation:
    """A PriMock57 consultation as turns, with the phrases that the clinician marked in the note."""

    name: str
    turns: tuple[Turn, ...] = field(repr=False)
    highlights: tuple[str, ...] = field(repr=False)


def find_data(given: str | None) -> Path | None:
    """Return the data folder: the given one, or `shared/data` beside the checkout. Return None if it does not exist."""
    folder = Path(given) if given else _CHECKOUT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def read_dialogues(folder: Path) -> list[Dialogue]:
    """Return the ACI-Bench dialogues of a data folder, by file and in the order of the file."""
    return [
        Dialogue(f"{path.stem}/{row.get('file', number)}", _dialogue_turns(row["src"]), row["tgt"])
        for path in sorted((folder / "aci-bench").glob("*.json"))
        for number, row in enumerate(json.loads(path.read_text(encoding="utf-8"))["data"])
    ]


def read_consultations(folder: Path) -> list[Consultation]:
    """Return the PriMock57 consultations of a data folder that have highlights, by name."""
    found = []
    for path in sorted((folder / "primock57" / "notes").glob("*.json")):
        marked = json.loads(path.read_text(encoding="utf-8"))["highlights"]
        highlights = tuple(phrase for phrase in marked if phrase.strip())
        if highlights:
            found.append(
                Consultation(
                    path.stem, _spoken_turns(folder / "primock57" / "transcripts", path.stem), highlights
                )
            )
    return found


def _dialogue_turns(source: str) -> tuple[Turn, ...]:
    spoken: list[tuple[Speaker, str]] = []
    for line in source.splitlines():
        tagged = _TAG.match(line)
        if tagged:
            spoken.append((_SPEAKERS.get(tagged[1], Speaker.COMPANION), tagged[2].strip()))
        elif spoken:
            speaker, text = spoken.pop()
            spoken.append((speaker, f"{text} {line.strip()}".strip()))
    turns = []
    at_ms = 0
    for number, (speaker, text) in enumerate(spoken):
        end_ms = at_ms + _MILLISECONDS_A_WORD * len(text.split())
        turns.append(Turn(number, at_ms, end_ms, speaker, text))
        at_ms = end_ms
    return tuple(turns)


def _spoken_turns(folder: Path, name: str) -> tuple[Turn, ...]:
    spoken = sorted(
        (start_ms, end_ms, speaker, text)
        for voice, speaker in _SPEAKERS.items()
        for start_ms, end_ms, text in _utterances(folder / f"{name}_{voice}.TextGrid")
    )
    return tuple(Turn(number, *utterance) for number, utterance in enumerate(spoken))


def _utterances(path: Path) -> Iterator[tuple[int, int, str]]:
    for start, end, marked in _INTERVAL.findall(path.read_text(encoding="utf-8")):
        text = " ".join(_MARKUP.sub(" ", marked.replace('""', '"')).split())
        if text:
            yield round(float(start) * 1000), round(float(end) * 1000), text
