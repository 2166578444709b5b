"""The file `.env.example` lists every setting with a comment that explains it, and contains no secret."""

from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tests.unit.environments import KINDS, names, secret_names

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def _entries() -> Iterator[tuple[str, str, str]]:
    """Yield each setting's name and value, and its comment as a single line."""
    comment: list[str] = []
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            comment.append(line.removeprefix("# "))
        elif line:
            name, _, value = line.partition("=")
            yield name, value, " ".join(comment)
        if not line:
            comment = []


def _fields() -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    for kind in KINDS:
        for name, field in kind.model_fields.items():
            found.setdefault(name.upper(), field)
    return found


def _shown(default: object) -> str:
    if default in (PydanticUndefined, None, ()):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_example_names_each_setting_once_and_nothing_else() -> None:
    listed = [name for name, _, _ in _entries()]
    assert sorted(listed) == sorted(names())


def test_example_says_what_each_setting_is_for() -> None:
    fields = _fields()
    assert {name: comment for name, _, comment in _entries()} == {
        name: field.description for name, field in fields.items()
    }


def test_example_shows_the_defaults_and_no_secret() -> None:
    values = {name: value for name, value, _ in _entries()}
    assert values == {name: _shown(field.default) for name, field in _fields().items()}
    assert {values[name] for name in secret_names()} == {""}
