"""Asks witnesses for the newest checkpoint that they remember. A witness remembers what a rolled back bucket lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import AppError
from app.integrations.witness.client import Witness
from app.transparency_log.checkpoints import Checkpoint
from app.transparency_log.errors import NoteError
from app.transparency_log.notes import SignedNote


@dataclass(frozen=True)
class Witnessed:
    """The answer of a witness about one log. `size` is the size that it remembers, or None if it did not answer.
    `is_other_tree` says that it remembers another root of the size that it was asked about.
    """

    witness: str
    size: int | None
    is_other_tree: bool = False


async def ask_witnesses(witnesses: Sequence[Witness], newest: bytes) -> list[Witnessed]:
    """Ask each witness to cosign the newest published checkpoint once more. This changes nothing at a witness that
    remembers this checkpoint or a later one.
    """
    try:
        note = SignedNote.parse(newest)
        size = Checkpoint.parse(note.text).size
    except NoteError:
        return []
    answers = []
    for witness in witnesses:
        try:
            answer = await witness.add_checkpoint(size, (), note)
        except AppError as error:
            is_other = error.reason == "witness_inconsistent"
            answers.append(Witnessed(witness.name, size if is_other else None, is_other_tree=is_other))
            continue
        remembered = answer if isinstance(answer, int) else size
        answers.append(Witnessed(witness.name, remembered, isinstance(answer, int) and answer == size))
    return answers
