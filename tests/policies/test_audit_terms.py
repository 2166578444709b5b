"""Tests that each word in an audit row must be a registered term, so that somebody who has stolen the API's login
cannot write free text into the audit log.
"""

import ast
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from graphql import GraphQLObjectType
from psycopg.types.json import Jsonb

from app.bucket import drifts, model
from app.deletions.model import DeletionReason
from app.emergency_access.model import EmergencyReason
from app.integrations.livekit import refusals as livekit_refusals
from app.integrations.livekit import snapshots as livekit_snapshots
from app.integrations.storage.sts_credentials import ROLE_REFUSALS
from app.recordings.transitions import CONSENT_REASONS, TRANSITIONS
from app.shares.model import ShareEndReason
from app.texts.reasons import load_reasons
from graphql_schema.schema import make_schema
from tests.databases import MIGRATIONS, Database
from tests.policies.acting import acting, refused, superuser
from tests.policies.actors import ANA, actor

ROOT = Path(__file__).parents[2]
SERVICES = {"as_service", "as_service_once"}
OF_NO_AUDIT_ROW = {*SERVICES, "__init__", "require", "remedy", "Problem"}
"""Functions whose parameter `reason` is a basis or is only printed on a terminal."""
TEXT = "Mrs Jones has cancer"
SLUG = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
REFUSAL: LiteralString = "select private.record_refusal(%s, 'DENIED', %s, %s, %s, null)"


def _newest(database: Database) -> dict[str, Any]:
    with superuser(database) as reader:
        row = reader.execute("select to_jsonb(e) from audit.events as e order by e.recorded_at desc limit 1")
        found = row.fetchone()
    assert found is not None
    return dict(found[0])


@pytest.mark.writes_unregistered_terms
@pytest.mark.parametrize("text", [TEXT, "mrs_jones_has_cancer", "not_found:mrs_jones", "policy_1 cancer", ""])
def test_refusal_with_an_unknown_reason_is_kept_without_it(practice: Database, text: str) -> None:
    with psycopg.connect(practice.api_url) as api:
        api.execute(REFUSAL, ["recording.read", text, "recording", ANA.id_of("live")])
    row = _newest(practice)
    assert (row["action"], row["outcome"]) == ("recording.read", "DENIED")
    assert row["reason"] in ("unregistered", "not_found:unregistered")
    assert "jones" not in str(row).lower()


def test_refusal_with_a_known_reason_keeps_it(practice: Database) -> None:
    with psycopg.connect(practice.api_url) as api:
        api.execute(REFUSAL, ["recording.read", "wrong_role", "recording", ANA.id_of("live")])
    assert _newest(practice)["reason"] == "wrong_role"


@pytest.mark.writes_unregistered_terms
def test_refusal_about_an_unknown_kind_of_entity_is_kept_without_it(practice: Database) -> None:
    with psycopg.connect(practice.api_url) as api:
        api.execute(REFUSAL, ["recording.read", "wrong_role", TEXT, ANA.id_of("live")])
    row = _newest(practice)
    assert (row["reason"], [one["type"] for one in row["entities"]]) == ("wrong_role", ["unregistered"])


def test_unknown_basis_and_level_do_not_reach_the_log(practice: Database) -> None:
    claims = {**actor("clinician who owns").claims, "aal": TEXT}
    with psycopg.connect(practice.api_url) as api:
        api.execute("select set_config('resguardo.service_reason', %s, true)", [TEXT])
        api.execute("select private.record_rejections('request.reject', '192.0.2.1', 1)")
    assert _newest(practice)["basis"] == "unregistered"
    with psycopg.connect(practice.api_url) as api:
        api.execute("select private.describe_request(%s, null, null, null, 1000)", [Jsonb(claims)])
        api.execute(REFUSAL, ["recording.read", "wrong_role", "recording", None])
    row = _newest(practice)
    assert row["aal"] == "unregistered"
    assert TEXT not in str(row)


def test_unknown_purpose_is_refused(practice: Database) -> None:
    with psycopg.connect(practice.api_url) as api, refused("23514"):
        api.execute("select set_config('resguardo.purpose', %s, true)", [TEXT])
        api.execute(REFUSAL, ["recording.read", "wrong_role", "recording", None])


def test_unknown_action_is_refused(practice: Database) -> None:
    with psycopg.connect(practice.api_url) as api, refused("23502"):
        api.execute(REFUSAL, [TEXT, "wrong_role", "recording", None])


@pytest.mark.writes_unregistered_terms
def test_access_with_unknown_fields_is_kept_without_them(practice: Database) -> None:
    with acting(practice, "clinician who owns") as doctor:
        doctor.execute(
            "select private.record_access('recording.read', %s, null, '{}', '{}', '{}', %s, null)",
            [TEXT, ["status", TEXT, "sizeBytes"]],
        )
    row = _newest(practice)
    assert row["entities"] == [{"type": "unregistered", "ids": []}]
    assert row["fields"] == ["status", "unregistered", "sizeBytes"]


def test_unknown_meter_of_a_quota_is_refused(practice: Database) -> None:
    with pytest.raises(psycopg.errors.CheckViolation), acting(practice, "clinician who owns") as doctor:
        doctor.execute(
            "select private.record_access('recording.read', 'recording', null, '{}', '{}', '{}', '{}', %s)",
            [TEXT],
        )


@pytest.mark.parametrize("at", [0, 1, 2])
def test_text_in_place_of_an_id_of_livekit_is_refused(practice: Database, at: int) -> None:
    values = ["EV_1", "room_started", "EG_1"]
    values[at] = TEXT
    with psycopg.connect(practice.api_url) as api, refused("23514"):
        api.execute("select private.receive_livekit_event(%s, %s, %s, null, now())", values)


def test_event_of_a_room_with_text_for_a_name_is_kept_without_it(practice: Database) -> None:
    with psycopg.connect(practice.api_url) as api:
        for event, room in (("EV_1", TEXT), ("EV_2", ANA.room_of("live"))):
            api.execute(
                "select private.receive_livekit_event(%s, 'egress_started', 'EG_1', %s, now())", [event, room]
            )
    with superuser(practice) as reader:
        kept = dict(reader.execute("select event_id, room_name from private.livekit_events").fetchall())
        queued = str(reader.execute("select lock, args from jobs.procrastinate_jobs").fetchall())
    assert (kept["EV_1"], kept["EV_2"]) == (None, ANA.room_of("live"))
    assert TEXT not in queued


def _registered(database: Database, kind: str) -> set[str]:
    with superuser(database) as reader:
        rows = reader.execute("select t.term from private.audit_terms as t where t.kind = %s", [kind])
        return {term for (term,) in rows}


def _migrations() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted(MIGRATIONS.glob("*.sql")))


def _trees() -> Iterator[ast.Module]:
    for folder in ("app", "graphql_schema"):
        for path in (ROOT / folder).rglob("*.py"):
            yield ast.parse(path.read_text(encoding="utf-8"))


ERRORS = {
    "InvalidInput", "Unauthenticated", "Forbidden", "NotFound", "Conflict", "RateLimited", "UpstreamFailed",
    "Timeout", "LiveKitRefused", "MediaRefused",
}  # fmt: skip


def _raised_in_python() -> Iterator[str]:
    for node in _nodes():
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
            yield from (str(one.value) for one in node.args[:1] if isinstance(one, ast.Constant))


def _nodes() -> list[ast.AST]:
    return [node for tree in _trees() for node in ast.walk(tree)]


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _places(nodes: Iterable[ast.AST], parameter: str) -> dict[str, set[int]]:
    """Return, for each name of a function, the positions at which its definitions have this parameter."""
    places: dict[str, set[int]] = {}
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [one.arg for one in node.args.args if one.arg != "self"]
            if parameter in names:
                places.setdefault(node.name, set()).add(names.index(parameter))
    return places


def _given(parameter: str, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Yield every literal that a call in the Python code passes for this parameter. `wanted` selects the functions
    by name.
    """
    nodes = _nodes()
    places = _places(nodes, parameter)
    for call in (node for node in nodes if isinstance(node, ast.Call) and wanted(_name(node))):
        given = [call.args[place] for place in places.get(_name(call), ()) if place < len(call.args)]
        given += [word.value for word in call.keywords if word.arg == parameter]
        for constant in (
            part for one in given if not isinstance(one, (ast.JoinedStr, ast.Dict)) for part in ast.walk(one)
        ):
            if isinstance(constant, ast.Constant) and SLUG.fullmatch(str(constant.value)):
                yield str(constant.value)


def _bases() -> Iterator[str]:
    yield from _given("reason", SERVICES.__contains__)
    yield from _given("basis", lambda name: True)
    for node in (node for tree in _trees() for node in tree.body):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Constant):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if getattr(target, "id", "") == "REASON":
                yield str(node.value.value)


def test_every_basis_is_registered(database: Database) -> None:
    assert len(set(_bases())) > 30, "the search finds hardly any"
    assert set(_bases()) - _registered(database, "basis") == set()


def _raised_in_sql() -> Iterator[str]:
    for statement in re.findall(r"raise exception ([^;]*) using errcode = 'RG", _migrations()):
        yield from (word for word in re.findall(r"'([^']*)'", statement) if SLUG.fullmatch(word))


def _recorded_in_sql() -> Iterator[str]:
    """Yield each reason that the SQL passes as a literal to write_audit, audit_deletions or record_service."""
    sql = _migrations()
    yield from re.findall(
        r"write_audit(?:_of_entities)?\(\s*(?:'[a-z_.]+'|action|of_action), '[A-Z]+',\s*'([a-z_]+)'", sql
    )
    yield from re.findall(r"audit_deletions\('[a-z_.]+', '([a-z_]+)'", sql)
    for path in (ROOT / "app").rglob("*.sql"):
        text = path.read_text(encoding="utf-8")
        yield from re.findall(r"record_service\('[a-z_.]+', '[A-Z]+', '([a-z_]+)'", text)


def _reasons() -> set[str]:
    """Return every reason that the Python code, the SQL or the file of reasons contains."""
    logged = {name for name, reason in load_reasons().items() if set(reason.readers) != {"operator"}}
    steps = {f"{before}>{after}" for before, to in TRANSITIONS.items() for after in to if before != after}
    quotas = tomllib.loads((ROOT / "policies" / "quotas.toml").read_text())["per_person_and_hour"]
    return {
        *_raised_in_python(),
        *_given("reason", lambda name: name not in OF_NO_AUDIT_ROW),
        *_raised_in_sql(),
        *_recorded_in_sql(),
        *logged,
        *drifts._SENTENCES,
        *(part.value for part in model.Part),
        *(status.value for status in TRANSITIONS),
        *steps,
        *(f"{step}_{role}" for step in ("add", "suspend", "change") for role in ("clinician", "compliance")),
        *(reason.value.lower() for reason in DeletionReason),
        *(reason.value.lower() for reason in EmergencyReason),
        ShareEndReason.AUTHORIZATION_WITHDRAWN.value.lower(),
        *(f"quota_{meter}" for meter in quotas),
    }


def test_every_reason_is_registered(database: Database) -> None:
    assert len(_reasons()) > 300, "the search finds hardly any"
    assert _reasons() - _registered(database, "reason") == set()


def test_every_unique_index_is_a_registered_reason(database: Database) -> None:
    """If Postgres refuses a duplicate row, the name of the unique index is the reason in the audit row."""
    with superuser(database) as reader:
        names = reader.execute(
            "select c.relname from pg_index as i join pg_class as c on c.oid = i.indexrelid"
            " where i.indisunique and c.relnamespace::regnamespace::text in ('resguardo', 'private')"
        ).fetchall()
    assert names
    assert {name for (name,) in names} - _registered(database, "reason") == set()


def _quoted() -> set[str]:
    """Return every quoted single word in the Python code and the SQL, except the words in the registry of audit
    terms.
    """
    sql = re.sub(r"insert into private\.audit_terms.*?;\n", "", _migrations(), flags=re.DOTALL)
    texts = [sql, *(path.read_text(encoding="utf-8") for path in (ROOT / "app").rglob("*.sql"))]
    found = {word for text in texts for word in re.findall(r"'([A-Za-z_]+)'", text)}
    for node in _nodes():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def _constants() -> dict[str, str]:
    """Return the literals that modules of the Python code assign to constants, by the constant's name."""
    named = {}
    for node in (node for tree in _trees() for node in tree.body):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Constant):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            named[getattr(target, "id", "")] = str(node.value.value)
    return named


ENDS = {
    "mark_failed", "mark_lost", "mark_stopped", "end", "foremost_error", "stop_live_recordings", "give_up",
    "_refuse_start", "_fail_if_never_asked", "_end_unless_begun",
}  # fmt: skip
"""The functions that are given an error of a recording."""


def _errors_given(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call):
        yield from node.args if _name(node) in ENDS else ()
        yield from (word.value for word in node.keywords if word.arg == "error")
    elif isinstance(node, ast.Return) and isinstance(node.value, (ast.Constant, ast.Name, ast.BoolOp)):
        yield node.value


def _errors_of_recordings() -> Iterator[str]:
    """Yield every error that a module of app/recordings writes, as a literal or through a constant."""
    constants = _constants()
    for path in (ROOT / "app" / "recordings").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for part in (part for one in _errors_given(node) for part in ast.walk(one)):
                word = str(constants.get(getattr(part, "id", ""), getattr(part, "value", "")))
                if "_" in word and SLUG.fullmatch(word):
                    yield word


def test_every_error_of_a_recording_is_a_registered_reason(database: Database) -> None:
    """When a recording fails, the reason in the audit row is the recording's error. The error of a recording whose
    egress failed is `egress_` followed by our reason for the failure.
    """
    words = [
        *livekit_snapshots._REASONS,
        *livekit_snapshots._ENDS_BEFORE_START,
        ("", "failed"),
        ("", "aborted"),
    ]
    refusals = [*livekit_refusals.REASONS.values(), *livekit_refusals._OF_STATUS.values(), *ROLE_REFUSALS]
    errors = {*_errors_of_recordings(), *CONSENT_REASONS, *refusals, *(f"egress_{word}" for _, word in words)}
    assert {"microphone_gone", "start_overdue", "egress_start_unknown", "livekit_no_egress"} <= errors
    assert errors - _registered(database, "reason") == set()


@pytest.mark.parametrize("variable", ["refusal", "error"])
def test_every_error_that_the_sql_writes_is_a_registered_reason(database: Database, variable: str) -> None:
    """The SQL assigns an error to a variable or a column with this name. The assigned value is a literal or a CASE
    expression.
    """
    given = re.findall(rf"\b{variable} :?= ((?:case\b.*?\bend\b)|[^;,\n]*)", _migrations(), flags=re.DOTALL)
    words = {word for one in given for word in re.findall(r"'([a-z]+(?:_[a-z]+)+)'", one)}
    assert words, "the search finds none"
    assert words - _registered(database, "reason") == set()


def test_no_reason_is_registered_that_nobody_gives(database: Database) -> None:
    with superuser(database) as reader:
        indexes = {
            name
            for (name,) in reader.execute(
                "select c.relname from pg_index as i join pg_class as c on c.oid = i.indexrelid where i.indisunique"
            )
        }
    assert _registered(database, "reason") - _reasons() - _quoted() - indexes == set()


def _fields_of_the_api() -> set[str]:
    """Return the names of the fields of all object types except the root types."""
    types = make_schema(is_production=False)._schema.type_map.values()
    roots = {"Query", "Mutation", "Subscription"}
    objects = [one for one in types if isinstance(one, GraphQLObjectType) and one.name not in roots]
    return {name for one in objects if not one.name.startswith("__") for name in one.fields}


def _fields_of_functions() -> set[str]:
    """Return the fields that the SQL passes to a function that writes an audit row, and those that the Python code
    passes to an audited read, each as a literal. The audit row of a difference of the bucket names its topic.
    """
    calls = re.findall(
        r"private\.(?:write_audit(?:_later|_of_entities)?|audit_\w+)\((.*?)\);",
        _migrations(),
        flags=re.DOTALL,
    )
    lists = [one for call in calls for one in re.findall(r"array\[((?:'[\w.]+'(?:, )?)+)\]", call)]
    found = {name for one in lists for name in re.findall(r"\w+", one)}
    found |= {part.value for part in model.Part} | {topic.value for topic in drifts.Topic}
    for call in (node for node in _nodes() if isinstance(node, ast.Call)):
        for value in (word.value for word in call.keywords if word.arg == "fields"):
            found |= {str(part.value) for part in ast.walk(value) if isinstance(part, ast.Constant)}
    return found


def test_fields_of_the_api_and_of_functions_are_the_registered_fields(database: Database) -> None:
    api, functions = _fields_of_the_api(), _fields_of_functions()
    assert len(api) > 150
    assert {"due_at", "data_key", "object"} <= functions, "the search finds hardly any"
    registered = _registered(database, "field")
    assert (api | functions) - registered == set(), "an audit row could not name these"
    assert registered - api - functions == set(), "no audit row can name these"


def test_every_meter_is_known_to_the_table_of_usage(practice: Database) -> None:
    quotas = tomllib.loads((ROOT / "policies" / "quotas.toml").read_text())["per_person_and_hour"]
    for meter in quotas:
        with acting(practice, "clinician who owns") as doctor:
            doctor.execute(
                "select private.record_access('recording.read', 'recording', null, '{}', '{}', '{}', '{}', %s)",
                [meter],
            )
    with superuser(practice) as reader:
        kept = {meter for (meter,) in reader.execute("select u.meter from private.usage as u")}
    assert kept == set(quotas)
