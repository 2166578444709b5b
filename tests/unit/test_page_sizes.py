"""Tests of the limits on pages: no page nests in a nested page, and all pages of an operation together show a limited
number of objects. A client cannot evade a limit with aliases, fragments, directives or variables.
"""

from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLObjectType, GraphQLSchema, build_schema, get_named_type, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from graphql_schema.document_limits import Limits, TooComplex, find_page_excess
from graphql_schema.page_sizes import measure_pages
from graphql_schema.selected_fields import PAGED

EXPORTED = Path(__file__).parent.parent.parent / "graphql_schema" / "schema.graphql"
SCHEMA: GraphQLSchema = build_schema(EXPORTED.read_text(encoding="utf-8"))
LARGEST = 100
LARGEST_NESTED = 25


def _excess(query: str, **variables: Any) -> TooComplex | None:
    return find_page_excess(Limits(), parse(query), SCHEMA, variables)


def _objects(query: str, **variables: Any) -> int:
    return measure_pages(parse(query), SCHEMA, variables).objects


def _nested(inner: str, around: str = "recordings") -> str:
    return f"{{ {around} {{ edges {{ node {{ consultation {{ {inner} }} }} }} }} }}"


PAGE = "recordings { edges { node { id } } }"
PAGE_IN_PAGE = (
    "recordings(first: 1) { edges { node { consultation { recordings(first: 1) { edges { cursor } } } } } }"
)


def test_pages_below_the_root_fields_are_those_of_selected_fields() -> None:
    roots = {SCHEMA.query_type, SCHEMA.mutation_type, SCHEMA.subscription_type}
    nested = {
        name
        for kind in SCHEMA.type_map.values()
        if isinstance(kind, GraphQLObjectType) and kind not in roots
        for name, field in kind.fields.items()
        if get_named_type(field.type).name.endswith("Connection") or "first" in field.args
    }
    assert nested == PAGED


@pytest.mark.parametrize(
    "query",
    [
        _nested(PAGE_IN_PAGE),
        f'{{ consultation(by: {{id: "1"}}) {{ {PAGE_IN_PAGE} }} }}',
        f"query ($deep: Boolean!) {_nested(f'... @include(if: $deep) {{ {PAGE_IN_PAGE} }}')}",
        _nested(
            "a: recordings { edges { node { c: consultation { b: recordings { edges { cursor } } } } } }"
        ),
        _nested("...outer")
        + " fragment outer on Consultation { recordings { edges { node { consultation { ...inner } } } } }"
        + " fragment inner on Consultation { recordings { edges { cursor } } }",
        (
            "{ ...root } fragment root on Query { consultations { edges { node { ...page } } } }"
            f" fragment page on Consultation {{ {PAGE_IN_PAGE} }}"
        ),
        (
            'mutation { stopRecording(input: {recordingId: "1"}) {'
            f" recording {{ consultation {{ {PAGE_IN_PAGE} }} }} }} }}"
        ),
        f"subscription {{ recordingsChanged {{ consultation {{ {PAGE_IN_PAGE} }} }} }}",
    ],
)
def test_page_in_a_nested_page_is_refused(query: str) -> None:
    excess = _excess(query, deep=False)
    assert excess is not None
    assert (excess.reason, excess.detail) == ("page_in_nested_page", {"limit": 1, "count": 2})


@pytest.mark.parametrize(
    "query",
    [
        "{ a }",
        _nested(PAGE),
        f'{{ consultation(by: {{id: "1"}}) {{ {PAGE} }} }}',
        f"subscription {{ recordingsChanged {{ consultation {{ {PAGE} }} }} }}",
        "{ consultations(first: 100) { edges { node { recordings(first: 25) { edges { cursor } } } } } }",
        "{ ...f } fragment f on Query { ...f }",
        "fragment f on Query { a }",
    ],
)
def test_page_in_the_page_of_a_root_field_is_accepted(query: str) -> None:
    assert _excess(query) is None


@pytest.mark.parametrize(
    ("query", "variables", "objects"),
    [
        ("{ recordings { edges { cursor } } }", {}, 25),
        ("{ x: recordings(first: 3) { edges { cursor } } recordings(first: 4) { edges { cursor } } }", {}, 7),
        (_nested(PAGE), {}, 25 + 25 * 25),
        (_nested("recordings(first: 2) { edges { cursor } }", "recordings(first: 10)"), {}, 10 + 20),
        (
            _nested("a: recordings(first: 2) { x } b: recordings(first: 3) { x }", "recordings(first: 10)"),
            {},
            60,
        ),
        (
            _nested("...f ...f") + " fragment f on Consultation { recordings(first: 2) { x } }",
            {},
            25 + 25 * 4,
        ),
        ('{ consultation(by: {id: "1"}) { recordings(first: 5) { edges { cursor } } } }', {}, 5),
        ("{ activeRooms { consultation { recordings(first: 5) { edges { cursor } } } } }", {}, 100 + 500),
        ("query ($n: Int!) { recordings(first: $n) { edges { cursor } } }", {"n": 40}, 40),
        ("query ($n: Int!) { recordings(first: $n) { edges { cursor } } }", {"n": 40.0}, 40),
        ("query ($n: Int! = 7) { recordings(first: $n) { edges { cursor } } }", {}, 7),
        ("query ($n: Int) { recordings(first: $n) { edges { cursor } } }", {}, 25),
        ("query ($n: Int) { recordings(first: $n) { edges { cursor } } }", {"n": "40"}, LARGEST),
        ("query ($n: Int) { recordings(first: $n) { edges { cursor } } }", {"n": None}, LARGEST),
        ("query ($n: Int) { recordings(first: $n) { edges { cursor } } }", {"n": True}, LARGEST),
        ("query ($n: Int) { recordings(first: $n) { edges { cursor } } }", {"n": 10**400}, LARGEST),
        ("{ recordings(first: " + "9" * 5000 + ") { edges { cursor } } }", {}, LARGEST),
        ("{ recordings(first: -3) { edges { cursor } } }", {}, 0),
        (
            'query ($n: Int) { consultation(by: {id: "1"}) { recordings(first: $n) { edges { cursor } } } }',
            {"n": 1000},
            LARGEST_NESTED,
        ),
        (
            '{ consultation(by: {id: "1"}) { recordings(first: 5) @skip(if: true) { edges { cursor } } } }',
            {},
            5,
        ),
    ],
)
def test_objects_of_all_pages_are_counted(query: str, variables: dict[str, Any], objects: int) -> None:
    assert _objects(query, **variables) == objects


def test_operation_may_show_three_thousand_objects_in_its_pages_and_no_more() -> None:
    query = "query ($n: Int!, $m: Int!) {{ {a} {b} }}".format(
        a="consultations(first: 100) { edges { node { recordings(first: 25) { edges { cursor } } } } }",
        b="a: recordings(first: 100) { x } b: recordings(first: 100) { x } "
        "c: recordings(first: 100) { x } d: recordings(first: $n) { x } e: recordings(first: $m) { x }",
    )
    assert _excess(query, n=99, m=1) is None
    excess = _excess(query, n=100, m=1)
    assert excess is not None
    assert (excess.code, excess.reason) == ("TOO_COMPLEX", "too_many_page_objects")
    assert excess.detail == {"limit": 3000, "count": 3001}


@pytest.mark.parametrize(
    "inner",
    [
        " ".join(f"a{n}: recordings(first: 25, after: $c) {{ edges {{ cursor }} }}" for n in range(30)),
        "...f @include(if: $with) ...g @skip(if: $with)",
        "... on Consultation { ...f } ...g",
    ],
)
def test_aliases_fragments_and_directives_do_not_evade_the_limit(inner: str) -> None:
    fragments = " ".join(
        f"fragment {name} on Consultation {{ {name}: recordings(first: $m) {{ edges {{ cursor }} }} }}"
        for name in "fg"
    )
    query = f"query ($c: String, $m: Int = 25, $with: Boolean!) {_nested(inner, 'recordings(first: 100)')} {fragments}"
    excess = _excess(query, **{"with": True})
    assert excess is not None
    assert excess.reason == "too_many_page_objects"


_first = st.sampled_from(
    ["", "(first: 3)", "(first: -1)", "(first: $n)", "(first: $m)", "(first: null)", "(first: {})"]
)
_names = st.sampled_from(
    ["recordings", "consultation", "consultations", "activeRooms", "edges", "node", "x: recordings"]
)


@given(
    st.recursive(
        st.sampled_from(["id", "...f", "...missing"]),
        lambda children: st.tuples(
            _names,
            _first,
            st.lists(children, min_size=1, max_size=3).map(lambda one: "{ " + " ".join(one) + " }"),
        ).map(" ".join),
        max_leaves=8,
    ),
    st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=1)),
)
@settings(max_examples=200)
def test_any_document_is_measured_without_raising(selection: str, value: object) -> None:
    query = f"query ($n: Int = 4, $m: Int) {{ {selection} ...f }} fragment f on Query {{ {selection} }}"
    excess = _excess(query, n=value)
    assert excess is None or excess.code == "TOO_COMPLEX"
