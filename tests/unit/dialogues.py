"""Short dialogues for the tests of insights."""

from app.insights.model import Citation, Line
from app.transcripts.model import Speaker, Turn

_SPEAKERS = {"D": Speaker.DOCTOR, "P": Speaker.PATIENT, "?": Speaker.UNKNOWN}


def dialogue(*said: str) -> list[Turn]:
    """Return turns of one second. Each text begins with `D:`, `P:` or `?:`."""
    return [
        Turn(number, number * 1000, number * 1000 + 900, _SPEAKERS[text[0]], text[2:].strip())
        for number, text in enumerate(said)
    ]


def cite(text: str, turns: list[Turn], *numbers: int) -> Line:
    """Return a line that quotes the turns as a whole."""
    return Line(text, tuple(Citation(number, turns[number].text) for number in numbers))
