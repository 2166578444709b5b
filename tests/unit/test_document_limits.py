"""Tests of the limits of a GraphQL document: each is measured and enforced, and no notation evades them."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from graphql import GraphQLSchema, build_schema, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from graphql_schema.complexity import Complexity, PageSizes, measure
from graphql_schema.document_limits import Limits, TooComplex, _Validations, find_excess
from tests.api.small_api import Context, small_schema

SCHEMA: GraphQLSchema = build_schema(
    """
    type Query { a: Int b(first: Int): Node c: Node }
    type Node { a: Int b(first: Int = 20): Node c: Node other: Other }
    type Other { x: Int }
    """
)
PAGES = PageSizes(default=5, maximum=10)


def _measure(query: str, variables: dict[str, object] | None = None) -> Complexity:
    return measure(SCHEMA, parse(query), variables or {}, PAGES)


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ("{ a }", 1),
        ("{ a x: a __typename }", 3),
        ("{ c { a } }", 2),
        ("{ b(first: 3) { a c { a } } }", 1 + 3 * 3),
        ("{ b { a } }", 1 + 5),
        ("{ b(first: null) { a } }", 1 + 5),
        ("{ b(first: 2) { b(first: 3) { a } } }", 1 + 2 * (1 + 3)),
        ("{ b(first: 2) { ... on Node { a } ... { a } } }", 1 + 2 * 2),
        ("{ b(first: 2) { ...f ...f } } fragment f on Node { a c { a } }", 1 + 2 * 6),
        ("{ a @skip(if: true) c @include(if: false) { a } }", 3),
        ("{ __schema { types { name } } }", 1),
    ],
)
def test_cost_is_the_fields_times_the_pages_they_are_in(query: str, cost: int) -> None:
    assert _measure(query).cost == cost


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ("{ recording { speakers { id } } }", 1 + 1 + 4),
        ("{ recordings(first: 3) { speakers { id participant { kind } } } }", 1 + 3 * (1 + 4 * 3)),
        ("{ recording { ... on Recording { a: speakers { id } b: speakers { id } } } }", 1 + 2 * 5),
        ("{ recording { words { id } } }", 1 + 1 + 1),
    ],
)
def test_list_of_sounds_costs_what_four_of_them_do(query: str, cost: int) -> None:
    schema = build_schema(
        """
        type Query { recording: Recording recordings(first: Int): Recording }
        type Recording { speakers: [Sound!]! words: [Sound!]! }
        type Sound { id: ID participant: Person }
        type Person { kind: String }
        """
    )
    assert measure(schema, parse(query), {}, PAGES).cost == cost


@pytest.mark.parametrize(
    "first", ["-1", "-99999999999", "11", "99999999999", "9" * 5000, '"3"', "3.5", "ENUM", "[1]"]
)
def test_bad_literal_page_size_costs_the_largest_page(first: str) -> None:
    assert _measure(f"{{ b(first: {first}) {{ a }} }}").cost == 11


@pytest.mark.parametrize(
    "first", [-1, 10**400, "3", True, [1], {}, float("nan"), float("inf"), 1e300, -0.5e9]
)
def test_bad_variable_page_size_costs_the_largest_page(first: object) -> None:
    assert _measure("query ($n: Int) { b(first: $n) { a } }", {"n": first}).cost == 11


@pytest.mark.parametrize(
    ("definition", "variables", "cost"),
    [
        ("$n: Int", {"n": 3}, 4),
        ("$n: Int", {"n": 3.0}, 4),
        ("$n: Int = 7", {"n": 3}, 4),
        ("$n: Int = 7", {}, 8),
        ("$n: Int = -7", {}, 11),
        ("$n: Int = 7", {"n": None}, 6),
        ("$n: Int", {}, 6),
        ("$other: Int = 2", {"n": 0}, 2),
    ],
)
def test_page_size_is_read_from_variables(definition: str, variables: dict[str, object], cost: int) -> None:
    assert _measure(f"query ({definition}) {{ b(first: $n) {{ a }} }}", variables).cost == cost


def test_page_size_of_zero_does_not_make_its_children_free() -> None:
    assert _measure("{ b(first: 0) { a } }").cost == 2


def test_largest_of_repeated_page_sizes_counts() -> None:
    assert _measure("{ b(first: 1, first: 9) { a } }").cost == 10


def test_depth_aliases_and_root_fields_are_counted_through_fragments() -> None:
    found = _measure("{ ...r ... on Query { x: a } } fragment r on Query { y: c { c { z: a } } b { a } }")
    assert (found.depth, found.aliases, found.fields) == (3, 3, 3)


@pytest.mark.parametrize(
    "query",
    [
        "{ ...f } fragment f on Query { a ...f }",
        "{ ...f } fragment f on Query { a ...g } fragment g on Query { c { a } ...f }",
        "{ ...unknown }",
        "{ ...f } fragment f on Unknown { a { b } }",
        "{ unknown { b(first: 3) { a } } a { b } }",
        "mutation { a }",
        "subscription { a }",
        "type T { a: Int }",
        "fragment f on Query { a }",
    ],
)
def test_invalid_documents_are_measured_without_raising(query: str) -> None:
    assert find_excess(Limits(), SCHEMA, parse(query), {}) is None


def _doubling(levels: int) -> str:
    fragments = [f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(levels)]
    return "\n".join(["{ ...f0 }", *fragments, f"fragment f{levels} on Query {{ a }}"])


WIDE = Limits(tokens=10**6, selections=10**6, fragments=10**6)
"""High limits on the written size of a document, so that only the computed limits apply."""


def test_selections_and_fragments_are_counted_as_they_are_written() -> None:
    fields = find_excess(Limits(selections=5), SCHEMA, parse("{ a a a c { a a } }"), {})
    fragments = find_excess(Limits(fragments=1), SCHEMA, parse(_doubling(2)), {})
    assert fields is not None
    assert fragments is not None
    assert (fields.reason, fields.detail["count"]) == ("too_many_selections", 6)
    assert fragments.reason == "too_many_fragments"
    assert find_excess(Limits(selections=6), SCHEMA, parse("{ a a a c { a a } }"), {}) is None


def test_fragments_that_double_each_other_are_refused_in_no_time() -> None:
    started = time.process_time()
    excess = find_excess(replace(WIDE, root_fields=10**30), SCHEMA, parse(_doubling(80)), {})
    assert time.process_time() - started < 1
    assert isinstance(excess, TooComplex)
    assert excess.detail == {"cost": 1_000_000_000, "limit": 7500}


def test_chain_of_fragments_beyond_pythons_stack_is_too_deep() -> None:
    chain = [f"fragment f{n} on Query {{ ...f{n + 1} }}" for n in range(5000)]
    excess = find_excess(WIDE, SCHEMA, parse("\n".join(["{ ...f0 }", *chain])), {})
    assert excess is not None
    assert excess.reason == "too_deep"


@pytest.mark.parametrize(
    ("query", "reason", "count"),
    [
        ("query A { a } query B { a }", "too_many_operations", 2),
        ("{" + "a " * 4 + "}", "too_many_root_fields", 4),
        ("{ c { c { c { c { a } } } } }", "too_deep", 5),
        ("{ w: a x: a c { y: a } }", "too_many_aliases", 3),
    ],
)
def test_each_limit_refuses_what_is_over_it(query: str, reason: str, count: int) -> None:
    limits = Limits(root_fields=3, depth=4, aliases=2, cost=10)
    excess = find_excess(limits, SCHEMA, parse(query), {})
    assert excess is not None
    assert (excess.reason, excess.detail["count"]) == (reason, count)
    assert find_excess(replace(limits, root_fields=9, depth=9, aliases=9), SCHEMA, parse("{ a }"), {}) is None


def test_cost_at_the_limit_is_allowed_and_one_more_is_not() -> None:
    query = parse("{ b(first: 3) { a } }")
    assert find_excess(Limits(cost=4), SCHEMA, query, {}) is None
    excess = find_excess(Limits(cost=3), SCHEMA, query, {})
    assert excess is not None
    assert excess.detail == {"cost": 4, "limit": 3}


_names = st.sampled_from(["a", "b", "c", "other", "x", "nothing", "__typename", "__schema"])
_first = st.sampled_from(
    ["", "(first: 3)", "(first: -1)", "(first: $n)", "(first: $m)", "(first: 99999999999999)"]
)
_spread = st.sampled_from(["...f0", "...f1", "...f2", "...missing"])
_alias = st.sampled_from(["", "x: ", "y: "])


def _selection(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    block = st.lists(children, min_size=1, max_size=3).map(lambda items: "{ " + " ".join(items) + " }")
    field = st.tuples(_alias, _names, _first, block).map("".join)
    inline = st.tuples(st.sampled_from(["... ", "... on Node ", "... on Nothing "]), block).map("".join)
    return st.one_of(field, inline)


_selections = st.recursive(
    st.one_of(_spread, st.tuples(_alias, _names, _first).map("".join)), _selection, max_leaves=8
)
_values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]))


@given(
    st.lists(_selections, min_size=1, max_size=4),
    st.lists(_selections, min_size=3, max_size=3),
    st.dictionaries(st.sampled_from(["n", "m"]), _values),
)
@settings(max_examples=300)
def test_any_document_is_measured_or_refused_and_nothing_is_raised(
    selections: list[str], fragments: list[str], variables: dict[str, object]
) -> None:
    query = f"query ($n: Int = 4, $m: Int) {{ {' '.join(selections)} }}"
    query += "".join(f" fragment f{n} on Node {{ {body} }}" for n, body in enumerate(fragments))
    excess = find_excess(Limits(cost=50, depth=3, root_fields=2, aliases=2), SCHEMA, parse(query), variables)
    assert excess is None or excess.code == "TOO_COMPLEX"


_plain = st.recursive(
    st.sampled_from(["a", "x: a", "__typename"]),
    lambda children: st.tuples(
        st.sampled_from(["c ", "b ", "b(first: 3) ", "y: b(first: $n) ", "... on Node "]),
        st.lists(children, min_size=1, max_size=3).map(lambda items: "{ " + " ".join(items) + " }"),
    ).map("".join),
    max_leaves=8,
)


@given(st.lists(_plain, min_size=1, max_size=3), st.lists(_plain, min_size=1, max_size=3))
@settings(max_examples=200)
def test_cost_of_fragments_is_that_of_their_fields_and_never_less_than_without(
    inner: list[str], beside: list[str]
) -> None:
    variables: dict[str, object] = {"n": 4}
    fields, others = " ".join(inner), " ".join(beside)
    fragment = f" fragment f on Node {{ {fields} }}"
    head = "query ($n: Int) { b(first: 2) { "
    spread = _measure(head + f"{others} ...f ...f }} }}" + fragment, variables)
    expanded = _measure(head + f"{others} {fields} {fields} }} }}", variables)
    without = _measure(head + f"{others} }} }}", variables)
    assert spread == expanded
    assert spread.cost > without.cost
    assert spread.depth >= without.depth


def _run(query: str, limits: Limits | None = None, *, schema: Any = None, **options: Any) -> Any:
    used = schema or small_schema(limits=limits)
    return asyncio.run(used.execute(query, context_value=Context("en", "r1"), **options))


def test_schema_refuses_too_costly_operations_before_it_executes_them() -> None:
    query = "query ($n: Int) { broken items(first: $n) { items(first: $n) { id } } }"
    result = _run(query, Limits(max_page_size=100, cost=5000), variable_values={"n": 100})
    assert result.data is None
    (error,) = result.errors
    assert error.extensions == {
        "code": "TOO_COMPLEX",
        "reason": "too_costly",
        "cost": 10_102,
        "limit": 5000,
        "retryable": False,
        "requestId": "r1",
    }
    assert "10102" in error.message


def test_schema_refuses_too_many_tokens() -> None:
    result = _run("{ " + "hello " * 20 + "}", Limits(tokens=10))
    assert result.errors[0].extensions["code"] == "GRAPHQL_PARSE_FAILED"


def test_schema_survives_doubling_fragments() -> None:
    started = time.process_time()
    result = _run(_doubling(80), WIDE)
    assert time.process_time() - started < 2
    assert result.errors[0].extensions["code"] == "TOO_COMPLEX"


def test_cached_validation_errors_are_not_shared_between_requests() -> None:
    schema = small_schema()
    first, second = (
        _run("{ nothing }", schema=schema).errors[0],
        _run("{ nothing }", schema=schema).errors[0],
    )
    assert first is not second
    assert first.message == second.message
    assert first.locations == second.locations


def test_cache_of_validations_is_bounded_and_hit() -> None:
    validations = _Validations(2, allow_introspection=True)
    for query in ("{ a }", "{ x }", "{ a }", "{ y }"):
        validations.errors(SCHEMA, query, parse(query))
    assert [query for _, query in validations._kept] == ["{ a }", "{ y }"]


def test_production_hides_the_schemas_names() -> None:
    schema = small_schema(is_production=True)
    for query in ("{ hell }", "{ hello(nam: 1) }", "{ ... on Quer { hello } }"):
        assert "Did you mean" not in _run(query, schema=schema).errors[0].message
    assert (
        "introspection"
        in _run("{ __schema { queryType { name } } }", schema=schema).errors[0].message.lower()
    )
