"""Tests that every root field checks the caller's permission before it reports an error in the input."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
    is_required_input_field,
)

import app
import graphql_schema
from app.identity import permissions
from app.identity.permissions import Permission
from graphql_schema.root_fields import permission_of
from graphql_schema.schema import make_schema
from tests.api.harness import Answer, ApiHarness, Person
from tests.api.socket_client import open_socket

pytestmark = pytest.mark.anyio

LONG = "x" * 20_000
ROLES = ("clinician", "compliance", "patient")


@dataclass(frozen=True)
class Request:
    """A GraphQL operation with one error in its input."""

    document: str
    variables: dict[str, Any] = field(default_factory=dict)


def _schema() -> GraphQLSchema:
    return make_schema(is_production=False)._schema


def _root_fields() -> Iterator[tuple[str, str, GraphQLField]]:
    schema = _schema()
    for kind, root in (
        ("query", schema.query_type),
        ("mutation", schema.mutation_type),
        ("subscription", schema.subscription_type),
    ):
        assert isinstance(root, GraphQLObjectType)
        for name, found in root.fields.items():
            yield kind, name, found


FIELDS = {name: (kind, found) for kind, name, found in _root_fields()}
PERMITTED = {name: permission_of(found) for name, (_, found) in FIELDS.items()}
OPEN = {"consentText", "processLivekitWebhook", "joinAsGuest"}


def test_every_root_field_declares_a_permission_or_is_public() -> None:
    assert {name for name, permission in PERMITTED.items() if permission is None} == OPEN


async def test_every_permission_names_an_action_of_the_audit_log(harness: ApiHarness) -> None:
    rows = await harness.rows("select action from private.audit_actions")
    known = {row["action"] for row in rows}
    declared = {one.action for one in vars(permissions).values() if isinstance(one, Permission)}
    assert declared <= known


def test_services_open_transactions_only_with_declared_permissions() -> None:
    sources = [
        path for path in Path(app.__path__[0]).rglob("*.py") if path.name not in ("db.py", "permissions.py")
    ]
    assert sources
    assert [path for path in sources if re.search(r"\bAccess\(", path.read_text(encoding="utf-8"))] == []


def test_actions_are_written_only_in_the_permissions_module() -> None:
    actions = {one.action for one in vars(permissions).values() if isinstance(one, Permission)}
    assert actions
    written = {
        (path.name, action)
        for folder in (app.__path__[0], graphql_schema.__path__[0])
        for path in Path(folder).rglob("*.py")
        if path.name != "permissions.py"
        for action in actions
        if f'"{action}"' in path.read_text(encoding="utf-8")
    }
    assert written == set()


def test_field_takes_a_purpose_if_its_permission_says_so() -> None:
    takes = {
        name
        for name, (_, found) in FIELDS.items()
        for argument in found.args.values()
        if isinstance(given := get_named_type(argument.type), GraphQLInputObjectType)
        and "purposeOfUse" in given.fields
    }
    assert takes == {name for name, one in PERMITTED.items() if one is not None and one.states_purpose}
    assert takes == {"issueDownloadUrl", "issuePlaybackUrl", "createClip"}


ROLES_IN_DESCRIPTIONS = {
    "For compliance only": {"compliance"},
    "compliance sees all": {"compliance"},
    "A doctor sees": {"clinician"},
    "A patient sees": {"patient"},
    "For the patient only": {"patient"},
    "calling doctor's or patient's": {"clinician", "patient"},
    "calling doctor": {"clinician"},
    "the recording's doctor or a compliance officer": {"clinician", "compliance"},
    "for its doctor and for compliance": {"clinician", "compliance"},
    "signed-in patient": {"patient"},
    "Compliance officers read": {"compliance"},
}


def test_description_of_a_root_field_names_no_role_that_its_permission_lacks() -> None:
    for name, (_, found) in FIELDS.items():
        permission, description = PERMITTED[name], found.description or ""
        if permission is None:
            continue
        for phrase, roles in ROLES_IN_DESCRIPTIONS.items():
            if phrase in description:
                assert roles <= permission.roles, (name, phrase)
        is_for_compliance = "Only compliance officers may call it" in description
        assert is_for_compliance == (permission.roles == {"compliance"}), name


def _good(kind: Any) -> str:
    """Return a literal of the given GraphQL type that graphql-core accepts."""
    if is_non_null_type(kind):
        return _good(kind.of_type)
    if is_list_type(kind):
        return "[]"
    named = get_named_type(kind)
    if isinstance(named, GraphQLEnumType):
        return str(next(iter(named.values)))
    if isinstance(named, GraphQLInputObjectType):
        return _literal(_good_fields(named))
    return {
        "Int": "1",
        "BigInt": "1",
        "Boolean": "true",
        "Date": '"2026-11-21"',
        "DateTime": '"2026-11-21T10:00:00Z"',
    }.get(named.name, f'"{uuid4()}"')


def _good_fields(kind: GraphQLInputObjectType) -> dict[str, str]:
    """Return literals of the fields that an input needs, by name. An input `@oneOf` needs one of its fields."""
    needed = [name for name, found in kind.fields.items() if is_required_input_field(found)]
    names = list(kind.fields)[:1] if kind.extensions["strawberry-definition"].is_one_of else needed
    return {name: _good(kind.fields[name].type) for name in names}


def _literal(given: dict[str, str]) -> str:
    return f"{{{', '.join(f'{name}: {literal}' for name, literal in given.items())}}}"


def _bad_literals(kind: Any) -> list[str]:
    """Return literals of the given GraphQL type that graphql-core or a service refuses."""
    named = get_named_type(kind)
    if isinstance(named, GraphQLEnumType):
        return ["NO_SUCH_VALUE", '"text"', "[[1]]"]
    if isinstance(named, GraphQLInputObjectType):
        good = {} if named.is_one_of else _good_fields(named)
        return ["{noSuchField: 1}", "7", "null"] + [
            _literal(good | {name: bad})
            for name, found in named.fields.items()
            for bad in (_bad_literals(found.type)[:1] if is_leaf_type(get_named_type(found.type)) else ())
        ]
    return {
        "Int": ["99999999999", '"1"', "1.5", "-1"],
        "BigInt": ['"x"', "{}"],
        "Boolean": ['"yes"', "2"],
        "Date": ['"yesterday"', "{}"],
        "DateTime": ['"yesterday"', "{}"],
        "ID": ['""', f'"{LONG}"', "{}", "1.5"],
    }.get(named.name, ["7", "{}", f'"{LONG}"', '"\\u0000"', "[]"])


def _bad_values(kind: Any) -> list[Any]:
    """Return values of the given GraphQL type that graphql-core or a service refuses if they are sent as variables."""
    named = get_named_type(kind)
    if isinstance(named, GraphQLEnumType):
        return ["NO_SUCH_VALUE", 7, []]
    if isinstance(named, GraphQLInputObjectType):
        return [{}, [], {"noSuchField": 1}, "text"]
    values: dict[str, list[Any]] = {
        "Int": [2**40, "1", 1.5, -1, {}],
        "BigInt": ["x", {}, []],
        "Boolean": ["yes", 2],
        "Date": ["yesterday", 7],
        "DateTime": ["yesterday", 7],
        "ID": ["", LONG, {}, [], 1.5],
    }
    return values.get(named.name, [7, {}, LONG, "\0", []])


def _document(kind: str, name: str, arguments: dict[str, str], variables: str = "") -> str:
    given = ", ".join(f"{key}: {value}" for key, value in arguments.items())
    below = "" if is_leaf_type(get_named_type(FIELDS[name][1].type)) else " { __typename }"
    return f"{kind} {variables} {{ {name}{f'({given})' if given else ''}{below} }}"


def good_document(name: str, selection: str) -> str:
    """Return an operation of one root field with input that graphql-core accepts."""
    kind, found = FIELDS[name]
    good = {key: _good(one.type) for key, one in found.args.items() if is_required_argument(one)}
    return _document(kind, name, good).replace("__typename", selection)


def _bad_requests(name: str) -> Iterator[Request]:
    kind, found = FIELDS[name]
    arguments: dict[str, GraphQLArgument] = found.args
    good = {key: _good(one.type) for key, one in arguments.items() if is_required_argument(one)}
    yield Request(_document(kind, name, good | {"noSuchArgument": "1"}))
    if not is_leaf_type(get_named_type(found.type)):
        yield Request(_document(kind, name, good).replace("__typename", "noSuchField"))
    if good:
        yield Request(_document(kind, name, {}))
    for key, one in arguments.items():
        for literal in _bad_literals(one.type):
            yield Request(_document(kind, name, good | {key: literal}))
        document = _document(kind, name, good | {key: "$given"}, f"($given: {one.type})")
        for value in _bad_values(one.type):
            yield Request(document, {"given": value})
        yield Request(document)
        if is_non_null_type(one.type):
            yield Request(document, {"given": None})
            optional = _document(kind, name, good | {key: "$given"}, f"($given: {one.type.of_type} = null)")
            yield Request(optional)


def _code(answer: Answer) -> str:
    return "OK" if "errors" not in answer.body else str(answer.error.code)


async def _people(harness: ApiHarness) -> dict[str, Person]:
    case = await harness.case()
    return {
        "clinician": case.doctor,
        "compliance": await harness.staff("compliance"),
        "patient": case.patient,
    }


@pytest.mark.parametrize(
    "name",
    sorted(set(FIELDS) - OPEN - {name for name, (kind, _) in FIELDS.items() if kind == "subscription"}),
)
async def test_bad_input_is_refused_as_forbidden_and_audited_for_every_wrong_role(
    harness: ApiHarness, name: str
) -> None:
    permission = PERMITTED[name]
    assert permission is not None
    people = await _people(harness)
    wrong = [role for role in ROLES if role not in permission.roles]
    for request in _bad_requests(name):
        for role in wrong:
            person = people[role]
            answer = await person.send(request.document, **request.variables)
            assert _code(answer) == "FORBIDDEN", (role, request, answer.body)
            (row,) = await harness.audit(answer.request_id)
            assert (row["action"], row["outcome"], row["reason"]) == (
                permission.action,
                "DENIED",
                "wrong_role",
            )
            assert row["actor_id"] == person.user_id
            assert answer.body["errors"][0]["path"] == [name]
        answer = await harness.stranger().send(request.document, **request.variables)
        assert _code(answer) == "UNAUTHENTICATED", (request, answer.body)


@pytest.mark.parametrize(
    "name", ["recordings", "placeLegalHold", "denyAccessRequest", "requestAccess", "transcript"]
)
async def test_bad_input_of_an_ended_session_is_refused_and_audited(harness: ApiHarness, name: str) -> None:
    permission = PERMITTED[name]
    assert permission is not None
    role = min(permission.roles)
    person = (await _people(harness))[role]
    await harness.end_session(person)
    for request in _bad_requests(name):
        answer = await person.send(request.document, **request.variables)
        assert answer.error.code == "UNAUTHENTICATED", (request, answer.body)
        (row,) = await harness.audit(answer.request_id)
        assert (row["action"], row["outcome"], row["reason"]) == (permission.action, "DENIED", "session_over")


async def test_bad_input_of_a_permitted_role_is_reported(harness: ApiHarness) -> None:
    people = await _people(harness)
    for name, permission in PERMITTED.items():
        if permission is None or FIELDS[name][0] == "subscription":
            continue
        for request in list(_bad_requests(name))[:3]:
            answer = await people[min(permission.roles)].send(request.document, **request.variables)
            assert "errors" in answer.body, (name, request)
            codes = {error["extensions"]["code"] for error in answer.body["errors"]}
            assert codes.isdisjoint({"FORBIDDEN", "UNAUTHENTICATED"}), (name, request, answer.body)


async def test_ten_fields_with_bad_input_write_ten_audit_rows(harness: ApiHarness) -> None:
    patient = (await _people(harness))["patient"]
    fields = " ".join(f'p{number}: recording(by: {{id: "nonsense"}}) {{ id }}' for number in range(10))
    answer = await patient.send(
        f"query ($first: Int!) {{ {fields} recordings(first: $first) {{ __typename }} }}"
    )
    assert {error["extensions"]["code"] for error in answer.body["errors"]} == {"FORBIDDEN"}
    bad_variable = await patient.send(f"query ($unused: Int!) {{ {fields} }}")
    assert {error["extensions"]["code"] for error in bad_variable.body["errors"]} == {"FORBIDDEN"}
    rows = await harness.audit(bad_variable.request_id)
    assert [(row["action"], row["outcome"]) for row in rows] == [("recording.read", "DENIED")] * 10


async def test_fields_behind_fragments_and_aliases_are_authorized_before_their_input(
    harness: ApiHarness,
) -> None:
    patient = (await _people(harness))["patient"]
    document = """
      query { ...A ... on Query { held: legalHolds(first: "x") { __typename } } }
      fragment A on Query { ...B }
      fragment B on Query { seen: auditEvents(first: 1) { noSuchField } ...A }
    """
    answer = await patient.send(document)
    assert [error["extensions"]["code"] for error in answer.body["errors"]] == ["FORBIDDEN"] * 2
    assert sorted(error["path"][0] for error in answer.body["errors"]) == ["held", "seen"]
    assert sorted(row["action"] for row in await harness.audit(answer.request_id)) == [
        "audit.list",
        "hold.list",
    ]


async def test_public_field_reports_bad_input_without_a_token(harness: ApiHarness) -> None:
    answer = await harness.stranger().send('{ consentText(language: "XX") { markdown } }')
    assert answer.error.code == "INVALID_INPUT"


@pytest.mark.parametrize("role", ["compliance", "patient"])
async def test_subscription_with_bad_input_is_refused_and_audited_for_every_wrong_role(
    harness: ApiHarness, role: str
) -> None:
    person = (await _people(harness))[role]
    permission = PERMITTED["recordingChanged"]
    assert permission is not None
    for request in _bad_requests("recordingChanged"):
        if LONG in str(request):  # The server closes the connection, because the message is too long
            continue
        async with open_socket(harness.api_url, origin=None) as client:
            await client.send_init(person)
            assert await client.receive() == {"type": "connection_ack"}
            await client.subscribe(request.document, "1", **request.variables)
            message = await client.receive()
            assert message["type"] == "error", request
            assert message["payload"][0]["extensions"]["code"] == "FORBIDDEN", (request, message)
            (row,) = await harness.audit(client.request_id)
            assert (row["action"], row["outcome"]) == (permission.action, "DENIED")
