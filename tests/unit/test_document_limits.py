"""Tests of the limits of GraphQL documents: the API enforces each limit, and a client cannot evade a limit by
writing the same query differently, for example with fragments.
"""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from graphql import GraphQLSchema, build_schema, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from graphql_schema.document_limits import Limits, TooComplex, find_excess
from graphql_schema.document_sizes import OperationSize, measure_operation
from graphql_schema.validation_cache import ValidationCache
from tests.api.small_api import Context, small_schema

SCHEMA: GraphQLSchema = build_schema("type Query { a: Int }")


def _measure(query: str) -> OperationSize:
    return measure_operation(parse(query))


@pytest.mark.parametrize(
    ("query", "selections"),
    [
        ("{ a }", 1),
        ("{ a x: a __typename }", 3),
        ("{ c { a } }", 2),
        ("{ b(first: 3) { a c { a } } }", 4),
        ("{ b { ... on Node { a } ... { a } } }", 3),
        ("{ b { ...f ...f } } fragment f on Node { a c { a } }", 1 + 2 * 3),
        (
            "{ x: b { ...f } y: b { ...f } } fragment f on Node { a ...g } fragment g on Node { c { a } }",
            2 * 4,
        ),
        ("{ a @skip(if: true) c @include(if: false) { a } }", 3),
        ("{ __schema { types { name } } }", 1),
    ],
)
def test_selections_are_counted_with_each_fragment_in_its_place(query: str, selections: int) -> None:
    assert _measure(query).selections == selections


def test_depth_aliases_and_root_fields_are_counted_through_fragments() -> None:
    found = _measure("{ ...r ... on Query { x: a } } fragment r on Query { y: c { c { z: a } } b { a } }")
    assert (found.depth, found.aliases, found.root_fields) == (3, 3, 3)


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
    assert find_excess(Limits(), parse(query)) is None


def _doubling(levels: int) -> str:
    fragments = [f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(levels)]
    return "\n".join(["{ ...f0 }", *fragments, f"fragment f{levels} on Query {{ a }}"])


WIDE = Limits(tokens=10**6, selections=10**6, fragments=10**6)
"""High limits on the written size of a document, so that only the computed limits apply."""


def test_selections_and_fragments_are_counted_as_they_are_written() -> None:
    fields = find_excess(Limits(selections=5), parse("{ a a a c { a a } }"))
    fragments = find_excess(Limits(fragments=1), parse(_doubling(2)))
    assert fields is not None
    assert fragments is not None
    assert (fields.reason, fields.detail["count"]) == ("too_many_selections", 6)
    assert fragments.reason == "too_many_fragments"
    assert find_excess(Limits(selections=6), parse("{ a a a c { a a } }")) is None


def test_fragments_that_double_each_other_are_refused_in_no_time() -> None:
    started = time.process_time()
    limits = replace(WIDE, root_fields=10**30, selections=1000)
    excess = find_excess(limits, parse(_doubling(80)))
    assert time.process_time() - started < 1
    assert isinstance(excess, TooComplex)
    assert (excess.reason, excess.detail) == ("too_many_selections", {"count": 1_000_000_000, "limit": 1000})


def test_chain_of_fragments_beyond_pythons_stack_is_too_deep() -> None:
    chain = [f"fragment f{n} on Query {{ ...f{n + 1} }}" for n in range(5000)]
    excess = find_excess(WIDE, parse("\n".join(["{ ...f0 }", *chain])))
    assert excess is not None
    assert excess.reason == "too_deep"


@pytest.mark.parametrize(
    ("query", "reason", "count"),
    [
        ("query A { a } query B { a }", "too_many_operations", 2),
        ("{" + "a " * 4 + "}", "too_many_root_fields", 4),
        ("{ c { c { c { c { a } } } } }", "too_deep", 5),
        ("{ w: a x: a c { y: a } }", "too_many_aliases", 3),
        ("{ c { a a a a a a a a } }", "too_many_selections", 9),
        ("{ c { ...f ...f } } fragment f on Node { c { a a a } }", "too_many_selections", 9),
    ],
)
def test_each_limit_refuses_one_more_and_allows_the_limit(query: str, reason: str, count: int) -> None:
    limits = Limits(root_fields=3, depth=4, aliases=2, selections=8)
    excess = find_excess(limits, parse(query))
    assert excess is not None
    assert (excess.reason, excess.detail["count"]) == (reason, count)
    if reason != "too_many_operations":
        wide = Limits(root_fields=4, depth=5, aliases=3, selections=9)
        assert find_excess(wide, parse(query)) is None


HOSTILE = {
    "10,000 aliases": "{ " + " ".join(f"a{n}: hello" for n in range(10_000)) + " }",
    "aliases in fragments": "{ items { ...f ...g } }"
    + "".join(
        f" fragment {name} on Item {{ {' '.join(f'{name}{n}: id' for n in range(20))} }}" for name in "fg"
    ),
    "wide fragment at each root field": "{ "
    + " ".join(f"r{n}: items {{ ...f }}" for n in range(10))
    + f" }} fragment f on Item {{ {'id name ' * 13} }}",
    "deep": "{ " + "items { " * 100 + "id" + " }" * 101,
    "deep in fragments": "{ ...f0 } "
    + " ".join(f"fragment f{n} on Item {{ items {{ items {{ ...f{n + 1} }} }} }}" for n in range(9))
    + " fragment f9 on Item { id }",
    "fragments that double": "{ ...f0 } "
    + " ".join(f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(9))
    + " fragment f9 on Query { hello }",
    "a fragment that spreads itself": "{ ...f } fragment f on Query { hello ...f }",
    "fragments in a circle": "{ ...f } fragment f on Query { ...g } fragment g on Query { ...f }",
    "an unknown fragment": "{ ...missing }",
    "41 fragments": "{ hello }" + "".join(f" fragment f{n} on Query {{ hello }}" for n in range(41)),
    "skipped fields": "{ " + "hello @skip(if: true) " * 11 + "}",
}


@pytest.mark.parametrize("query", HOSTILE.values(), ids=HOSTILE)
def test_hostile_document_is_refused_before_any_resolver_runs(query: str) -> None:
    result = _run(query)
    assert result.data is None
    assert {error.extensions["code"] for error in result.errors} <= {
        "TOO_COMPLEX",
        "GRAPHQL_PARSE_FAILED",
        "GRAPHQL_VALIDATION_FAILED",
    }


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


@given(
    st.lists(_selections, min_size=1, max_size=4),
    st.lists(_selections, min_size=3, max_size=3),
)
@settings(max_examples=300)
def test_any_document_is_measured_or_refused_and_nothing_is_raised(
    selections: list[str], fragments: list[str]
) -> None:
    query = f"query ($n: Int = 4, $m: Int) {{ {' '.join(selections)} }}"
    query += "".join(f" fragment f{n} on Node {{ {body} }}" for n, body in enumerate(fragments))
    excess = find_excess(Limits(selections=9, depth=3, root_fields=2, aliases=2), parse(query))
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
def test_size_of_fragments_is_that_of_their_fields_and_never_less_than_without(
    inner: list[str], beside: list[str]
) -> None:
    fields, others = " ".join(inner), " ".join(beside)
    spread = _measure(f"{{ b {{ {others} ...f ...f }} }} fragment f on Node {{ {fields} }}")
    assert spread == _measure(f"{{ b {{ {others} {fields} {fields} }} }}")
    without = _measure(f"{{ b {{ {others} }} }}")
    assert spread.selections > without.selections
    assert spread.depth >= without.depth


def _run(query: str, limits: Limits | None = None, *, schema: Any = None, **options: Any) -> Any:
    used = schema or small_schema(limits=limits)
    return asyncio.run(used.execute(query, context_value=Context("en", "r1"), **options))


def test_schema_refuses_too_many_selections_before_it_executes_them() -> None:
    query = "{ broken x: items { ...f } y: items { ...f } } fragment f on Item { id name items { id name } }"
    result = _run(query, Limits(selections=12))
    assert result.data is None
    (error,) = result.errors
    assert error.extensions == {
        "code": "TOO_COMPLEX",
        "reason": "TOO_MANY_SELECTIONS",
        "retryable": False,
        "requestId": "r1",
        "details": {"count": 13, "limit": 12},
    }
    assert "13" in error.message


def test_schema_refuses_too_many_tokens() -> None:
    result = _run("{ " + "hello " * 20 + "}", Limits(tokens=10))
    extensions = result.errors[0].extensions
    assert (extensions["code"], extensions["reason"]) == ("TOO_COMPLEX", "TOO_MANY_TOKENS")
    assert extensions["details"] == {"limit": 10}


@pytest.mark.parametrize(
    "query", ["{ hello" * 250 + "}" * 250, "{ hello(name: " + "[" * 250 + "]" * 250 + ") }"]
)
def test_schema_refuses_a_document_that_the_parser_cannot_nest(query: str) -> None:
    extensions = _run(query, WIDE).errors[0].extensions
    assert (extensions["code"], extensions["reason"]) == ("TOO_COMPLEX", "NESTED_TOO_DEEP")


@pytest.mark.parametrize("query", ["{}", "{ items {} }", "{ items { id } ... {} }", "query A {}"])
def test_schema_refuses_an_empty_selection_set(query: str) -> None:
    assert _run(query, WIDE).errors[0].extensions["code"] == "GRAPHQL_PARSE_FAILED"


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
    validations = ValidationCache(2, allow_introspection=True)
    for query in ("{ a }", "{ x }", "{ a }", "{ y }"):
        validations.find_errors(SCHEMA, query, parse(query))
    assert [query for _, query in validations._kept] == ["{ a }", "{ y }"]


def test_production_hides_the_schemas_names() -> None:
    schema = small_schema(is_production=True)
    for query in ("{ hell }", "{ hello(nam: 1) }", "{ ... on Quer { hello } }"):
        assert "Did you mean" not in _run(query, schema=schema).errors[0].message
    assert (
        "introspection"
        in _run("{ __schema { queryType { name } } }", schema=schema).errors[0].message.lower()
    )
