"""Pairs questions with their answers. Pure."""

import re
from collections.abc import Sequence
from typing import Final

from app.insights.reading import fold
from app.transcripts.model import Turn

_ASKS: Final = re.compile(
    r"\b(?:do|did|does|are|were|have|has|had|can|could|would|will|is|was) "
    r"(?:you|your|he|she|they|it|there|that|this|the)\b"
    r"|\b(?:what|which|where|when|who|whose|how|why)\b|\b(?:any|anything|anywhere|anyone)\b"
    r"|^(?:and )?(?:no|so)? ?(?:fever|chills|nausea|pain)s?\b"
    r"|\b(?:tiene|tienes|ha|has|le|toma|fuma|bebe|siente|nota|hay|esta|es) \w+"
    r"|\b(?:que|cual|cuales|donde|cuando|cuanto|cuanta|cuantos|cuantas|como|algun|alguna)\b"
)
_PUNCTUATION: Final = re.compile(r"[.!,]")
_SENTENCE_END: Final = re.compile(r"[.!]+")
_INVERTED: Final = re.compile(
    r"^(?:(?:and|so|okay|now|but|uh|um|then) )*(?:have|has|had|do|does|did|are|is|were|was|can|could) "
    r"(?:you|your|he|she|they|there)\b"
)
_MOST_TURNS_TO_ANSWER: Final = 3
_LAST_WORDS: Final = 20
_ANSWERS: Final = frozenset(
    ["yes", "yeah", "yep", "yup", "no", "nope", "nah", "never", "correct", "si", "claro", "nunca", "tampoco"]
)


def asks_question(text: str) -> bool:
    """Return whether the text asks a question.

    A transcript without punctuation asks one if its last words do. A transcript whose question ends with a period
    asks one if its last sentence begins as a question.
    """
    if "?" in text:
        return True
    if _PUNCTUATION.search(text):
        sentences = [each for each in _SENTENCE_END.split(fold(text)) if each.strip()]
        return bool(sentences) and _INVERTED.search(" ".join(_words(sentences[-1]))) is not None
    words = fold(text).split()[-_LAST_WORDS:]
    return _ASKS.search(" ".join(words)) is not None


def find_answer(turns: Sequence[Turn], number: int) -> Turn | None:
    """Return the turn that answers the turn at the position `number`: the next one of another speaker. Return None if
    the turn asks no question, or if its speaker goes on for several turns.
    """
    if not 0 <= number < len(turns) or not asks_question(turns[number].text):
        return None
    following = turns[number + 1 : number + 1 + _MOST_TURNS_TO_ANSWER]
    return next((turn for turn in following if turn.speaker != turns[number].speaker), None)


def _words(text: str) -> list[str]:
    return text.replace(",", " ").replace(".", " ").split()


def begins_with_answer(text: str) -> bool:
    """Return whether the text begins with a word such as `yes` or `no`."""
    words = _words(fold(text))
    return bool(words) and words[0] in _ANSWERS
