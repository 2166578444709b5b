"""Tells the language of a text by its most frequent words. Pure."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from app.insights.quotes import split_words

FREQUENT_WORDS: Final = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the and of for with has have had was were is are not been from that this they their her his she he "
        "will would should by on in at to since after before which who or patient",
        "es": "el la los las de del y con sin para por que se su sus una un en al es fue ha tiene tuvo no desde hace "
        "como más lo le cada está paciente o",
        "fr": "le la les des du et avec sans pour par que se son sa ses une un en au est était il elle depuis pas dans "
        "sur ou patient",
        "pt": "o a os as do da dos das de e com sem para por que se seu sua uma um em ao no na não é foi há desde está "
        "paciente ou",
        "it": "il la gli le di del della e con senza per che si suo sua una un in al è da ha non sono nel ogni o "
        "paziente",
        "de": "der die das den dem des und mit ohne für von dass sich sein ihr eine ein ist war hat seit nicht im am "
        "zu auf oder patient",
    }.items()
}
"""The words by which a language is told, for the languages that a model may answer in by mistake."""
_FEWEST: Final = 3
_MARGIN: Final = 2
_FEWEST_LINES: Final = 2
_SHARE_OF_LINES: Final = 0.2
_DOMINANT: Final = 0.8
_FEWEST_LETTERS: Final = 20


def find_language(texts: Iterable[str]) -> str | None:
    """Return the language of at least four fifths of the texts, by words, or None if none has so many."""
    counts: Counter[str] = Counter()
    for text in texts:
        counted = _count(text)
        ranked = counted.most_common(2)
        if ranked and ranked[0][1] >= _FEWEST and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]):
            counts[ranked[0][0]] += ranked[0][1]
    if not counts:
        return None
    language, count = counts.most_common(1)[0]
    return language if count >= _DOMINANT * counts.total() else None


def is_other_language(texts: Sequence[str], language: str) -> bool:
    """Return whether the texts together, or at least a fifth of them, are in another language."""
    if language not in FREQUENT_WORDS:
        return False
    others = sum(_differs(text, language) for text in texts)
    return _differs(" ".join(texts), language) or others >= max(_FEWEST_LINES, _SHARE_OF_LINES * len(texts))


def _differs(text: str, language: str) -> bool:
    letters = [char for char in text if char.isalpha()]
    latin = sum(unicodedata.name(char, "").startswith("LATIN") for char in letters)
    if len(letters) >= _FEWEST_LETTERS and latin < len(letters) / 2:
        return True
    counted = _count(text)
    other = max((count for name, count in counted.items() if name != language), default=0)
    return other >= _FEWEST and other > _MARGIN * counted[language]


def _count(text: str) -> Counter[str]:
    words = [word.key for word in split_words(text)]
    return Counter({name: sum(word in known for word in words) for name, known in FREQUENT_WORDS.items()})
