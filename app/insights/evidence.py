"""Verifies that the quotes of lines are in the turns that they cite. Pure.

A quote is compared word by word. Case, spaces, punctuation and fillers such as `uh` make no difference. A line with a
quote that is not in its turn is dropped, so that no reader sees a line without evidence.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.insights.model import Citation, Line
from app.insights.questions import find_answer
from app.insights.vocabulary import FILLERS
from app.transcripts.model import Speaker, Turn

FEWEST_WORDS: Final = 3
"""The length limit of a quote that is not an answer."""

_WORD: Final = re.compile(r"[^\W_]+")
_APOSTROPHE: Final = re.compile(r"(?<=\w)['\u2019\u02bc](?=\w)")
_SEPARATE_NEGATION: Final = re.compile(r"(?<=\w)\s+(?=n['\u2019\u02bc]t\b)")


@dataclass(frozen=True)
class VerifiedLines:
    """The lines of which every quote is in its turn, in their order, and the number of lines that were dropped."""

    lines: tuple[Line, ...]
    dropped_count: int


def verify_lines(lines: Iterable[Line], turns: Sequence[Turn]) -> VerifiedLines:
    """Return the lines with evidence, and count the others. `turns` are the turns of the transcript, ordered by number
    from 0.
    """
    verified, dropped_count = [], 0
    for line in lines:
        if has_evidence(line, turns):
            verified.append(line)
        else:
            dropped_count += 1
    return VerifiedLines(tuple(verified), dropped_count)


def has_evidence(line: Line, turns: Sequence[Turn]) -> bool:
    """Return whether the line has a text and at least one citation, and every quote is in its turn and long enough.

    A quote has at least three words. An answer may be shorter if the line also cites the question before it.
    """
    if not line.text.strip() or not line.citations:
        return False
    cited = {citation.turn_number for citation in line.citations}
    return all(_is_evidence(citation, cited, turns) for citation in line.citations)


def find_speaker(line: Line, turns: Sequence[Turn]) -> Speaker:
    """Return the speaker of the cited turns, or UNKNOWN if the turns have several speakers or an unknown one. A line
    of an unknown speaker is attributed to nobody.
    """
    speakers = {turns[citation.turn_number].speaker for citation in line.citations}
    return speakers.pop() if len(speakers) == 1 else Speaker.UNKNOWN


def repeats_quote(line: Line) -> bool:
    """Return whether the line says word by word what one of its quotes says, or what all of them say in order, and no
    more.
    """
    words = _without_fillers(_split_words(line.text))
    quotes = [_without_fillers(_split_words(citation.quote)) for citation in line.citations]
    return words in quotes or words == [word for quote in quotes for word in quote]


def _is_evidence(citation: Citation, cited: set[int], turns: Sequence[Turn]) -> bool:
    number = citation.turn_number
    if not 0 <= number < len(turns) or not _is_quoted(citation.quote, turns[number].text):
        return False
    if len(_split_words(citation.quote)) >= FEWEST_WORDS:
        return True
    return any(find_answer(turns, question) is turns[number] for question in cited)


def _is_quoted(quote: str, text: str) -> bool:
    """Return whether the text has the words of the quote, in their order and without other words between them."""
    words, said = _split_words(quote), _split_words(text)
    if all(word in FILLERS for word in words):
        return bool(words) and _contains(said, words)  # an answer such as `mm-hmm`
    return _contains(_without_fillers(said), _without_fillers(words))


def _contains(words: Sequence[str], part: Sequence[str]) -> bool:
    return f" {' '.join(part)} " in f" {' '.join(words)} "


def _without_fillers(words: Sequence[str]) -> list[str]:
    return [word for word in words if word not in FILLERS]


def _split_words(text: str) -> list[str]:
    """Return the words of the text in lower case. `do n't` and `don't` are one word."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _WORD.findall(_APOSTROPHE.sub("", _SEPARATE_NEGATION.sub("", folded)))
