"""Finds the action items of a consultation: what somebody has to do, who, and when. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from app.insights.drafts import ActionItem, Responsible
from app.insights.extract import cues as cues
from app.insights.extract.clauses import Clause
from app.insights.extract.lines import write_line
from app.insights.extract.sections import DOCTORS
from app.insights.extract.units import Unit
from app.insights.extract.vocabulary import VOCABULARIES
from app.transcripts.model import Speaker

MAX_ACTION_ITEMS: Final = 20
_SHARED: Final = 0.6


def find_action_items(units: Sequence[Unit], texts: Mapping[int, str]) -> list[ActionItem]:
    """Return the action items, in order, at most `MAX_ACTION_ITEMS`. A repeated item is returned once."""
    found: list[ActionItem] = []
    known: list[frozenset[str]] = []
    for unit in units:
        clause = unit.clauses[0]
        matched = None if unit.is_answered_question else _match(clause)
        if matched is None:
            continue
        content = _content(clause)
        if not content or any(len(content & each) > _SHARED * len(content) for each in known):
            continue
        known.append(content)
        when = cues.WHEN.search(clause.text)
        found.append(ActionItem(write_line(unit.clauses, texts), matched[1], when[0] if when else None))
        if len(found) == MAX_ACTION_ITEMS:
            break
    return found


def _match(clause: Clause) -> tuple[re.Match[str], Responsible | None] | None:
    """Return the words that name the action, and who acts. An UNKNOWN speaker's `I` and `you` name nobody."""
    if cues.EXAM_BEGINS.search(clause.text):
        return None
    of_doctor = (cues.DOCTOR_ACTS, Responsible.DOCTOR)
    of_patient = (cues.PATIENT_ACTS, Responsible.PATIENT)
    if clause.speaker is Speaker.PATIENT:
        given = [(cues.OWN_ACTS, Responsible.PATIENT)]
    elif clause.speaker in DOCTORS or clause.speaker is Speaker.UNKNOWN:
        given = [of_patient, of_doctor]
    else:
        return None
    matches = [(match, who) for pattern, who in given if (match := pattern.search(clause.text))]
    if not matches:
        return None
    match, who = min(matches, key=lambda found: found[0].start())
    return match, None if clause.speaker is Speaker.UNKNOWN else who


def _content(clause: Clause) -> frozenset[str]:
    words = VOCABULARIES[clause.language]
    return frozenset(clause.keys) - words.conversation - frozenset(words.note_words)
