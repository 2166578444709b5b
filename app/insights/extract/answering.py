"""Answers a question about a consultation with quotes, without a language model. Pure."""

from collections.abc import Sequence
from typing import Final

from app.insights.extract.clauses import split_clauses
from app.insights.extract.lines import write_line
from app.insights.extract.units import build_units
from app.insights.model import Line
from app.insights.ranking import Ranking, question_keys
from app.transcripts.model import Turn

MAX_ANSWERS: Final = 3
_FEWEST_MATCHED: Final = 0.6
_SHARE_OF_BEST: Final = 0.8


def answer_question(turns: Sequence[Turn], question: str, language: str | None = None) -> list[Line]:
    """Return the quotes that answer the question, best first, at most `MAX_ANSWERS`; nothing if the turns, which are
    in order of start, have no answer.
    """
    keys = question_keys(question)
    units = build_units(split_clauses(turns, language), turns)
    if not keys or not units:
        return []
    ranking = Ranking(" ".join(clause.text for clause in unit.clauses) for unit in units)
    total = sum(ranking.rarity(key) for key in keys)
    ranked = ranking.rank(keys)
    texts = {turn.number: turn.text for turn in turns}
    found: list[Line] = []
    for place in ranked[:MAX_ANSWERS]:
        matched = sum(ranking.rarity(key) for key in keys if ranking.counts[place][key])
        is_near = ranking.score(place, keys) >= _SHARE_OF_BEST * ranking.score(ranked[0], keys)
        if matched >= _FEWEST_MATCHED * total and is_near:
            found.append(write_line(units[place].clauses, texts))
    return found
