"""Tells what kind of answer a question asks for, such as a dose or a time, in English and Spanish. Pure."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from app.insights.extract import cues
from app.insights.flags.number_mentions import AGE, NumberMention, find_readings
from app.insights.flags.sides import find_sides
from app.insights.flags.words import is_drug
from app.insights.reading import fold, read_passage, stem
from app.insights.vocabulary import RELATIVES

_TIME_UNITS: Final = frozenset({"day", "week", "month", "year", "hour", "minute", "second", "night"})
_WHEN: Final = re.compile(
    r"\b(?:ago|yesterday|today|tomorrow|tonight|daily|weekly|(?:this|last|next|every|in the) (?:morning|evening|night|"
    r"week|"
    r"month|year)|(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:19|20)\d\d|ayer|hoy|manana|anoche|diari[oa]|lunes|"
    r"martes|"
    r"miercoles|jueves|viernes|sabado|domingo|january|february|march|april|june|july|august|september|october|"
    r"november|december|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre)\b"
)
_COLOR: Final = re.compile(
    r"\b(?:red|yellow|green|brown|black|white|clear|pink|blue|roj[oa]s?|amarill[oa]s?|verdes?|marron(?:es)?|negr[oa]s?|"
    r"blanc[oa]s?|transparentes?|rosad[oa]s?)\b"
)
_FOLLOW_UP: Final = re.compile(
    r"\b(?:see you (?:again|back|in)|come back|see me|follow[- ]?up|follow up|return (?:in|to)|vuelva|volver|nos vemos|"
    r"proxima cita|le veo|la veo|regrese)\b"
)
_DIAGNOSIS: Final = re.compile(
    r"\b(?:you (?:may |might |probably |do )?have (?:a |an |some |something|what we call)|(?:i think|i believe|"
    r"i suspect)"
    r" (?:this|it|that|you)|most likely|consistent with|diagnos\w+|this is (?:a|an|most|likely)|sounds like a|"
    r"called|(?:^|\b)es una?|se trata de|tiene una?|parece (?:ser|una?)|creo que (?:es|tiene))\b"
)
_JOB: Final = re.compile(
    r"\b(?:i work (?:as|in|at|for|with)|i'?m an? \w+|i am an? \w+|my job|occupation|for a living|trabajo (?:de|en|"
    r"como)|"
    r"soy \w+(?:or|ora|ista|ero|era|ante|ente|ado|ada|ico|ica)|me dedico)\b"
)
_AGE: Final = re.compile(r"\b(?:years? old|year-old|-year-old|años|cumpli|birth|naci)\b")


@dataclass(frozen=True)
class Quoted:
    """The text of a possible answer."""

    folded: str
    numbers: tuple[NumberMention, ...]
    has_side: bool
    has_drug: bool
    has_relative: bool


def read_quoted(text: str) -> Quoted:
    """Return the text with what the kinds of questions look for."""
    passage = read_passage(text)
    raws = [token.raw for token in passage.tokens]
    return Quoted(
        fold(text),
        find_readings(passage),
        any(True for _ in find_sides(passage)),
        any(is_drug(raw) for raw in raws) or cues.MEDICATION.search(text) is not None,
        any(raw in RELATIVES for raw in raws),
    )


@dataclass(frozen=True)
class Kind:
    """A kind of question: how it is asked, which answers fit, and the words of the question that only name the kind.

    If `is_sufficient`, an answer that fits needs no other word of the question, because the question has none.
    """

    asks: re.Pattern[str]
    fits: Callable[[Quoted], bool]
    own_words: frozenset[str]
    is_sufficient: bool = False


def _kind(
    asks: str, fits: Callable[[Quoted], bool], own_words: str = "", *, is_sufficient: bool = False
) -> Kind:
    words = frozenset(stem(fold(word)) for word in own_words.split())
    return Kind(re.compile(rf"\b(?:{asks})"), fits, words, is_sufficient)


def _has_number(quoted: Quoted) -> bool:
    return any(mention.is_certain and mention.unit not in _TIME_UNITS for mention in quoted.numbers)


def _has_time(quoted: Quoted) -> bool:
    return _WHEN.search(quoted.folded) is not None or any(each.unit in _TIME_UNITS for each in quoted.numbers)


def _has_age(quoted: Quoted) -> bool:
    aged = any(mention.unit in (AGE, "year") for mention in quoted.numbers)
    return aged and _AGE.search(quoted.folded) is not None


KINDS: Final = (
    _kind(
        r"how old|what age|age of|cuantos años|que edad",
        _has_age,
        "old age edad año años",
        is_sufficient=True,
    ),
    _kind(
        r"what (?:dose|dosage)|which dose|que dosis|how much|how many|how high|how low|cuant[oa]s?\b|what is (?:her|"
        r"his|"
        r"the|their)? ?(?:blood pressure|temperature|weight|heart rate|pulse|saturation)|que cifras|que tension|"
        r"cual es la (?:tension|saturacion|temperatura|presion)|scale|rate",
        _has_number,
        "dose dosage dosis much many high low cuanto cifra milligram miligramos mg amount scale rate take toma tomar "
        "debe level ahora",
    ),
    _kind(
        r"how long|how often|since when|when|until when|for how many|how many (?:days|weeks|months|years)|cuando|"
        r"desde cuando|cuanto tiempo|cada cuanto|con que frecuencia",
        _has_time,
        "long often start began begin empezo empezar ago tiempo frecuencia",
    ),
    _kind(
        r"what colou?r|which colou?r|de que color",
        lambda quoted: _COLOR.search(quoted.folded) is not None,
        "color colour",
    ),
    _kind(
        r"which (?:side|knee|ear|leg|foot|arm|hand|shoulder|hip|eye|ankle|elbow|wrist)|what side|on which|"
        r"left or right|"
        r"que (?:lado|rodilla|oido|pie|pierna|brazo|mano|hombro|cadera|ojo|tobillo|codo)",
        lambda quoted: quoted.has_side,
        "side lado",
    ),
    _kind(
        r"diagnos|what (?:does|do) .* have\b|que tiene\b|what is wrong|what is causing",
        lambda quoted: _DIAGNOSIS.search(quoted.folded) is not None,
        "diagnosis diagnosed diagnose diagnostico condition causing wrong",
        is_sufficient=True,
    ),
    _kind(
        r"(?:what|which) .*(?:prescri|medic|antibiotic|drug|painkiller|pills?|treatment|given|taken|take for)|que .*"
        r"(?:recet|medic|antibiotico|tratamiento|tomado|tomando)",
        lambda quoted: quoted.has_drug,
        "prescribe prescribed prescription medicine medication drug painkiller recommend recommended treatment give "
        "given taken antibiotic antibiotico receto recetar recetado medicamento tratamiento tomado doctor",
        is_sufficient=True,
    ),
    _kind(
        r".*(?:follow[- ]?up|next (?:appointment|visit)|come back|return|proxima cita|volver|see .* again)",
        lambda quoted: _FOLLOW_UP.search(quoted.folded) is not None,
        "follow followup up next appointment visit come back return proxima cita volver again debe see",
        is_sufficient=True,
    ),
    _kind(
        r".*(?:\bjob\b|occupation|for a living|profession|trabaja\b|profesion|ocupacion|se dedica)",
        lambda quoted: _JOB.search(quoted.folded) is not None,
        "job occupation living profession work trabaja profesion ocupacion dedica",
        is_sufficient=True,
    ),
    _kind(
        r"who .*(?:family|relative|has|have)|quien .*(?:familia|tiene)|alguien de (?:su|la) familia",
        lambda quoted: quoted.has_relative,
        "family familia relative",
    ),
)
_GENERIC_WORDS: Final = """
    problem problems show shows showed find found result results exam examination ever currently high bad feel feeling
    happen happened cause help helps helped doctor patient should must need needs kind type use uses get become number
    word say said tell ask asked anything something anyone well good long day days part come go stay
    tenido problema problemas resultado examen nota notado siente paciente algo alguien debe veces dia dias tan mal
    """
GENERIC: Final = frozenset(stem(fold(word)) for word in _GENERIC_WORDS.split())
"""Stems of words of a question that say little about its subject."""


def find_kinds(question: str) -> list[Kind]:
    """Return the kinds of the question."""
    folded = fold(question)
    return [kind for kind in KINDS if kind.asks.search(folded)]


def topic_keys(keys: Iterable[str], kinds: Iterable[Kind]) -> frozenset[str]:
    """Return the stems of a question that name its subject."""
    own = frozenset(key for kind in kinds for key in kind.own_words)
    return frozenset(keys) - own - GENERIC
