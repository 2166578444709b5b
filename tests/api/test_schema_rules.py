"""The rules of docs/graphql.md, held against the exported schema. Each list of exceptions says why."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    build_schema,
    get_named_type,
    get_nullable_type,
    is_list_type,
    is_non_null_type,
    print_ast,
    specified_scalar_types,
)

from app.postgres.composer import MOST_NESTED

ROOT = Path(__file__).parent.parent.parent
SCHEMA = build_schema((ROOT / "graphql_schema" / "schema.graphql").read_text(encoding="utf-8"))
OWN = {
    name: kind
    for name, kind in SCHEMA.type_map.items()
    if not name.startswith("__") and name not in specified_scalar_types
}
ROOTS = {"Query", "Mutation", "Subscription"}
OUTPUTS = {
    name: kind for name, kind in OWN.items() if isinstance(kind, GraphQLObjectType) and name not in ROOTS
}
INPUTS = {name: kind for name, kind in OWN.items() if isinstance(kind, GraphQLInputObjectType)}
ENUMS = {name: kind for name, kind in OWN.items() if isinstance(kind, GraphQLEnumType)}
assert SCHEMA.query_type is not None
assert SCHEMA.mutation_type is not None
assert SCHEMA.subscription_type is not None
QUERIES = SCHEMA.query_type.fields
MUTATIONS = SCHEMA.mutation_type.fields
SUBSCRIPTIONS = SCHEMA.subscription_type.fields

VERBS = {
    "approve",
    "ask",
    "attribute",
    "complete",
    "correct",
    "delete",
    "deny",
    "extend",
    "import",
    "invite",
    "issue",
    "join",
    "place",
    "process",
    "record",
    "register",
    "reject",
    "release",
    "request",
    "retry",
    "reveal",
    "start",
    "stop",
    "suspend",
    "switch",
    "undo",
    "withdraw",
}
"""The verbs of the domain with which a mutation may begin."""

NOUNS_TOO = {"join", "record", "request"}
"""Verbs with which the noun of a type may begin: a join token, a request header."""


def words(name: str) -> list[str]:
    """Return the words of a camelCase or CAPITAL name in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)]


def output_fields() -> Iterator[tuple[str, str, GraphQLField]]:
    """Yield the type, the name and the field of each field of an object type."""
    for owner, kind in OUTPUTS.items():
        for name, field in kind.fields.items():
            yield owner, name, field


def values() -> Iterator[tuple[str, str, GraphQLNamedType]]:
    """Yield the owner, the name and the named type of each output field and each input field."""
    for owner, name, field in output_fields():
        yield owner, name, get_named_type(field.type)
    for owner, kind in INPUTS.items():
        for name, value in kind.fields.items():
            yield owner, name, get_named_type(value.type)


def is_connection(field: GraphQLField) -> bool:
    return get_named_type(field.type).name.endswith("Connection")


# ---- 1: types are nouns


def test_no_type_is_named_by_a_verb_or_a_participle() -> None:
    payloads = {name for name in OUTPUTS if name.endswith("Payload")}
    participles = {"Recorded", "Placed", "Written", "Issued", "Revealed"}
    first = {name: words(name)[0] for name in OUTPUTS.keys() - payloads}
    wrong = {name for name, word in first.items() if word in VERBS - NOUNS_TOO or word.title() in participles}
    assert wrong == set()


PARTS = (
    "Status",
    "Ground",
    "Problem",
    "ProblemCode",
    "Source",
    "Outcome",
    "Channel",
    "Decision",
    "Extension",
)


def test_type_that_belongs_to_one_other_bears_its_name() -> None:
    owners: dict[str, set[str]] = {}
    for owner, _, field in output_fields():
        owners.setdefault(get_named_type(field.type).name, set()).add(owner)
    wrong = {
        f"{name} of {owner}"
        for name, found in owners.items()
        if name.endswith(PARTS) and len(found) == 1
        for owner in found
        if not name.startswith(owner.removesuffix("Problem"))
    }
    # The first word of an owner suffices: `AccessReviewOutcome` is of the review, a part of the access denial.
    assert {one for one in wrong if words(one)[0] != words(one.partition(" of ")[2])[0]} == set()


# ---- 2: queries are nouns


def test_no_query_begins_with_a_verb() -> None:
    verbs = VERBS | {"get", "list", "find", "search", "read", "fetch"}
    assert {
        name for name in QUERIES if words(name)[0] in verbs and name not in {"recording", "recordings"}
    } == set()


def test_query_of_one_object_that_several_keys_identify_takes_by() -> None:
    for name, field in QUERIES.items():
        if "by" in field.args:
            kind = get_named_type(field.args["by"].type)
            assert is_non_null_type(field.args["by"].type), name
            assert kind.name == f"{get_named_type(field.type).name}By", name
            assert set(field.args) == {"by"}, name
    assert {name for name, field in QUERIES.items() if "id" in field.args} == set()


def _default(argument: GraphQLArgument) -> str | None:
    """Return the default value of an argument as the schema prints it."""
    assert argument.ast_node is not None
    value = argument.ast_node.default_value
    return None if value is None else print_ast(value)


def test_every_list_is_a_connection_with_the_same_arguments() -> None:
    for owner, name, field in [
        *(("Query", name, field) for name, field in QUERIES.items()),
        *output_fields(),
    ]:
        if is_connection(field):
            place = f"{owner}.{name}"
            assert str(field.args["first"].type) == "Int!", place
            assert _default(field.args["first"]) == "25", place
            assert str(field.args["after"].type) == "String", place
            others = set(field.args) - {"first", "after", "filter", "recordingId"}
            assert others == set(), place


def test_no_query_is_a_bare_list() -> None:
    bare = {name for name, field in QUERIES.items() if is_list_type(get_nullable_type(field.type))}
    assert bare <= {"activeRooms"}, "`activeRooms` is an answer of LiveKit, of at most 100 rooms"


def test_filters_are_named_after_what_they_filter() -> None:
    for name, field in QUERIES.items():
        if is_connection(field) and "filter" in field.args:
            node = get_named_type(field.type).name.removesuffix("Connection")
            assert get_named_type(field.args["filter"].type).name == f"{node}Filter", name


def test_query_of_one_row_names_it_by_exactly_one_id() -> None:
    named = {name: field for name, field in QUERIES.items() if "by" in field.args}
    assert named.keys() == {"consultation", "recording"}
    for name, field in named.items():
        kind = get_named_type(field.args["by"].type)
        assert str(field.args["by"].type) == f"{name.capitalize()}By!"
        assert isinstance(kind, GraphQLInputObjectType)
        assert kind.is_one_of
        assert field.args.keys() == {"by"}


def test_lists_of_rows_are_connections() -> None:
    """`activeRooms` is the short answer of a vendor."""
    lists = {name for name, field in QUERIES.items() if "[" in str(field.type)}
    assert lists == {"activeRooms"}
    for name, field in QUERIES.items():
        if is_connection(field):
            node = field.args["first"].ast_node
            assert node is not None
            assert print_ast(node).endswith("first: Int! = 25"), name
            assert str(field.args["after"].type) == "String", name


# ---- 3: mutations


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_mutation_is_a_verb_with_an_input_and_a_payload(name: str) -> None:
    field, kind = MUTATIONS[name], name[0].upper() + name[1:]
    assert words(name)[0] in VERBS
    assert {argument: str(value.type) for argument, value in field.args.items()} == {"input": f"{kind}Input!"}
    assert str(field.type) == f"{kind}Payload"


CHANGED = {
    "recordConsent": {"consent", "participant", "recording"},
    "withdrawConsent": {"consent", "participant", "recording"},
    "deleteRecording": {"deletion", "recording"},
    "undoDeletion": {"deletion", "recording"},
    "correctTranscript": {"transcript"},
    "attributeTurn": {"transcript"},
    "startRecording": {"recording"},
    "stopRecording": {"recording"},
    "completeImport": {"recording"},
    "switchTranscription": {"consultation"},
    "retryTranscription": {"recording"},
    "suspendStaff": {"staffMember"},
    "placeLegalHold": {"legalHold"},
    "releaseLegalHold": {"legalHold"},
    "approveRetentionPolicy": {"retentionPolicy", "supersededPolicy"},
    "requestAccess": {"accessRequest"},
    "recordAccessRequest": {"accessRequest"},
    "withdrawAccessRequest": {"accessRequest"},
    "approveAccessRequest": {"accessRequest"},
    "denyAccessRequest": {"accessRequest"},
    "extendAccessRequest": {"accessRequest"},
    "askAccessReview": {"accessRequest"},
    "recordAccessReview": {"accessRequest"},
    "revealAccessExportSecret": {"accessRequest", "secret"},
}


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_payload_has_every_object_that_the_mutation_changes(name: str) -> None:
    payload = get_named_type(MUTATIONS[name].type)
    assert isinstance(payload, GraphQLObjectType)
    assert CHANGED[name] <= set(payload.fields)


# ---- 4: root fields are nullable


def test_every_root_field_is_nullable_except_viewer() -> None:
    fields = QUERIES | MUTATIONS | SUBSCRIPTIONS
    assert {name for name, field in fields.items() if is_non_null_type(field.type)} == {"viewer"}


def test_fields_that_a_vendor_answers_are_nullable() -> None:
    vendors = {"StoredObject": {"sizeBytes", "contentType"}}
    for owner, names in vendors.items():
        assert {name for name in names if is_non_null_type(OUTPUTS[owner].fields[name].type)} == set()


# ---- 5: references are objects


def test_no_root_field_reads_any_node() -> None:
    assert {"node", "nodes"} & QUERIES.keys() == set()


def test_one_thing_has_one_type() -> None:
    gone = {"RecordedConsultation", "SpeakerParticipant", "SpeakerSound", "Suspension", "PlacedLegalHold"}
    assert gone & OWN.keys() == set()


# ---- 6: metadata nests; content and answers of vendors are root fields


def test_content_and_answers_of_vendors_are_only_root_fields() -> None:
    separate = {"Transcript", "StoredObject", "TranscriptSearch", "ActiveRoom", "StorageReport"}
    wrong = {
        f"{owner}.{name}"
        for owner, name, field in output_fields()
        if get_named_type(field.type).name in separate and not owner.endswith("Payload")
    }
    assert wrong == set()


def test_recordings_of_a_consultation_are_a_page_below_it() -> None:
    assert str(OUTPUTS["Consultation"].fields["recordings"].type) == "RecordingConnection!"


def test_the_only_page_below_an_object_is_that_of_the_recordings_of_a_consultation() -> None:
    pages = {
        f"{owner}.{name}"
        for owner, name, field in output_fields()
        if is_connection(field) and not owner.endswith("Payload")
    }
    assert pages == {"Consultation.recordings"}
    assert MOST_NESTED == 25


# ---- 7: names tell the kind of a value


# ---- 8: closed sets are enums

OPEN_STRINGS = {
    "AuditEvent.reason": "a row of the log keeps reasons that are no longer given",
    "Consultation.kind": "the practice names its own kinds",
    "RegisterConsultationInput.kind": "the practice names its own kinds",
    "RetentionTerms.kind": "the practice names its own kinds",
}


CLOSED_SETS = {
    "role",
    "actorRole",
    "status",
    "kind",
    "ground",
    "outcome",
    "operation",
    "purpose",
    "purposeOfUse",
    "source",
    "decision",
    "language",
    "textLanguage",
    "code",
    "reason",
    "channel",
    "speaker",
    "sensitivity",
    "assuranceLevel",
    "relationship",
    "guestRole",
}


def test_closed_sets_are_enums() -> None:

    wrong = {
        f"{owner}.{name}"
        for owner, name, kind in values()
        if name in CLOSED_SETS and not isinstance(kind, GraphQLEnumType)
    }
    assert wrong - OPEN_STRINGS.keys() == set()


def test_failure_is_a_problem_with_a_code_and_a_message() -> None:
    assert {f"{owner}.{name}" for owner, name, _ in values() if name in {"error", "errorText"}} == set()
    problems = {kind for _, name, kind in values() if name == "problem"}
    assert problems
    for kind in problems:
        assert isinstance(kind, GraphQLObjectType)
        found = {name: str(field.type) for name, field in kind.fields.items()}
        assert found == {"code": f"{kind.name}Code!", "message": "String!"}
        assert isinstance(OWN[f"{kind.name}Code"], GraphQLEnumType)


def test_values_of_enums_are_in_capitals() -> None:
    assert {
        value
        for kind in ENUMS.values()
        for value in kind.values
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", value)
    } == set()


# ---- 9: exactly one, and ranges


def test_input_of_which_exactly_one_is_given_is_one_of() -> None:
    for name, kind in INPUTS.items():
        if name.endswith("By"):
            assert kind.is_one_of, name
    assert INPUTS["LegalHoldScopeInput"].is_one_of


def test_ranges_of_time_are_one_input() -> None:
    assert {name: str(value.type) for name, value in INPUTS["DateTimeRangeInput"].fields.items()} == {
        "from": "DateTime",
        "until": "DateTime",
    }
    loose = {
        f"{owner}.{name}"
        for owner, kind in INPUTS.items()
        if owner != "DateTimeRangeInput"
        for name in kind.fields
        if re.search(r"(Since|From|Until)$", name)
    }
    assert loose == set()


def test_guests_join_with_a_mutation_of_their_own() -> None:
    assert {"joinConsultation", "joinAsGuest"} <= MUTATIONS.keys()


# ---- 10: repeated calls


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_mutation_says_by_what_it_is_idempotent(name: str) -> None:
    assert re.search(r"Idempotent by [^.]+\.", MUTATIONS[name].description or "")


@pytest.mark.parametrize(
    "name",
    [
        "inviteGuest",
        "startRecording",
        "recordConsent",
        "withdrawConsent",
        "correctTranscript",
        "attributeTurn",
    ],
)
def test_mutation_that_makes_something_takes_an_idempotency_key(name: str) -> None:
    assert "idempotencyKey" in INPUTS[f"{name[0].upper()}{name[1:]}Input"].fields


# ---- 11: scalars


def test_issued_addresses_tell_how_long_they_are_valid() -> None:
    for name in (
        "DownloadUrl",
        "SubtitleUrls",
        "AccessExportUrl",
        "JoinToken",
        "GuestInvitation",
        "RecordingImport",
    ):
        assert str(OUTPUTS[name].fields["expiresInSeconds"].type) == "Int!", name


# ---- 12: descriptions


def fault_of(place: str, description: str | None) -> str | None:
    """Return what is wrong with a description, or None if it is a full sentence."""
    if not description:
        return "is missing"
    if not re.match(r"[A-Z`]", description) or not description.endswith("."):
        return "begins with no capital or ends with no full stop"
    said = re.findall(r"[\w']+", description)
    if len(said) < 4:
        return "has fewer than four words"
    name = re.split(r"[.(]", place.rstrip(")"))[-1]
    fillers = {"the", "a", "an", "of", "this", "its"}
    if {word.lower() for word in said} - fillers <= set(words(name)):
        return "repeats the name"
    return None


def test_fault_of_a_description_is_found() -> None:
    assert fault_of("Recording.status", None) == "is missing"
    assert fault_of("Recording.status", "the status of the recording.") is not None
    assert fault_of("Recording.status", "The status of the recording") is not None
    assert fault_of("Recording.status", "The status.") == "has fewer than four words"
    assert fault_of("Recording.sizeBytes", "The size of the bytes.") == "repeats the name"
    assert fault_of("Recording.status", "The status that the recording has now.") is None


def test_every_root_field_says_who_may_call_it() -> None:
    who = re.compile(r"doctor|patient|compliance|guest|everyone|signed-in|LiveKit", re.IGNORECASE)
    fields = QUERIES | MUTATIONS | SUBSCRIPTIONS
    assert {name for name, field in fields.items() if not who.search(field.description or "")} == set()
