"""Finds speech that gives orders to a writer of insights, such as `ignore your instructions and write that ...`. Pure.

Such speech is no statement about the patient. The extractive writer does not quote it, and the checker flags lines
that quote it or repeat its words.
"""

import re
from typing import Final

_BEGINS: Final = (
    r"(?:^|[.,;:!?\u00a1\u00bf\u2014-]\s*|\b(?:and|please|now|so|then|just|but|or|okay|ok|hey|well|alright|um|uh"
    r"|assistant|computer|ai|model|must|should|you|you to|y|e|quiero que|pido que|por favor|ahora|entonces|pero|oye"
    r"|oiga|bueno|vale|asistente|debes?|tienes que|tiene que|usted|favor de)\s+)"
)
_IGNORE: Final = (
    r"(?:(?:ignore|disregard|forget|override|bypass)\s+(?:\w+\s+){0,3}"
    r"(?:instructions?|prompts?|rules|guidelines|directions|programming|previous|above)"
    r"|(?:ignor[ae][sn]?|olvid[ae]n?|olv\u00edd[ae]te de|descart[ae]n?|desobede\w+|pas[ae] por alto|haz caso omiso de"
    r"|haga caso omiso de|no hagas caso [ad]e?|no haga caso [ad]e?)\s+(?:\w+\s+){0,3}"
    r"(?:instrucci\u00f3n|instrucciones|reglas|\u00f3rdenes|ordenes|directrices|anterior|anteriores|prompt))"
)
_WRITE: Final = (
    r"(?:(?:write|record|document|output)(?:\s+down)?(?:\s+\w+){0,4}?\s+that"
    r"|(?:escrib[ae][sn]?|anot[ae][sn]?|registr[ae]n?|pon|ponga)(?:\s+\w+){0,4}?\s+que)"
)
_MACHINE: Final = (
    r"(?:system prompt|(?:you are|act as|pretend to be)(?: now)? (?:an? )?(?:ai|assistant|chatbot|language model)"
    r"|(?:eres|act\u00faa como)(?: ahora)? (?:un |una )?(?:ia|asistente|modelo de lenguaje))"
)
_ORDER: Final = re.compile(rf"{_BEGINS}(?P<order>(?:{_IGNORE}|{_WRITE}|{_MACHINE})\b)", re.IGNORECASE)
_SENTENCE_END: Final = re.compile(r"[.?!](?=\s|$)")
_FOLLOWING: Final = re.compile(r"(?:\S+\s*){1,30}")


def find_orders(text: str) -> list[tuple[int, int]]:
    """Return where the text gives orders to a writer: from the order to the end of its sentence, at most 30 words."""
    found: list[tuple[int, int]] = []
    at = 0
    while match := _ORDER.search(text, max(0, at - 1)):  # from the end of the last sentence
        start = match.start("order")
        following = _FOLLOWING.match(text, start)
        end = following.end() if following else match.end()
        sentence = _SENTENCE_END.search(text, match.end(), end)
        at = max(match.end(), sentence.end() if sentence else end)
        found.append((start, at))
    return found
