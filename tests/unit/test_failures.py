"""A logged failure contains the exception's type and its place in the code, and never the exception's message."""

import pytest

from app.failures import describe_failure

WORDS = "the patient said: my head hurts"


def _raise(error: BaseException, cause: BaseException | None = None) -> None:
    raise error from cause


def _raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    with pytest.raises(type(error)) as caught:
        _raise(error, cause)
    return caught.value


def test_failure_names_type_and_place_without_the_message() -> None:
    told = describe_failure(_raised(ValueError(WORDS)))
    assert told.startswith("builtins.ValueError at ")
    assert "unit/test_failures.py:" in told
    assert "_raise" in told
    assert WORDS not in told


def test_causes_are_named_outermost_first() -> None:
    told = describe_failure(_raised(ValueError(WORDS), _raised(KeyError(WORDS))))
    assert told.index("builtins.ValueError") < told.index("; caused by builtins.KeyError")
    assert WORDS not in told


def test_context_is_told_unless_it_was_suppressed() -> None:
    error = _raised(ValueError(WORDS))
    error.__context__, error.__suppress_context__ = _raised(KeyError(WORDS)), False
    assert "KeyError" in describe_failure(error)
    error.__suppress_context__ = True
    assert "KeyError" not in describe_failure(error)


def test_exception_group_names_its_types_without_their_messages() -> None:
    told = describe_failure(ExceptionGroup(WORDS, [ValueError(WORDS), TimeoutError(WORDS)]))
    assert told == "builtins.ExceptionGroup[builtins.ValueError, builtins.TimeoutError] at no frame"


def test_endless_chain_ends() -> None:
    error = ValueError(WORDS)
    error.__cause__ = error
    assert describe_failure(error) == "builtins.ValueError at no frame"
