"""Where a migration is cut; that the Supabase CLI cuts alike is tests/migrations/test_supabase_cli.py's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sql_statements import split


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("select 1; select 2", ["select 1", "select 2"]),
        (" ;; select 1;;\n", ["select 1"]),
        ("-- a; b\nselect 1;", ["-- a; b\nselect 1"]),
        ("/* a; /* b; */ c; */ select 1; x", ["/* a; /* b; */ c; */ select 1", "x"]),
        ("select 'it''s; ok'; x", ["select 'it''s; ok'", "x"]),
        ('select ";"; x', ['select ";"', "x"]),
        ("select $$;'$$; x", ["select $$;'$$", "x"]),
        ("select $a$;$$;$a$; x", ["select $a$;$$;$a$", "x"]),
        ("select $1; x", ["select $1", "x"]),
        ("select 1 - 2 / 3; x", ["select 1 - 2 / 3", "x"]),
        ("rule do (a; b); x", ["rule do (a; b)", "x"]),
        ("f() BEGIN\nATOMIC a; b; END; x", ["f() BEGIN\nATOMIC a; b; END", "x"]),
        ("begin_atomic a; x", ["begin_atomic a", "x"]),
        ("", []),
        ("-- nothing", ["-- nothing"]),
    ],
)
def test_split_cuts_at_semicolons_that_end_statements(text: str, statements: list[str]) -> None:
    assert split(text) == statements


@given(st.text(alphabet="a;'\"$-/*()\\\n BEGINatomc", max_size=60))
def test_split_loses_nothing_but_semicolons_and_space(text: str) -> None:
    def kept(part: str) -> str:
        return "".join(character for character in part if character != ";" and not character.isspace())

    assert "".join(map(kept, split(text))) == kept(text)
