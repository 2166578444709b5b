"""Finds the vital sign that a number measures, such as the heart rate. Pure."""

from typing import Final

from app.insights.reading import Passage

_MOST_WORDS_AWAY: Final = 8
_SIGNS: Final = {
    word: sign
    for sign, words in {
        "heart rate": "hr heart pulse cardiaca pulso",
        "respiratory rate": "rr respiratory respiration respirations respiratoria",
        "blood pressure": "bp pressure pressures tension presion",
        "temperature": "temp temperature temperatura",
        "oxygen saturation": "spo2 o2 oxygen saturation sats saturacion",
    }.items()
    for word in words.split()
}
_RATES: Final = frozenset(["heart", "respiratory"])
"""Words that name a vital sign only before `rate`."""


def find_vital_sign(passage: Passage, place: int) -> str:
    """Return the vital sign that the number at this position measures: the last one that the passage names within eight
    words before it. Return "" if it names none there.
    """
    tokens = passage.tokens
    for at in range(place - 1, max(-1, place - 1 - _MOST_WORDS_AWAY), -1):
        sign = _SIGNS.get(tokens[at].raw)
        if sign and (tokens[at].raw not in _RATES or tokens[at + 1].raw.startswith("rate")):
            return sign
    return ""
