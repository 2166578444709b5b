"""Tests of the answers to malformed operations, over HTTP and over a WebSocket: each kind of mistake has one code, a
message that a client can use, and no text of a parser.
"""

import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLEnumType, GraphQLObjectType, build_schema

from app.http.websocket_sessions import SocketLimits
from app.main import create_app
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person
from tests.api.socket_client import ORIGIN, Socket, open_socket, serve_app

pytestmark = pytest.mark.anyio

SCHEMA = build_schema(
    (Path(__file__).parents[2] / "graphql_schema/schema.graphql").read_text(encoding="utf-8")
)
INTERNALS = re.compile(
    r"Syntax Error|Traceback|Undefined|UNSET|\bNone\b|NoneType|0x[0-9a-f]|[Ss]trawberry|<class|encountered error"
    r"|Parsing aborted|cannot represent|Exception|psycopg|asyncio"
)
"""Texts of Python, of graphql-core's parsers and of libraries."""
NO_ID = "00000000-0000-0000-0000-000000000001"
VIEWER = "{ viewer { role } }"
_REGISTER = (
    'mutation{} {{ registerConsultation(input: {{externalId: "v", patientExternalId: "m", kind: "k", {}}}) '
    "{{ consultation {{ id }} }} }}"
)
_FIELDS = {
    "BigInt": (
        f'mutation{{}} {{{{ importRecording(input: {{{{consultationId: "{NO_ID}", sizeBytes: {{}}}}}}) '
        "{{ recordingImport {{ id }} }} }}"
    ),
    "DateTime": _REGISTER.replace(", {}}}", ", scheduledAt: {}}}"),
    "Date": _REGISTER.replace(", {}}}", ', scheduledAt: "2026-11-21T15:00:00Z", patientBirthDate: {}}}'),
    "ID": "query{} {{ transcript(recordingId: {}) {{ id }} }}",
    "Int": "query{} {{ recordings(first: {}) {{ edges {{ cursor }} }} }}",
    "String": "query{} {{ consultationText: consultation(by: {{externalId: {}}}) {{ id }} }}",
    "Boolean": "query{} {{ deletions(filter: {{isFailing: {}}}) {{ edges {{ cursor }} }} }}",
    "[RecordingStatus!]": "query{} {{ recordings(filter: {{statuses: {}}}) {{ edges {{ cursor }} }} }}",
    "ConsultationBy": "query{} {{ consultation(by: {}) {{ id }} }}",
    "RecordingFilter": "query{} {{ recordings(filter: {}) {{ edges {{ cursor }} }} }}",
}
"""An operation with one value of each type, and a place for the declaration of a variable."""
_NON_NULL = {"BigInt", "DateTime", "ID", "Int", "ConsultationBy"}
_MOMENTS = (
    "2026-02-30T00:00:00Z",
    "2026-11-21T15:00:00",
    "2026-12-31T23:59:60Z",
    "10000-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "2026-11-21T24:00:00Z",
    "2026-11-21T15:00:00+25:00",
    "2026-11-21 15:00:00Z",
    "2026-11-21",
    "",
)
VALUES: list[tuple[str, str, str]] = [
    *(("BigInt", one, "") for one in ("1e400", "9007199254740992", "1.9", "true", '" 12 "', '"12"', "null")),
    *(("BigInt", one, "") for one in ("9" * 5000, "-9007199254740992", "[1]", '{"a": 1}')),
    *(("DateTime", json.dumps(one), "") for one in _MOMENTS),
    *(("DateTime", one, "") for one in ("1700000000", "true", "null", "[1]")),
    *(("Date", f'"{one}"', "") for one in ("2026-02-30", "2026-2-3", "10000-01-01", "0000-01-01")),
    *(("Date", one, "") for one in ("20260101", '"2026-01-01T00:00:00Z"', "true")),
    *(("ID", one, "") for one in ("1.5", "true", "null", "{}", "[]", '""', '"x"', "1", "1e400")),
    *(("ID", f'"{one}"', "") for one in (f"{{{NO_ID}}}", f"urn:uuid:{NO_ID}", NO_ID.replace("-", ""))),
    *(("ID", f'"{one}"', "") for one in (f" {NO_ID}", "٣" * 36)),
    *(
        ("Int", one, "")
        for one in ("1.5", "true", '"1"', "99999999999", "null", "[1, 2]", "1e400", "-1", "0")
    ),
    *(("String", one, "") for one in ("1", "true", '["a", "b"]', '{"a": 1}')),
    *(("Boolean", one, "") for one in ("1", '"true"', "0")),
    *(("[RecordingStatus!]", one, "") for one in ("1", "true", "[null]", '{"a": 1}')),
    ("[RecordingStatus!]", "NOPE", '"NOPE"'),
    ("[RecordingStatus!]", "[READY, NOPE]", '["READY", "NOPE"]'),
    ("[RecordingStatus!]", "ready", '"ready"'),
    *(("ConsultationBy", one, "") for one in ("{}", "null", '"a"', "[]", '{"x": 1}', '{"id": null}')),
    *(("ConsultationBy", one, "") for one in ('{"id": "a", "externalId": "b"}', '{"id": 1.5}')),
    ("ConsultationBy", '{"id": "a", "externalId": null}', ""),
    ("RecordingFilter", '{"foo": 1}', ""),
    ("RecordingFilter", '{"patient": {}}', ""),
    ("RecordingFilter", '{"patient": {"id": "a", "externalId": "b"}}', ""),
    ("RecordingFilter", '{"createdDuring": {"from": "2026-11-21T15:00:00"}}', ""),
]
"""A type, a wrong value as a literal, and the same value in JSON if it is written differently there."""
DOCUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "empty selection set": ({"query": "{}"}, "GRAPHQL_PARSE_FAILED"),
    "blank": ({"query": "  "}, "GRAPHQL_PARSE_FAILED"),
    "comment": ({"query": "# a"}, "GRAPHQL_PARSE_FAILED"),
    "unclosed": ({"query": "{ viewer { role "}, "GRAPHQL_PARSE_FAILED"),
    "unclosed text": ({"query": '{ consultation(by: {id: "a}) { id } }'}, "GRAPHQL_PARSE_FAILED"),
    "surrogate": ({"query": r'{ consultation(by: {id: "\ud800"}) { id } }'}, "GRAPHQL_PARSE_FAILED"),
    "NUL": ({"query": "{ viewer { role } }\x00"}, "GRAPHQL_PARSE_FAILED"),
    "bad number": ({"query": "{ recordings(first: 01) { edges { cursor } } }"}, "GRAPHQL_PARSE_FAILED"),
    "tokens": ({"query": "{ " + "viewer { role } " * 300 + "}"}, "TOO_COMPLEX"),
    "list of tokens": (
        {"query": "{ recordings(filter: {statuses: [" + "READY " * 700 + "]}) { edges { cursor } } }"},
        "TOO_COMPLEX",
    ),
    "deep": ({"query": "{ " + "viewer { " * 50 + "role" + " }" * 50 + " }"}, "TOO_COMPLEX"),
    "deeper than the parser": ({"query": "{ a" * 250 + " }" * 250}, "TOO_COMPLEX"),
    "deep list": ({"query": "{ recordings(first: " + "[" * 250 + "]" * 250 + ") }"}, "TOO_COMPLEX"),
    "unknown field": ({"query": "{ viewer { nothing } }"}, "GRAPHQL_VALIDATION_FAILED"),
    "unknown root field": ({"query": "{ nothing }"}, "GRAPHQL_VALIDATION_FAILED"),
    "unknown argument": ({"query": "{ viewer(x: 1) { role } }"}, "GRAPHQL_VALIDATION_FAILED"),
    "no selection": ({"query": "{ viewer }"}, "GRAPHQL_VALIDATION_FAILED"),
    "selection of a scalar": ({"query": "{ viewer { role { x } } }"}, "GRAPHQL_VALIDATION_FAILED"),
    "loop of fragments": (
        {"query": "{ viewer { ...F } } fragment F on Viewer { ...G } fragment G on Viewer { ...F }"},
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "unknown fragment": ({"query": "{ viewer { ...F } }"}, "GRAPHQL_VALIDATION_FAILED"),
    "unused fragment": ({"query": VIEWER + " fragment F on Viewer { role }"}, "GRAPHQL_VALIDATION_FAILED"),
    "fragment of another type": (
        {"query": "{ viewer { ... on Recording { id } } }"},
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "unknown directive": ({"query": "{ viewer { role @foo } }"}, "GRAPHQL_VALIDATION_FAILED"),
    "misplaced directive": (
        {"query": "query @skip(if: true) { viewer { role } }"},
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "repeated directive": (
        {"query": "{ viewer { role @skip(if: false) @skip(if: false) } }"},
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "directive without its argument": ({"query": "{ viewer { role @skip } }"}, "INVALID_INPUT"),
    "directive with a wrong value": ({"query": '{ viewer { role @skip(if: "x") } }'}, "INVALID_INPUT"),
    "defer": ({"query": "{ viewer { ... @defer { role } } }"}, "GRAPHQL_VALIDATION_FAILED"),
    "unused variable": ({"query": "query ($v: Int) { viewer { role } }"}, "GRAPHQL_VALIDATION_FAILED"),
    "undefined variable": (
        {"query": "{ recordings(first: $v) { edges { cursor } } }"},
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "variable of another type": (
        {"query": "query ($v: String) { recordings(first: $v) { edges { cursor } } }"},
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "missing variable": (
        {"query": "query ($v: ID!) { transcript(recordingId: $v) { id } }"},
        "INVALID_INPUT",
    ),
    "null variable with a default": (
        {"query": "query ($v: Int) { recordings(first: $v) { edges { cursor } } }", "variables": {"v": None}},
        "INVALID_INPUT",
    ),
    "null variable in @oneOf": (
        {"query": "query ($v: ID) { consultation(by: {id: $v}) { id } }", "variables": {"v": None}},
        "INVALID_INPUT",
    ),
    "missing variable in @oneOf": (
        {"query": "query ($v: ID) { consultation(by: {id: $v}) { id } }"},
        "INVALID_INPUT",
    ),
    "two variables in @oneOf": (
        {
            "query": "query ($v: ID!, $w: String!) { consultation(by: {id: $v, externalId: $w}) { id } }",
            "variables": {"v": "a", "w": "b"},
        },
        "INVALID_INPUT",
    ),
    "nullable variable in a nested @oneOf": (
        {"query": "query ($v: ID) { recordings(filter: {patient: {id: $v}}) { edges { cursor } } }"},
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "wrong default": (
        {"query": 'query ($v: Int = "x") { recordings(first: $v) { edges { cursor } } }'},
        "INVALID_INPUT",
    ),
    "missing argument": ({"query": "{ transcript { id } }"}, "INVALID_INPUT"),
    "missing fields": (
        {"query": "mutation { inviteGuest(input: {}) { participant { id } } }"},
        "INVALID_INPUT",
    ),
    "1,000 wrong values": (
        {
            "query": "query ($v: [RecordingStatus!]) { recordings(filter: {statuses: $v}) { edges { cursor } } }",
            "variables": {"v": ["X"] * 1000},
        },
        "INVALID_INPUT",
    ),
    "NUL in a text": (
        {"query": r'{ consultation(by: {externalId: "a\u0000b"}) { id } }'},
        "INVALID_INPUT",
    ),
    "two operations": ({"query": "query A { viewer { role } } query B { viewer { role } }"}, "TOO_COMPLEX"),
    "two operations and a name": (
        {"query": "query A { viewer { role } } query B { viewer { role } }", "operationName": "A"},
        "TOO_COMPLEX",
    ),
    "another name": ({"query": "query A { viewer { role } }", "operationName": "B"}, "INVALID_INPUT"),
    "empty name": ({"query": "query A { viewer { role } }", "operationName": ""}, "INVALID_INPUT"),
    "no operation": ({"query": "fragment F on Viewer { role }"}, "INVALID_INPUT"),
    "type definition": ({"query": "type Foo { a: Int }"}, "INVALID_INPUT"),
    "subscription by POST": ({"query": "subscription { recordingsChanged { id } }"}, "INVALID_INPUT"),
    "conflict": (
        {
            "query": "{ a: recordings(first: 1) { edges { cursor } } a: recordings(first: 2) { edges { cursor } } }"
        },
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "only a hash": ({"extensions": {"persistedQuery": {"version": 1}}}, "PERSISTED_QUERY_NOT_SUPPORTED"),
    "empty query": ({"query": ""}, "BAD_REQUEST"),
    "number as query": ({"query": 1}, "BAD_REQUEST"),
    "list of variables": ({"query": VIEWER, "variables": []}, "BAD_REQUEST"),
    "text as extensions": ({"query": VIEWER, "extensions": "x"}, "BAD_REQUEST"),
    "number as name": ({"query": VIEWER, "operationName": 1}, "BAD_REQUEST"),
}
BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'[{"query":"{ viewer { role } }"}]',
    b'{"query":"{ viewer { role } }","variables":{"v":NaN}}',
    b'{"query":"{ viewer { role } }","variables":{"v":"\\ud800"}}',
    b'\xef\xbb\xbf{"query":"{ viewer { role } }"}',
    b"[" * 5000,
    b"\xff",
]


def _fields_of(name: str) -> frozenset[str]:
    kind = SCHEMA.type_map[name]
    assert isinstance(kind, GraphQLObjectType)
    return frozenset(kind.fields)


def _values_of(name: str) -> frozenset[str]:
    kind = SCHEMA.type_map[name]
    assert isinstance(kind, GraphQLEnumType)
    return frozenset(kind.values)


def _require_useful(errors: list[Any]) -> None:
    """Require that each error has the printed shape, and a message without a text of a parser or of Python."""
    assert errors
    for error in errors:
        extensions = error["extensions"]
        assert extensions.keys() == _fields_of("ErrorExtensions")
        assert extensions["code"] in _values_of("ErrorCode") - {"INTERNAL"}, error
        assert extensions["reason"] in _values_of("ErrorReason") | {None}
        assert (extensions["details"] or {}).keys() <= _fields_of("ErrorDetails")
        assert extensions["requestId"]
        assert INTERNALS.search(error["message"]) is None, error["message"]
        has_sentences = extensions["code"] not in (
            "GRAPHQL_VALIDATION_FAILED",
            "PERSISTED_QUERY_NOT_SUPPORTED",
        )
        assert not has_sentences or error["message"].endswith((".", "`.")), error["message"]


@pytest.fixture(scope="module")
async def sender(harness: ApiHarness) -> Person:
    """Return a doctor who sends the malformed operations."""
    return await harness.clinician()


@pytest.fixture(scope="module")
async def api(harness: ApiHarness) -> AsyncIterator[str]:
    """Yield the URL of an API that checks a session only before it sends an event."""
    settings = harness.settings.model_copy(update={"allowed_origins": (ORIGIN,)})
    app = create_app(settings, socket_limits=SocketLimits(recheck_seconds=3600))
    async with serve_app(app) as url:
        yield url


async def _post(person: Person, body: Mapping[str, Any] | bytes | str) -> list[Any]:
    headers = {"Authorization": f"Bearer {person.token}", "Content-Type": "application/json"}
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    answer = await person.http.post("/graphql", content=content, headers=headers)
    assert answer.status_code < 500
    errors: list[Any] = answer.json().get("errors", [])
    return errors


def _literal(value: str) -> str:
    """Return a JSON value as a GraphQL literal: the names of an object have no quotes."""
    return re.sub(r'"(\w+)":', r"\1:", value)


@pytest.mark.parametrize(
    ("kind", "literal", "in_json"), VALUES, ids=[f"{one} {value[:40]}" for one, value, _ in VALUES]
)
async def test_wrong_value_has_one_code_as_a_literal_and_as_a_variable(
    sender: Person, kind: str, literal: str, in_json: str
) -> None:
    field = _FIELDS[kind]
    declared = f" ($v: {kind}{'!' if kind in _NON_NULL else ''})"
    if kind == "String":
        declared = " ($v: String!)"
    told = []
    for query, variables in (
        (field.format("", _literal(literal)), "{}"),
        (field.format(declared, "$v"), f'{{"v": {in_json or literal}}}'),
    ):
        errors = await _post(sender, f'{{"query": {json.dumps(query)}, "variables": {variables}}}')
        _require_useful(errors)
        assert {one["extensions"]["code"] for one in errors} == {"INVALID_INPUT"}
        told.append([one["extensions"] for one in errors])
    first, second = (
        [(one["details"] or {}).get("expectedType", "").rstrip("!") for one in errors] for errors in told
    )
    assert first == second
    assert not any("another value" in json.dumps(errors) for errors in told)


@pytest.mark.parametrize(("body", "code"), DOCUMENTS.values(), ids=DOCUMENTS)
async def test_malformed_operation_has_the_code_of_its_kind(
    sender: Person, body: dict[str, Any], code: str
) -> None:
    errors = await _post(sender, body)
    _require_useful(errors)
    assert {one["extensions"]["code"] for one in errors} == {code}


@pytest.mark.parametrize("body", BODIES)
async def test_malformed_body_has_one_code(sender: Person, body: bytes) -> None:
    errors = await _post(sender, body)
    _require_useful(errors)
    assert [one["extensions"]["code"] for one in errors] == ["BAD_REQUEST"]


@pytest.mark.parametrize("query", ["", "?query={viewer{role}}", "?extensions=x", "?query=mutation{x}"])
async def test_operation_by_get_says_how_to_send_it(sender: Person, query: str) -> None:
    answer = await sender.http.get(f"/graphql{query}")
    (error,) = answer.json()["errors"]
    _require_useful([error])
    assert (answer.status_code, error["extensions"]["code"]) == (405, "METHOD_NOT_ALLOWED")


ONE_OF = [
    ("{ consultation(by: {}) { id } }", {}, "by", "ConsultationBy"),
    ("{ consultation(by: {id: null}) { id } }", {}, "by", "ConsultationBy"),
    ('{ consultation(by: {id: "a", externalId: "b"}) { id } }', {}, "by", "ConsultationBy"),
    (
        "query ($v: ConsultationBy!) { consultation(by: $v) { id } }",
        {"v": {"id": None}},
        "$v",
        "ConsultationBy",
    ),
    ("query ($v: ID) { consultation(by: {id: $v}) { id } }", {"v": None}, "by", "ConsultationBy"),
    ("query ($v: ID) { consultation(by: {id: $v}) { id } }", {}, "by", "ConsultationBy"),
    (
        "query ($f: RecordingFilter) { recordings(filter: $f) { edges { cursor } } }",
        {"f": {"patient": {"id": None}}},
        "$f.patient",
        "PatientBy",
    ),
]


@pytest.mark.parametrize(("query", "variables", "place", "expected"), ONE_OF)
async def test_input_without_exactly_one_field_is_told_at_the_input(
    sender: Person, query: str, variables: dict[str, Any], place: str, expected: str
) -> None:
    (error,) = await _post(sender, {"query": query, "variables": variables})
    details = error["extensions"]["details"]
    assert error["extensions"]["reason"] == "NOT_ONE_FIELD"
    assert (details["inputPath"], details["expectedType"]) == (place, expected)


def _same(extensions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extensions without the request id, which belongs to one request or one WebSocket."""
    assert extensions["requestId"]
    return {name: value for name, value in extensions.items() if name != "requestId"}


ALIKE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "validation error": (
        "{ recording(by: {id: 1}) { nothing } }",
        "subscription { recordingsChanged { nothing } }",
        {},
    ),
    "literal": (
        "{ deletionCertificates(recordingId: 1.5) { edges { cursor } } }",
        "subscription { recordingChanged(consultationId: 1.5) { id } }",
        {},
    ),
    "variable": (
        "query ($v: ID!) { transcript(recordingId: $v) { id } }",
        "subscription ($v: ID!) { consultationChanged(consultationId: $v) { id } }",
        {"v": 1.5},
    ),
    "bad id": (
        "query ($v: ID!) { transcript(recordingId: $v) { id } }",
        "subscription ($v: ID!) { consultationChanged(consultationId: $v) { id } }",
        {"v": "x"},
    ),
    "missing argument": ("{ transcript { id } }", "subscription { consultationChanged { id } }", {}),
    "syntax error": ("{ viewer {", "subscription { recordingsChanged {", {}),
    "depth": (
        "{ recordings { edges " + "{ node" * 20 + " { id }" + " }" * 21 + " }",
        "subscription { recordingsChanged { consultation " + "{ node" * 20 + " { id }" + " }" * 21 + " }",
        {},
    ),
    "not found": (
        "query ($v: ID!) { consultation(by: {id: $v}) { id } }",
        "subscription ($v: ID!) { consultationChanged(consultationId: $v) { id } }",
        {"v": NO_ID},
    ),
}


async def _told_over_a_socket(client: Socket, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    await client.subscribe(query, **variables)
    error = await client.error()
    _require_useful([error])
    return dict(error["extensions"])


@pytest.mark.parametrize(("query", "subscription", "variables"), ALIKE.values(), ids=ALIKE)
async def test_error_of_an_operation_is_alike_over_http_and_over_a_websocket(
    sender: Person, api: str, query: str, subscription: str, variables: dict[str, Any]
) -> None:
    (posted,) = await _post(sender, {"query": query, "variables": variables})
    async with open_socket(api) as client:
        await client.init(sender)
        told = await _told_over_a_socket(client, subscription, variables)
    expected = json.loads(json.dumps(_same(posted["extensions"])).replace("recordingId", "consultationId"))
    assert _same(told) == expected or _same(told) == expected | {
        "details": {**expected["details"], "count": told["details"]["count"]}
    }


async def test_refusals_are_alike_over_http_and_over_a_websocket(
    harness: ApiHarness, case: Case, officer: Person, api: str
) -> None:
    forbidden = await _post(officer, {"query": "{ recordings { edges { cursor } } }"})
    async with open_socket(api) as client:
        await client.init(officer)
        told = await _told_over_a_socket(client, documents.RECORDINGS_CHANGED, {})
    assert (_same(told), told["reason"]) == (_same(forbidden[0]["extensions"]), "WRONG_ROLE")
    await harness.spend(case.doctor, "pages", 1200)
    limited = await _post(case.doctor, {"query": "{ recordings { edges { cursor } } }"})
    async with open_socket(api) as client:
        await client.init(case.doctor)
        told = await _told_over_a_socket(client, documents.RECORDINGS_CHANGED, {})
    pauses = [one["details"].pop("retryAfterSeconds") for one in (told, limited[0]["extensions"])]
    assert (_same(told), told["reason"]) == (_same(limited[0]["extensions"]), "QUOTA_PAGES")
    assert abs(pauses[0] - pauses[1]) <= 5


async def test_session_that_ends_in_the_middle_is_told_as_over_http(
    harness: ApiHarness, case: Case, api: str
) -> None:
    await case.consent()
    recording = await harness.recording(case, "REQUESTED")
    async with open_socket(api) as client:
        await client.init(case.doctor)
        await client.subscribe(documents.RECORDING_CHANGED, consultationId=case.id)
        await client.event()
        await harness.end_session(case.doctor)
        await harness.rows("update resguardo.recordings set status = 'STARTING' where id = %s", recording)
        error = await client.error()
        closed = await client.wait_for_close()
    _require_useful([error])
    (posted,) = await _post(case.doctor, {"query": "{ recordings { edges { cursor } } }"})
    assert _same(error["extensions"]) == _same(posted["extensions"])
    assert closed == (4401, posted["extensions"]["reason"])


async def test_refused_token_closes_with_the_reason_that_http_answers(
    case: Case, harness: ApiHarness, api: str
) -> None:
    expired = harness.token(case.doctor.user_id, case.doctor.session_id, exp=int(time.time()) - 60)
    for person in (
        harness.stranger(),
        replace(case.doctor, token="none"),
        replace(case.doctor, token=expired),
        await harness.user(),
        await harness.with_session(case.doctor, aal="aal1"),
    ):
        errors = await person.http.post(
            "/graphql",
            json={"query": "{ recordings { edges { cursor } } }"},
            headers={} if person.token is None else {"Authorization": f"Bearer {person.token}"},
        )
        async with open_socket(api) as client:
            await client.send_init(person)
            _, reason = await client.wait_for_close()
        assert reason == errors.json()["errors"][0]["extensions"]["reason"]


def _malformed_subscriptions() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, (body, code) in DOCUMENTS.items():
        query = body.get("query")
        if code != "BAD_REQUEST" and isinstance(query, str) and query.lstrip().startswith("{"):
            yield name, body | {"query": f"subscription {query}"}


SUBSCRIPTIONS = dict(_malformed_subscriptions())


@pytest.mark.parametrize("payload", SUBSCRIPTIONS.values(), ids=SUBSCRIPTIONS)
async def test_malformed_subscription_gets_a_useful_error(
    sender: Person, api: str, payload: dict[str, Any]
) -> None:
    async with open_socket(api) as client:
        await client.init(sender)
        await client.send_message(id="1", type="subscribe", payload=payload)
        message = await client.receive()
        if message["type"] == "error":
            _require_useful(message["payload"])
            await client.require_no_message()
