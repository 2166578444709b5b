"""Describes an exception for the log: its type and where it was raised.

The description never contains the exception's message or arguments, because these may contain text of a
consultation, tokens or presigned URLs (law 8).
"""

from pathlib import Path
from traceback import walk_tb

_MAX_CAUSES = 5


def describe_failure(error: BaseException) -> str:
    """Return an exception's type and its stack frames, outermost first, followed by the types and frames of its
    causes.
    """
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain and len(chain) < _MAX_CAUSES:
        chain.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "; caused by ".join(f"{_type_of(one)} at {_frames_of(one)}" for one in chain)


def _type_of(error: BaseException) -> str:
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    if isinstance(error, BaseExceptionGroup):
        return f"{kind}[{', '.join(_type_of(inner) for inner in error.exceptions[:_MAX_CAUSES])}]"
    return kind


def _frames_of(error: BaseException) -> str:
    frames = [
        f"{'/'.join(Path(frame.f_code.co_filename).parts[-3:])}:{line} {frame.f_code.co_qualname}"
        for frame, line in walk_tb(error.__traceback__)
    ]
    return " > ".join(frames) or "no frame"
