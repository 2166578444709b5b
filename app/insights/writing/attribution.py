"""Attributes nothing to the doctor or the patient where the speaker is unknown. Pure."""

import re
from typing import Final

from app.insights.model import Line
from app.insights.turn_order import TurnOrder
from app.transcripts.model import Speaker

_PEOPLE: Final = re.compile(
    r"\b(?:patients?|pt|pts|doctors?|dr|physicians?|clinicians?|providers?|pacientes?|doctora?|doctor[ae]s|dra"
    r"|m[eé]dic[oa]s?|cl[ií]nic[oa])\b",
    re.IGNORECASE,
)


class Attribution:
    """The speakers of one transcript."""

    def __init__(self, order: TurnOrder) -> None:
        self._order = order

    def is_unknown(self, line: Line) -> bool:
        """Return whether the speaker of a cited turn is unknown."""
        turns = [self._order.find(citation.turn_number) for citation in line.citations]
        return any(turn is None or turn.speaker is Speaker.UNKNOWN for turn in turns)

    def is_attributed(self, line: Line) -> bool:
        """Return whether the line names the doctor or the patient although a cited speaker is unknown. A person whom
        the quotes name is no attribution.
        """
        if not self.is_unknown(line):
            return False
        quoted = {name.lower() for each in line.citations for name in _PEOPLE.findall(each.quote)}
        return any(name.lower() not in quoted for name in _PEOPLE.findall(line.text))
