"""Assigns each unit of a consultation to a section of a SOAP note. Pure.

A consultation goes through three phases: the history, the examination and the plan. The phase and the cues of a
clause decide on the section. An UNKNOWN speaker's statement is classified by its cues alone.
"""

from collections.abc import Sequence
from typing import Final

from app.insights.drafts import Section
from app.insights.extract import cues as cues
from app.insights.extract.clauses import Clause
from app.insights.extract.units import Unit
from app.transcripts.model import Speaker

DOCTORS: Final = frozenset({Speaker.DOCTOR, Speaker.CLINICIAN, Speaker.STUDENT})
"""Speakers who examine and decide."""


_LATE: Final = 0.65
_AHEAD: Final = 20
_MIN_FINDINGS: Final = 3


def assign_sections(units: Sequence[Unit], clauses: Sequence[Clause]) -> dict[Unit, Section]:
    """Return the section of each unit."""
    phases = _phases(clauses)
    late = int(_LATE * len(clauses))
    return {unit: _section(unit, phases[unit.position], is_late=unit.position >= late) for unit in units}


def _phases(clauses: Sequence[Clause]) -> list[Section]:
    """Return the phase at each clause: S during the history, O during the examination, P during the plan.

    The examination begins where the doctor announces it and findings follow, because a doctor on a video call often
    speaks of an examination that does not take place.
    """
    found: list[Section] = []
    phase = Section.S
    for index, clause in enumerate(clauses):
        if _may_be_doctor(clause):
            if cues.PLAN_BEGINS.search(clause.text):
                phase = Section.P
            elif phase is Section.S and cues.EXAM_BEGINS.search(clause.text):
                findings = sum(_is_finding(each) for each in clauses[index : index + _AHEAD])
                phase = Section.O if findings >= _MIN_FINDINGS else phase
        found.append(phase)
    return found


def _may_be_doctor(clause: Clause) -> bool:
    return clause.speaker in DOCTORS or clause.speaker is Speaker.UNKNOWN


def _is_finding(clause: Clause) -> bool:
    return (
        _may_be_doctor(clause) and not clause.is_question and cues.OBJECTIVE.search(clause.text) is not None
    )


def _section(unit: Unit, phase: Section, *, is_late: bool) -> Section:
    first = unit.clauses[0]
    if unit.is_answered_question:
        is_examined = phase is Section.O and any(cues.TOUCH.search(clause.text) for clause in unit.clauses)
        return Section.S if phase is Section.O and not is_examined else phase
    if not _may_be_doctor(first):
        return Section.P if phase is Section.P and cues.PLAN.search(first.text) else Section.S
    cued = _cued_section(first.text, phase, is_late=is_late or phase is not Section.S)
    return cued or (Section.S if first.speaker is Speaker.UNKNOWN else phase)


def _cued_section(text: str, phase: Section, *, is_late: bool) -> Section | None:
    """Return the section that the words of a statement name, or None. Before the examination and the last third of
    the consultation, a doctor's words on treatment and diagnoses mostly are history.
    """
    if cues.DOCTOR_ACTS.search(text) or cues.PATIENT_ACTS.search(text):
        return Section.P
    is_planned = cues.PLAN.search(text) is not None
    if cues.OBJECTIVE.search(text) and not (phase is Section.P and is_planned):
        return Section.O
    if is_late and cues.ASSESSMENT.search(text):
        return Section.A
    return Section.P if is_late and is_planned else None
