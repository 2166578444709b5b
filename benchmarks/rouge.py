"""ROUGE-1 between a note draft and a reference note, with Porter's stemmer, as the common scorers compute it.

A scorer of English notes: a token is a run of ASCII letters and digits in lower case, and a token of more than three
characters is stemmed (M. F. Porter, "An algorithm for suffix stripping", 1980, with the later corrections of its
author and of NLTK).
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

_TOKEN: Final = re.compile(r"[a-z0-9]+")
_STEMMED_FROM: Final = 4
_IRREGULAR: Final = {
    "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news", "innings": "inning",
    "inning": "inning", "outings": "outing", "outing": "outing", "cannings": "canning", "canning": "canning",
    "howe": "howe", "proceed": "proceed", "exceed": "exceed", "succeed": "succeed",
}  # fmt: skip
_STEP_2: Final = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"), ("fulli", "ful"),
)  # fmt: skip
_STEP_3: Final = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
)  # fmt: skip
_STEP_4: Final = tuple(
    (suffix, "")
    for suffix in (
        "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate",
        "iti", "ous", "ive", "ize",
    )
)  # fmt: skip


def rouge_1(draft: str, reference: str) -> float:
    """Return the ROUGE-1 F measure of the draft, from 0 to 1."""
    drafted, referred = Counter(tokens(draft)), Counter(tokens(reference))
    shared = (drafted & referred).total()
    total = drafted.total() + referred.total()
    return 2 * shared / total if total else 0.0


def tokens(text: str) -> list[str]:
    """Return the stemmed tokens of the text, in order."""
    return [stem(token) if len(token) >= _STEMMED_FROM else token for token in _TOKEN.findall(text.lower())]


@cache
def stem(word: str) -> str:
    """Return the stem of a word in lower case."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    for step in (_plural, _participle, _final_y, _second, _third, _fourth, _final_e, _double_l):
        word = step(word)
    return word


def _pattern(stem: str) -> str:
    """Return the stem's letters as `c` for a consonant and `v` for a vowel."""
    found = ""
    for letter in stem:
        is_vowel = letter in "aeiou" or (letter == "y" and found[-1:] == "c")
        found += "v" if is_vowel else "c"
    return found


def _measure(stem: str) -> int:
    return _pattern(stem).count("vc")


def _ends_short(stem: str) -> bool:
    """Return whether the stem ends with consonant, vowel, consonant, of which the last is not w, x or y."""
    pattern = _pattern(stem)
    return (pattern.endswith("cvc") and stem[-1] not in "wxy") or pattern == "vc"


def _replace(word: str, rules: Sequence[tuple[str, str]], condition: Callable[[str, str], bool]) -> str:
    """Apply the first rule with a suffix of the word, if the condition on the rest and the suffix holds."""
    for suffix, replacement in rules:
        if word.endswith(suffix):
            rest = word.removesuffix(suffix)
            return rest + replacement if condition(rest, suffix) else word
    return word


def _plural(word: str) -> str:
    if word.endswith("ies") and len(word) == _STEMMED_FROM:
        return word[:-1]
    return _replace(word, (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")), lambda *_: True)


def _participle(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == _STEMMED_FROM else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) else word
    for suffix in ("ed", "ing"):
        rest = word.removesuffix(suffix)
        if rest != word and "v" in _pattern(rest):
            return _repair(rest)
    return word


def _repair(rest: str) -> str:
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if rest[-1:] == rest[-2:-1] and _pattern(rest)[-1] == "c":
        return rest if rest[-1] in "lsz" else rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _ends_short(rest) else rest


def _final_y(word: str) -> str:
    rest = word.removesuffix("y")
    return rest + "i" if rest != word and len(rest) > 1 and _pattern(rest)[-1] == "c" else word


def _second(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]):
        return _second(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) else word
    return _replace(word, _STEP_2, lambda rest, _: _measure(rest) > 0)


def _third(word: str) -> str:
    return _replace(word, _STEP_3, lambda rest, _: _measure(rest) > 0)


def _fourth(word: str) -> str:
    return _replace(
        word, _STEP_4, lambda rest, suffix: _measure(rest) > 1 and (suffix != "ion" or rest[-1] in "st")
    )


def _final_e(word: str) -> str:
    rest = word.removesuffix("e")
    if rest == word:
        return word
    measure = _measure(rest)
    return rest if measure > 1 or (measure == 1 and not _ends_short(rest)) else word


def _double_l(word: str) -> str:
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
