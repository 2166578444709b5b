"""Judges whether a description of the schema is a full sentence."""

import re
from typing import Final

VERBS: Final = frozenset(
    re.findall(
        r"\w+",
        """
        accepts accompanies accounts acted acts adds admits agreed agrees allows answers appeared appears applied
        applies apply approves are arrived asked asks asserts attested attests became becomes began begin begins
        belong belongs brought calls came can cannot carries change changed changes checks chooses combines comes
        completes computes concern concerned concerns confirmed consented consents consists contain contains
        contradicts corrected corrects could counts covered covers created cut cuts decide decides declared declares
        delays deleted deletes denied denies depend describes destroyed destroys detected determined did differ differs
        disagrees displayed divided do does downloads edited edits encodes ended ends
        entered enters entitles erases examines exceeds
        executed exist exists expects expires extended extends failed fails filed files filters finished fits follow
        follows forbids forwards found fulfil fulfils get gets give gives had happened happens has have hear hears
        added explains go goes informs says
        affects decided disclosed ended followed imposed imposes informed live lives missed permit permits
        show stands stated talked violated warned
        holds identifies ignores imported imports includes informs interprets invited invites is issued issues
        joined joins keeps knows lacks lasted lasts learns leaves left lets links lists looked looks lost made makes
        marks matches may means mentions moves must named names need needs observes opened opens paid passes permits
        placed places plays please prepare prevents processed proposes proves published publishes queues reached
        read reads receive received receives recorded records redeems refers refused refuses registered registers
        rejected rejects released releases remain remains removes repeated repeats replaced replaces report reported
        reports represents requested requests requires retries returned returns reveals reviewed reviews run runs
        said saw says searches sees selects send sends sent served serves sets shortens should showed shows signed
        asks made refers shared shares
        sits speak speaks spells starts states stays stopped stops stores suspends switches take takes tells took
        tries uploads used uses verifies waited waits wants was went were will withdraws withdrew works would writes
        wrote cite cites confirm confirms resolved resolves removed say sign signs stay support supports
        bounds cost costs lifted lifts transcribed transcribes
        affirms affirm flags find hides lack say answered
        attributes chose compares conclude concludes cover cites covered gave lacks mentions mention seem seems
        assign assigned assigns accessed tried treat broke enrolled decided evaluated evaluates matched
        stay suggests support supports tell tells told wait watch
        appear authorized count counts died excepts got inserts lies needed permitted required started
        """,
    )
)
"""The finite verbs that descriptions use. Add a verb if a good sentence needs one."""

CLAUSES: Final = frozenset(
    re.findall(r"\w+", "that which who whom whose where when if because unless while why whether how what")
)
"""Words that begin a clause with a verb of its own."""


AUXILIARIES: Final = frozenset(
    ["is", "are", "was", "were", "be", "been", "being", "has", "have", "had"],
)
"""Verbs that form one verb together with a participle."""

MODALS: Final = frozenset(
    ["can", "cannot", "may", "must", "will", "would", "should", "could", "do", "does", "did"]
)
"""Verbs that form one verb together with an infinitive."""

BEFORE_NOUNS: Final = frozenset(
    [
        "a",
        "access",
        "an",
        "as",
        "for",
        "in",
        "its",
        "many",
        "million",
        "of",
        "on",
        "the",
        "their",
        "to",
        "with",
    ]
)
"""Words after which no finite verb follows, but a noun that may look like one, such as "requests"."""

QUESTIONS: Final = frozenset(["when", "whether", "why", "how", "who", "what", "which"])
"""Words that begin a question or a phrase such as "When it began", and no sentence."""

_CLAIM: Final = "Idempotent by "
"""Each mutation says in these words by what it is idempotent, so the phrase needs no verb."""


def fault_of(name: str, description: str | None) -> str | None:
    """Return what is wrong with the description of the element with this name, or None if each of its sentences has
    a verb of its own, and together they say more than the name.
    """
    if not description:
        return "is missing"
    if not re.match(r"[A-Z`]", description) or not description.endswith("."):
        return "begins with no capital or ends with no full stop"
    sentences = re.split(r"(?<=\.) (?=[A-Z`])", description)
    if any(not _is_sentence(one) for one in sentences):
        return "has a sentence without a verb of its own"
    if name.isupper():
        return None
    parts = {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}
    said = {word.lower() for word in re.findall(r"[A-Za-z0-9]+", description)}
    if said - {"the", "a", "an", "of", "this", "these", "its", "is", "are"} <= parts:
        return "repeats the name"
    return None


def _is_sentence(text: str) -> bool:
    """Return whether the text up to its first colon has more verbs than clauses that need one."""
    if text.startswith(_CLAIM):
        return True
    said = [
        word.lower()
        for word in re.findall(r"`[^`]*`|because of|before that|[\w']+", re.split(r": |; ", text)[0])
    ]
    if said[0] in QUESTIONS:
        return False
    verbs = [
        word for position, word in enumerate(said) if _is_verb(word, said[max(0, position - 2) : position])
    ]
    return len(verbs) > sum(word in CLAUSES for word in said)


def _is_verb(word: str, before: list[str]) -> bool:
    """Return whether the word is a finite verb after these one or two words."""
    if word not in VERBS or (before and before[-1] in MODALS):
        return False
    if word.endswith(("s", "ed")) and word not in AUXILIARIES and before and before[-1] in BEFORE_NOUNS:
        return False
    return not (_is_participle(word) and AUXILIARIES & set(before))


def _is_participle(word: str) -> bool:
    """Return whether the verb may be the second part of "was recorded" or "has made"."""
    return word.endswith("ed") or word in {"made", "sent", "said", "left", "lost", "paid", "found", "brought"}
