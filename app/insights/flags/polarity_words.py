"""Lists the English and Spanish words by which speakers deny, ask and answer. This module contains only data. The
listed words are in lower case and without accents and apostrophes, but keep the letter `ñ`. `nt` is the end of `do n't`
in a transcript that separates it.
"""

from typing import Final


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


VERB_NEGATIONS: Final = _set(
    "not nt never without unable cannot dont doesnt didnt isnt arent wasnt werent hasnt havent hadnt wont "
    "wouldnt cant couldnt shouldnt nunca sin"
)
"""Negations of a statement. Unlike `no` and `denies`, they seldom sum up a normal finding."""
NEGATIONS: Final = VERB_NEGATIONS | _set(
    "no none nor neither denies deny denied denying negative absent nothing nobody lack lacks lacking hardly "
    "nonexistent niega nego niegan tampoco ni ningun ninguna ninguno nada nadie jamas negativo negativa "
    "negativos negativas ausencia ausente descarta"
)
NEGATIONS_AFTER: Final = _set(
    "negative absent negativo negativa negativos negativas ausente none ninguno ninguna"
)
"""Negations that deny the words before them, as in `the strep test was negative`."""
WHOLE: Final = _set("no not never none nope nunca")
"""Negations that end at the next pronoun: `not now , i quit`."""
LOOKS: Final = _set("look looking check checking checked watch")
VERBS: Final = _set(
    "is are was were looks sounds clear flat intact soft supple unlabored regular es esta estan son"
)
SHOWS: Final = _set(
    "appreciated noted present seen identified found observed taken appreciable presente observa aprecia"
)
"""Words of a finding. A negation before them denies the words before it: `fracture is not present`."""
FURTHER: Final = _set("other additional extra further more new otro otra otros otras mas nuevo nueva")
"""After a negation, these deny only what was not said yet: `no other pain`."""
CONDITIONS: Final = _set("if unless until si hasta")
DEGREES: Final = _set(
    "limited fully typically long only just always all necessarily sure entirely completely solo siempre todo"
)
"""After `not`, these deny only a degree: `not only`, `not always`."""
OPEN: Final = _set("any anywhere if whether algun alguna")
LEFT_OPEN: Final = _set("any anything anyone anywhere anymore whatsoever")
"""Words that a statement has only after a negation, or after one of ALLOWS_OPEN: `reports any pain` is no statement."""
ALLOWS_OPEN: Final = _set(
    "if whether unsure unaware uncertain avoid prevent before than to for should would could may can will call contact "
    "report regarding unless question questions either perhaps maybe occasionally sometimes"
)
KINDS: Final = _set("type types kind kinds sort time of given")
"""After `any`, these mean every one: `pain with any type of movement`."""
CLAUSE_ENDS: Final = _set(
    "but however although though except because since while which so therefore pero aunque porque excepto "
    "salvo sino"
)
CLAUSE_STARTS: Final = _set(
    "i you he she we they it is are was were has have had will reports endorses notes states denies can there "
    "that this the yo tu el ella es esta ha tiene refiere niega presenta toma le se"
)
SENTENCE_STARTS: Final = _set(
    "i im ive you your youre it its he she we my now okay well there theres lets looking listening moving "
    "examining doing yo tu su mi"
)
BEFORE_OBJECT: Final = _set(
    "over on in of to with at for from down into under around about en de con sobre a"
)
"""Before a pronoun, these join it to the words before: `pain over your joint`."""
OR: Final = _set("or o")
AND: Final = _set("and y e")
THINKS: Final = _set(
    "think believe feel see hear notice appreciate find note sense creo veo oigo noto pienso aprecio"
)
"""After a negation, these deny what follows them: `i do n't think it is broken`."""
NO: Final = _set("no nope nah not never none negative nada nunca tampoco ninguno ninguna")
YES: Final = _set(
    "yes yeah yep yup mhm mmhmm uhhuh sure correct right absolutely definitely exactly sometimes occasionally "
    "si claro correcto exacto bastante mucho mucha vale"
)
AFTER_ANSWER: Final = _set("no i it its im just not he she they ive we the solo estoy es yo me") | frozenset(
    {""}
)
"""If one of these follows `no` at the beginning of an answer, `no` is the whole answer."""
ASKS: Final = _set("what which where when how que cual")
ANY: Final = _set("any algun alguna")
AUXILIARIES: Final = _set("do did does are have has is was were can ha has tiene tienes toma tomas nota fuma")
ASKED: Final = _set("you your he she it they that there this the these those usted dolor fiebre")
SUBJECTS: Final = _set("i we they you he she it that")
CONSENT: Final = _set("okay ok right alright correct yeah sounds good vale")
NO_STATEMENT: Final = _set(
    "advised recommend recommended encouraged instructed will should if order ordered refer referral referred "
    "discussed explained counseled may would consider continue avoid avoids avoiding decline declines declined "
    "refuse refuses refused stop stopped quit discontinue discontinued resolved hold held defer afebrile "
    "nontender asymptomatic non nonsmoker painless recomienda aconseja debe iniciar solicito solicita pautar "
    "pauto evitar dejado dejo rechaza suspender suspende asintomatico asintomatica afebril"
)
"""A line with one of these states a plan, or denies by a verb or an adjective. It is not expected to affirm what the
speakers affirm."""
VAGUE: Final = _set(
    "left right since given several feel feels felt feeling feelings experience experiences experienced "
    "experiencing find finds found notice notices noticed signs sign obvious evidence problem issues ago "
    "however lately recent recently question questions specific significant associated izquierda derecha "
    "izquierdo derecho"
)
"""Words that stand beside many others, so that their polarity says little."""
