"""Tests that the registry of reasons is complete: each reason that the code raises has texts and remedies in
English and Spanish.
"""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from string import Formatter

import pytest
from graphql import GraphQLEnumType, GraphQLObjectType, build_schema

from app.commands.reasons import reasons_page
from app.integrations.livekit.snapshots import _ENDS_BEFORE_START, _REASONS
from app.public_errors import DETAILS
from app.texts import (
    LANGUAGES,
    error_texts,
    operator_message,
    recording_error_text,
    transcription_error_text,
)
from app.texts.reasons import Reader, Reason, load_reasons
from tests.api import documents
from tests.api.harness import Person

ROOT = Path(__file__).parents[2]
REASONS = load_reasons()
CODES = {
    "AppError": "INTERNAL",
    "InvalidInput": "INVALID_INPUT",
    "MediaRefused": "INVALID_INPUT",
    "Unauthenticated": "UNAUTHENTICATED",
    "Forbidden": "FORBIDDEN",
    "NotFound": "NOT_FOUND",
    "Conflict": "CONFLICT",
    "AnswerRefused": "CONFLICT",
    "AnswerUnusable": "UPSTREAM_FAILED",
    "RateLimited": "RATE_LIMITED",
    "UpstreamFailed": "UPSTREAM_FAILED",
    "LiveKitRefused": "UPSTREAM_FAILED",
    "LiveKitUnanswered": "UPSTREAM_FAILED",
    "Timeout": "TIMEOUT",
    "TooComplex": "TOO_COMPLEX",
}
SQLSTATES = {
    "RG400": "INVALID_INPUT",
    "RG401": "UNAUTHENTICATED",
    "RG403": "FORBIDDEN",
    "RG404": "NOT_FOUND",
    "RG409": "CONFLICT",
    "RG429": "RATE_LIMITED",
}
RAISED_IN_SQL = re.compile(r"raise exception '([a-z_]+)'[^;]*errcode = '(RG\d+)'")
NO_ERRORS_OF_RECORDINGS = {
    "insights_unanswered",
    "language_budget_used_up",
    "no_intent",
    "not_its_recording",
    "recording_destroyed",
}
"""Reasons of unknown egresses, and the errors of a transcript and of insights."""

TABLE = re.compile(r"^\| (?:error|reason) \|.*\n\|[-|]+\n((?:\|.*\n)+)", re.MULTILINE)
SLUG = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")


@cache
def _modules() -> tuple[ast.Module, ...]:
    folders = ("app", "graphql_schema", "devstack")
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return tuple(ast.parse(path.read_text(encoding="utf-8")) for path in paths)


@cache
def _nodes() -> tuple[ast.AST, ...]:
    return tuple(node for module in _modules() for node in ast.walk(module))


@cache
def _schemas() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "supabase/schemas").glob("*.sql"))


@cache
def _constants() -> Mapping[str, str]:
    """Return the string constants that the Python modules define, by the names of the constants."""
    named = {}
    for node in (node for module in _modules() for node in module.body):
        match node:
            case ast.Assign(targets=[ast.Name(name)], value=ast.Constant(str(value))):
                named[name] = value
            case ast.AnnAssign(target=ast.Name(name), value=ast.Constant(str(value))):
                named[name] = value
    return named


def _strings(expression: ast.expr) -> Iterator[str]:
    """Yield the strings that an argument can have as its value. The argument can be a literal, a named constant, or
    an expression with `or` or `if`.
    """
    match expression:
        case ast.Constant(str(value)):
            yield value
        case ast.Name(name) if name in _constants():
            yield _constants()[name]
        case ast.IfExp(body=one, orelse=other):
            yield from (*_strings(one), *_strings(other))
        case ast.BoolOp(values=values):
            yield from (each for value in values for each in _strings(value))


def _raised_in_python() -> Iterator[tuple[str, str]]:
    """Yield the reason and the code of each error that Python code raises. Python code writes such an error as
    `Conflict("...")`, or as `(Conflict, "...")` in a table that translates the refusals of vendors.
    """
    for node in _nodes():
        match node:
            case ast.Call(func=ast.Name(kind), args=[reason, *_]) if kind in CODES:
                yield from ((each, CODES[kind]) for each in _strings(reason))
            case ast.Tuple(elts=[ast.Name(kind), ast.Constant(str(reason))]) if kind in CODES:
                yield reason, CODES[kind]


def _in_tables_of_refusals() -> Iterator[str]:
    """Yield the reasons in the dictionaries that translate the codes of vendors and of Postgres."""
    for path in (*(ROOT / "app/integrations").rglob("*.py"), ROOT / "app/postgres/errors.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):
                for value in node.values:
                    yield from (each for each in _strings(value) if SLUG.fullmatch(each))


def _composed() -> Iterator[str]:
    """Yield the reasons that the code composes from two strings."""
    meters = tomllib.loads((ROOT / "policies/quotas.toml").read_text(encoding="utf-8"))
    yield from (f"quota_{meter}" for meter in meters["per_person_and_hour"])
    yield from (
        f"{what}_{end}" for what in ("bucket", "database") for end in ("unmarked", "of_another_deployment")
    )
    yield from (f"livekit_{found}" for found in ("no_recorder", "unreachable"))
    yield from (f"recording_{status}" for status in ("aborted", "failed", "lost"))
    yield from (f"egress_{reason}" for _, reason in (*_REASONS, *_ENDS_BEFORE_START))
    yield "egress_failed"


def _names_of_indexes() -> Iterator[str]:
    return (name for name in REASONS if name.endswith("_key") and f"constraint {name} unique" in _schemas())


def _mentioned() -> set[str]:
    """Return every string in the code that could be a reason."""
    quoted = {
        node.value for node in _nodes() if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    registry = r"insert into private\.audit_terms.*?;\n"
    quoted |= set(re.findall(r"'([a-z0-9_]+)'", re.sub(registry, "", _schemas(), flags=re.DOTALL)))
    for path in (ROOT / "app").rglob("*.sql"):
        quoted |= set(re.findall(r"'([a-z0-9_]+)'", path.read_text(encoding="utf-8")))
    return quoted | set(_composed()) | set(_names_of_indexes())


def test_every_reason_that_the_code_raises_is_registered_with_its_code() -> None:
    raised = {
        *_raised_in_python(),
        *((name, SQLSTATES[state]) for name, state in RAISED_IN_SQL.findall(_schemas())),
    }
    assert len(raised) > 280, "the search finds hardly any"
    assert {name for name, _ in raised} - REASONS.keys() == set()
    assert {(name, code) for name, code in raised if code not in REASONS[name].codes} == set()
    assert {*_in_tables_of_refusals(), *_composed()} - REASONS.keys() == set()


def test_every_registered_reason_occurs_in_the_code() -> None:
    assert REASONS.keys() - _mentioned() == set()


def test_every_error_names_the_values_that_its_sentences_need() -> None:
    for node in _nodes():
        match node:
            case ast.Call(func=ast.Name(kind), args=[ast.Constant(str(name))], keywords=given) if (
                kind in CODES
            ):
                named = {each.arg for each in given}
                assert None in named or set(REASONS[name].parameters) <= named, name


def _blanks(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name}


@pytest.mark.parametrize("name", sorted(REASONS))
def test_registered_reason_has_a_text_and_a_remedy_in_both_languages(name: str) -> None:
    reason = REASONS[name]
    assert reason.readers
    assert set(reason.codes) <= error_texts("en")["codes"].keys() | {"GRAPHQL_PARSE_FAILED"}
    assert reason.codes or set(reason.readers) & {
        "recording",
        "transcription",
        "insights",
        "signed_note",
        "audit_export",
        "officer_proposal",
        "webhook",
    }
    used = set()
    remedies = (reason.remedy, reason.operator_remedy, *reason.remedy_for.values())
    for sentences in (reason.text, reason.recording_text, *remedies):
        assert set(sentences) == set(LANGUAGES)
        assert all(sentence.endswith((".", ")")) for sentence in sentences.values()), sentences
        assert _blanks(sentences["en"]) == _blanks(sentences["es"])
        used |= _blanks(sentences["en"])
    assert used == set(reason.parameters)


def test_every_shared_remedy_is_used() -> None:
    tables = tomllib.loads((ROOT / "app/texts/reasons.toml").read_text(encoding="utf-8"))
    used = {
        remedy
        for entry in tables["reasons"].values()
        for remedy in (entry["remedy"], entry.get("operator_remedy"), *entry.get("remedy_for", {}).values())
        if isinstance(remedy, str)
    }
    assert used == set(tables["remedies"])


def _read_by(reader: Reader) -> dict[str, Reason]:
    return {name: reason for name, reason in REASONS.items() if reader in reason.readers}


def _errors_of_recordings() -> Iterator[str]:
    """Yield every error code that the Python code or the database stores for a recording.

    Python code passes a recording's error code as the argument `reason` or `error`, directly or through
    `functools.partial`.
    """
    paths = (ROOT / "app/recordings").glob("*.py")
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    places = {"partial": 1}
    for function in (node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
        names = [each.arg for each in function.args.args if each.arg != "self"]
        for name in {"reason", "error"} & set(names):
            places[function.name] = names.index(name)
    del places["require_ready"]
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        given = call.args[places[name] :][:1] if name in places else []
        for argument in (*given, *(word.value for word in call.keywords if word.arg == "error")):
            yield from _strings(argument)
    yield from re.findall(r"\berror = '([a-z_]+)'", _schemas())


def test_every_error_of_a_recording_is_registered_as_one() -> None:
    errors = {each for each in _errors_of_recordings() if SLUG.fullmatch(each)}
    assert {"staff_suspended", "object_missing", "stopped_by_request"} <= errors
    assert errors - _read_by("recording").keys() - NO_ERRORS_OF_RECORDINGS == set()
    for language in LANGUAGES:
        assert recording_error_text("unregistered", language) == recording_error_text(
            "internal_error", language
        )


def test_every_error_of_insights_is_registered_as_one() -> None:
    ended = re.findall(r"end_insights\([^;]*, '(?:FAILED|OFF)', '([a-z_]+)'\)", _schemas())
    vendors = {name for name in REASONS if name.startswith("language_")}
    others = {"consent_text", "consent_withdrawn", "recording_destroyed", "switched_off", "insights_unusable"}
    assert ended
    assert {*ended, *vendors, *others} - _read_by("insights").keys() == set()


def test_every_error_of_a_transcription_is_registered_as_one() -> None:
    ended = re.findall(r"end_transcription\([^;]*, '(?:FAILED|OFF)', '([a-z_]+)'\)", _schemas())
    vendors = {name for name in REASONS if name.startswith("speech_")}
    assert ended
    assert {*ended, *vendors} - _read_by("transcription").keys() == set()
    for language in LANGUAGES:
        unregistered = transcription_error_text("unregistered", language)
        assert unregistered == transcription_error_text("internal_error", language)


def test_message_for_operators_has_the_text_and_the_remedy_for_operators() -> None:
    message = operator_message("storage_clock")
    assert message.startswith(REASONS["storage_clock"].text["en"])
    assert message.endswith(REASONS["storage_clock"].operator_remedy["en"])
    assert "(NTP)" in message
    assert operator_message("unregistered") == "See docs/reasons.md."


def test_page_of_reasons_is_generated_from_the_registry() -> None:
    assert (ROOT / "docs/reasons.md").read_text(encoding="utf-8") == reasons_page(), "run `make reasons`"


FOR_OPERATORS = {
    "answer",
    "code",
    "most_attempts",
    "operation",
    "region",
    "root_key_id",
    "status",
    "vendor_code",
    "version",
}
"""The details of errors that a caller can get, which only the logs contain: what a vendor answered."""


def _printed(name: str) -> set[str]:
    """Return the fields or the values of a type in the printed schema."""
    schema = build_schema((ROOT / "graphql_schema/schema.graphql").read_text(encoding="utf-8"))
    kind = schema.type_map[name]
    assert isinstance(kind, GraphQLObjectType | GraphQLEnumType)
    return set(kind.fields if isinstance(kind, GraphQLObjectType) else kind.values)


def _camel_case(name: str) -> str:
    return re.sub("_([a-z])", lambda found: found[1].upper(), name)


def test_page_of_reasons_has_the_message_and_the_remedy_of_every_printed_reason() -> None:
    page = (ROOT / "docs/reasons.md").read_text(encoding="utf-8")
    answers = page.partition("## Answers of the API")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `([a-z0-9_]+)` \| (`[A-Z_`, ]+`) \| (.+) \|$", answers, re.MULTILINE)
    assert {name.upper() for name, _, _ in listed} == _printed("ErrorReason")
    for name, codes, message in listed:
        assert re.findall(r"[A-Z_]+", codes) == list(REASONS[name].codes)
        assert set(REASONS[name].codes) <= _printed("ErrorCode")
        assert message == f"{REASONS[name].text['en']} {REASONS[name].remedy['en']}"


def test_page_of_the_schema_says_what_to_do_for_every_code() -> None:
    page = (ROOT / "docs/graphql.md").read_text(encoding="utf-8")
    table = page.partition("| `code` | meaning | do |\n|---|---|---|\n")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert all(len(row) == 3 and all(row) for row in rows)
    assert sorted(row[0].strip("`") for row in rows) == sorted(_printed("ErrorCode"))


def test_typed_details_are_exactly_those_that_an_error_for_callers_can_carry() -> None:
    carried = {"retry_after_seconds"}  # a database function that counts a quota, and every RateLimited
    for node in _nodes():
        match node:
            case ast.Call(func=ast.Name(kind), args=[reason, *_], keywords=given) if kind in CODES:
                names = set(_strings(reason))
                if not names or any("caller" in REASONS[name].readers for name in names):
                    carried |= {each.arg for each in given if each.arg is not None}
            case ast.Dict(keys=keys):  # the places of bad values
                texts = {key.value for key in keys if isinstance(key, ast.Constant)}
                if texts & {"input_path", "limit"}:
                    carried |= {text for text in texts if isinstance(text, str)}
    in_sentences = {name for reason in _read_by("caller").values() for name in reason.parameters}
    assert in_sentences <= set(DETAILS), "the message has a value that the details do not have"
    assert carried - FOR_OPERATORS == set(DETAILS)
    assert {_camel_case(name) for name in DETAILS} == _printed("ErrorDetails")


def test_tables_of_errors_in_the_docs_name_only_registered_reasons() -> None:
    checked = 0
    for path in (ROOT / "docs").rglob("*.md"):
        for table in re.findall(
            r"^\| (?:error|reason) \|.*\n\|[-|]+\n((?:\|.*\n)+)", path.read_text("utf-8"), re.MULTILINE
        ):
            for row in table.splitlines():
                named = re.findall(r"`([a-z0-9_]+)`", row.split(" | ")[0])
                assert set(named) <= REASONS.keys(), path
                checked += len(named)
    assert checked > 400


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("document", "variables", "english", "spanish"),
    [
        (
            documents.RECORDING,
            {"id": "7"},
            "The id is not valid. Use the id that the API returned.",
            "El identificador no es válido. Use el identificador que devolvió la API.",
        ),
        (
            documents.RECORDING,
            {"id": "00000000-0000-0000-0000-000000000000"},
            "This recording does not exist, or you may not see it. Reload the list and choose again.",
            "No existe esta grabación, o usted no puede verla. Actualice la lista y elija de nuevo.",
        ),
        (
            documents.AUDIT_EVENTS,
            {},
            "Your role does not permit this. Ask your practice who may do this.",
            "Su función no permite hacer esto. Pregunte en su consultorio quién puede hacerlo.",
        ),
        (
            documents.CONSULTATIONS,
            {"first": 0},
            "The page size must be from 1 to 100. Correct the request.",
            "El tamaño de página debe ser de 1 a 100. Corrija la solicitud.",
        ),
    ],
    ids=["bad id", "not found", "role", "page size"],
)
async def test_error_is_told_in_the_readers_language(
    other_doctor: Person, document: str, variables: dict[str, object], english: str, spanish: str
) -> None:
    for language, sentence in (
        ("en", english),
        ("es", spanish),
        ("es-MX,en;q=0.2", spanish),
        ("fr", english),
    ):
        answer = await other_doctor.send(document, in_language=language, **variables)
        assert answer.error.message == sentence
