"""The rules of docs/graphql.md, held against the exported schema. Each list of exceptions says why."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLScalarType,
    build_schema,
    get_named_type,
    get_nullable_type,
    is_list_type,
    is_non_null_type,
    print_ast,
    specified_scalar_types,
)

from app.postgres.composer import MOST_NESTED
from app.postgres.paging import MAX_PAGE_SIZE
from graphql_schema.document_limits import Limits
from graphql_schema.transcripts import MOST_HITS
from tests.descriptions import fault_of

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
    "add",
    "approve",
    "ask",
    "assign",
    "attest",
    "attribute",
    "accept",
    "break",
    "dispute",
    "include",
    "rebut",
    "end",
    "share",
    "complete",
    "correct",
    "create",
    "decide",
    "delay",
    "delete",
    "deny",
    "dismiss",
    "edit",
    "export",
    "extend",
    "import",
    "invite",
    "issue",
    "join",
    "keep",
    "fulfill",
    "lift",
    "open",
    "place",
    "process",
    "publish",
    "reassign",
    "record",
    "redeliver",
    "recount",
    "refresh",
    "regenerate",
    "register",
    "reject",
    "reinstate",
    "release",
    "request",
    "reset",
    "retry",
    "reveal",
    "sign",
    "start",
    "stop",
    "suspend",
    "switch",
    "undo",
    "withdraw",
    "write",
}
"""The verbs of the domain with which a mutation may begin."""

NOUNS_TOO = {"join", "record", "request", "share"}
"""Verbs with which the noun of a type may begin: a join token, a request header, a share."""

UNITS = (
    "Seconds|Minutes|Bytes|Count|Counts|Number|Days|Years|Hours|GbMonths|Usd|UsdPerMonth|UsdPerMinute|UsdPerGbMonth"
    "|UsdPerMillion|Minimum|Maximum"
)
NUMBERS_THAT_ARE_THEIR_KIND = {
    *("version", "basedOnVersion"),
    *("number", "attempt", "minimum", "maximum", "limit", "count", "days", "minutes", "sessionsPerMonth"),
    "chunksDone",  # beside `chunkCount`
    "partsDone",  # beside `partCount`
    "percentDone",
    "statusCode",
    "first",  # the Relay name of a page's size
    "confidence",  # a probability
}
"""Numbers with a name that is itself the kind of number."""


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


def inputs() -> Iterator[tuple[str, str, GraphQLArgument | GraphQLInputField]]:
    """Yield the owner, the name and the value of each input field and each argument."""
    for owner, taken in INPUTS.items():
        yield from ((owner, name, value) for name, value in taken.fields.items())
    for owner, kind in OWN.items():
        if isinstance(kind, GraphQLObjectType):
            for name, field in kind.fields.items():
                yield from ((f"{owner}.{name}", argument, value) for argument, value in field.args.items())


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
    "Reason",
    "Denial",
    "Export",
    "Url",
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
        if not owner.endswith("Payload") and not name.startswith(owner.removesuffix("Problem"))
    }
    # The first word of an owner suffices: `AccessReviewOutcome` is of the review, a part of the access denial.
    assert {one for one in wrong if words(one)[0] != words(one.partition(" of ")[2])[0]} == set()


# ---- 2: queries are nouns


def test_no_query_begins_with_a_verb() -> None:
    verbs = VERBS | {"get", "list", "find", "search", "read", "fetch"}
    assert {
        name for name in QUERIES if words(name)[0] in verbs and name not in {"recording", "recordings"}
    } == set()


OTHER_QUERIES = {
    "viewer": "it names nothing: it is the caller",
    "consentText": "a text has a language and a version, and no id",
    "transcript": "decrypted content is a root field of its own, and has one key",
    "sessionNotes": "decrypted content is a root field of its own, and has one key",
    "psychotherapyNotes": "decrypted content is a root field of its own, and has one key",
    "insights": "decrypted content is a root field of its own, and has one key",
    "noteDraft": "decrypted content is a root field of its own, and has one key",
    "storedObject": "the answer of the bucket is a root field of its own, and has one key",
    "transcriptSearch": "the best hits have no order that a next page could follow",
    "activeRooms": "LiveKit answers with at most 100 rooms",
    "retentionPreview": "a computed answer about one policy, which has one key",
    "storageReport": "a computed answer about the whole bucket",
    "auditSummary": "a computed answer about the events of a range of time",
    "costReport": "a computed answer about the recordings of a period",
    "objectFetches": "a computed answer about the access log of a period",
    "costEstimate": "a computed answer about no object",
    "reviewCase": "an object with one key",
    "reviewRules": "the rules in force are one object",
}
"""Queries that are neither one object by its key nor a list, and why."""


def test_query_is_one_object_by_its_key_or_a_list_in_pages() -> None:
    others = {name for name, field in QUERIES.items() if "by" not in field.args and not is_connection(field)}
    assert others == OTHER_QUERIES.keys()


def test_query_of_one_object_that_several_keys_identify_takes_by() -> None:
    for name, field in QUERIES.items():
        if "by" in field.args:
            kind = get_named_type(field.args["by"].type)
            assert str(field.args["by"].type) == f"{get_named_type(field.type).name}By!", name
            assert isinstance(kind, GraphQLInputObjectType), name
            assert kind.is_one_of, name
            assert set(field.args) == {"by"}, name
    assert {name for name, field in QUERIES.items() if "id" in field.args} == set()


COLLECTIVES = {"EmergencyAccess": "EmergencyAccesses", "StaffMember": "staff"}
"""The types with an irregular plural."""


def test_query_is_named_after_what_it_returns() -> None:
    for name, field in QUERIES.items():
        kind = get_named_type(field.type).name
        if is_connection(field):
            node = kind.removesuffix("Connection")
            plural = COLLECTIVES.get(node) or (f"{node[:-1]}ies" if node.endswith("y") else f"{node}s")
            assert name == plural[0].lower() + plural[1:]
        elif name not in {"activeRooms", "psychotherapyNotes"}:  # notes of both kinds have one type
            assert name == kind[0].lower() + kind[1:]


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
            others = set(field.args) - {"first", "after", "filter", "recordingId", "timeZone", "reviewId"}
            assert others == set(), place


def test_no_query_is_a_bare_list() -> None:
    bare = {name for name, field in QUERIES.items() if is_list_type(get_nullable_type(field.type))}
    assert bare <= {"activeRooms"}, "`activeRooms` is an answer of LiveKit, of at most 100 rooms"


def test_enums_of_filters_are_lists() -> None:
    wrong = {
        f"{owner}.{name}"
        for owner, kind in INPUTS.items()
        if owner.endswith("Filter")
        for name, value in kind.fields.items()
        if isinstance(get_named_type(value.type), GraphQLEnumType)
        and not is_list_type(get_nullable_type(value.type))
    }
    assert wrong == set()


def test_filters_are_named_after_what_they_filter() -> None:
    for name, field in QUERIES.items():
        if is_connection(field) and "filter" in field.args:
            node = get_named_type(field.type).name.removesuffix("Connection")
            assert get_named_type(field.args["filter"].type).name == f"{node}Filter", name


# ---- 3: mutations


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_mutation_is_a_verb_with_an_input_and_a_payload(name: str) -> None:
    field, kind = MUTATIONS[name], name[0].upper() + name[1:]
    assert words(name)[0] in VERBS
    assert {argument: str(value.type) for argument, value in field.args.items()} == {"input": f"{kind}Input!"}
    assert str(field.type) == f"{kind}Payload"


CHANGED = {
    "requestAmendment": {"amendment"},
    "recordAmendmentRequest": {"amendment"},
    "extendAmendment": {"amendment"},
    "acceptAmendment": {"amendment"},
    "denyAmendment": {"amendment"},
    "disputeAmendment": {"amendment"},
    "rebutAmendment": {"amendment"},
    "includeAmendment": {"amendment"},
    "requestAccounting": {"accountingRequest"},
    "recordAccountingRequest": {"accountingRequest"},
    "withdrawAccountingRequest": {"accountingRequest"},
    "extendAccountingRequest": {"accountingRequest"},
    "fulfillAccountingRequest": {"accountingRequest", "accounting"},
    "recordDisclosure": {"disclosure"},
    "suspendDisclosures": {"disclosureSuspension"},
    "liftDisclosureSuspension": {"disclosureSuspension"},
    "openBreachAssessment": {"breachAssessment"},
    "recountBreach": {"breachAssessment"},
    "recordBreachFactor": {"breachAssessment"},
    "delayBreachNotices": {"breachAssessment"},
    "decideBreach": {"breachAssessment"},
    "recordBreachNotice": {"breachAssessment"},
    "recordSanction": {"sanction"},
    "attestReview": {"attestation"},
    "registerConsultation": {"consultation"},
    "recordConsent": {"consent", "participant", "recording", "consultation"},
    "withdrawConsent": {"consent", "participant", "recording", "consultation"},
    "inviteGuest": {"participant", "invitation", "consultation"},
    "joinConsultation": {"participant", "joinToken"},
    "joinAsGuest": {"participant", "joinToken"},
    "startRecording": {"recording"},
    "stopRecording": {"recording"},
    "importRecording": {"recordingImport"},
    "completeImport": {"recordingImport", "recording"},
    "correctTranscript": {"transcript"},
    "attributeTurn": {"transcript"},
    "editNote": {"noteDraft", "section"},
    "keepNoteFlag": {"noteDraft"},
    "regenerateSection": {"noteDraft"},
    "signNote": {"noteDraft", "signature"},
    "addAddendum": {"signature"},
    "retryTranscription": {"recording"},
    "writeSessionNote": {"sessionNote", "sessionNotes"},
    "editSessionNote": {"sessionNote", "sessionNotes"},
    "deleteSessionNote": {"isDeleted", "sessionNotes"},
    "writePsychotherapyNote": {"psychotherapyNote", "psychotherapyNotes"},
    "editPsychotherapyNote": {"psychotherapyNote", "psychotherapyNotes"},
    "deletePsychotherapyNote": {"isDeleted", "psychotherapyNotes"},
    "retryInsights": {"recording"},
    "refreshInsights": {"recording"},
    "dismissInsight": {"insights"},
    "askTranscript": {"answer"},
    "switchTranscription": {"consultation"},
    "editConsultationLabel": {"consultation"},
    "issueSubtitleUrls": {"subtitleUrls"},
    "issueDownloadUrl": {"downloadUrl"},
    "issuePlaybackUrl": {"playbackUrl"},
    "issueThumbnailUrl": {"thumbnailUrl"},
    "createClip": {"clip", "recording"},
    "deleteRecording": {"deletion", "recording"},
    "undoDeletion": {"deletion", "recording"},
    "requestAccess": {"accessRequest"},
    "recordAccessRequest": {"accessRequest"},
    "withdrawAccessRequest": {"accessRequest"},
    "approveAccessRequest": {"accessRequest"},
    "denyAccessRequest": {"accessRequest"},
    "extendAccessRequest": {"accessRequest"},
    "askAccessReview": {"accessRequest"},
    "recordAccessReview": {"accessRequest"},
    "exportAuditEvents": {"auditExport"},
    "issueAuditExportUrl": {"auditExportUrl"},
    "revealAuditExportSecret": {"auditExport", "secret"},
    "redeliverWebhook": {"webhookDelivery"},
    "recordVendorAgreement": {"vendorAgreement"},
    "issueAccessExportUrl": {"accessExportUrl"},
    "revealAccessExportSecret": {"accessRequest", "secret"},
    "recordDisposition": {"reviewCase"},
    "approveReviewPolicy": {"reviewPolicy"},
    "rejectReviewPolicy": {"reviewPolicy"},
    "assignReviewCase": {"reviewCase"},
    "placeLegalHold": {
        "legalHold",
        "coveredRecordingCount",
        "coveredSignedNoteCount",
        "destroyingRecordingCount",
    },
    "releaseLegalHold": {"legalHold"},
    "approveRetentionPolicy": {"retentionPolicy", "supersededPolicy"},
    "rejectRetentionPolicy": {"retentionPolicy"},
    "shareConsultation": {"share"},
    "endShare": {"share"},
    "recordSharingAuthorization": {"sharingAuthorization"},
    "withdrawSharingAuthorization": {"sharingAuthorization"},
    "breakGlass": {"emergencyAccess"},
    "publishStaffName": {"staffMember"},
    "resetSecondFactor": {"officerProposal"},
    "reinstateStaff": {"officerProposal"},
    "startStaffAccessReview": {"staffAccessReview"},
    "decideStaffAccess": {"staffAccessReviewEntry"},
    "approveStaffAccessReview": {"staffAccessReview"},
    "rejectStaffAccessReview": {"staffAccessReview"},
    "reassignConsultations": {"officerProposal"},
    "approveOfficerProposal": {"officerProposal"},
    "rejectOfficerProposal": {"officerProposal"},
    "suspendStaff": {"staffMember"},
    "liftLanguageBudget": {"languageBudget"},
    "inviteStaff": {"staffInvitation"},
    "processLivekitWebhook": {"isDuplicate"},
}
"""The fields of each payload: every object whose fields the mutation changes, and what it issues."""


def _payload(mutation: str) -> GraphQLObjectType:
    payload = get_named_type(MUTATIONS[mutation].type)
    assert isinstance(payload, GraphQLObjectType)
    return payload


def test_payload_has_every_object_that_the_mutation_changes() -> None:
    assert {name: set(_payload(name).fields) for name in MUTATIONS} == CHANGED


def test_payload_is_more_than_a_boolean() -> None:
    bare = {
        name
        for name in MUTATIONS
        if all(get_named_type(field.type).name == "Boolean" for field in _payload(name).fields.values())
    }
    assert bare == {"processLivekitWebhook"}, "LiveKit sends it, and reads no object of the practice"


# ---- 4: root fields are nullable


def test_every_root_field_is_nullable_except_viewer() -> None:
    fields = QUERIES | MUTATIONS | SUBSCRIPTIONS
    assert {name for name, field in fields.items() if is_non_null_type(field.type)} == {"viewer"}


def test_fields_that_a_vendor_answers_are_nullable() -> None:
    vendors = {"StoredObject": {"sizeBytes", "contentType"}}
    for owner, names in vendors.items():
        assert {name for name in names if is_non_null_type(OUTPUTS[owner].fields[name].type)} == set()


# ---- 5: references are objects

BARE_IDS = {
    "Attestation.auditEventId": "an event is read in the list of the audit log, which writes an audit row",
    "BreachAssessment.auditEventId": "an event is read in the list of the audit log, which writes an audit row",
    "Recording.egressId": "LiveKit's id of an egress, which is no object of the schema",
    "ErrorExtensions.requestId": "the id of a request, which is no object",
    "AuditEvent.requestId": "the id of a request, which is no object",
    "ErrorDetails.recordingId": "an error names an object and shows none",
    "MissingConsent.participantId": "an error names an object and shows none",
    "Patient.externalId": "the practice's own id",
    "Consultation.externalId": "the practice's own id",
    "Consultation.patientExternalId": "the practice's own id of the patient, without a nested object",
    "AuditEvent.patientIds": "an officer may not read the patient",
    "AuditEvent.consultationIds": "an officer may not read the consultation",
    "ReviewCase.patientIds": "the ids in the audit log, from which the case was made",
    "ReviewCase.consultationIds": "the ids in the audit log, from which the case was made",
    "ReviewCaseEvent.patientIds": "the ids in the audit log",
    "ReviewCaseEvent.consultationIds": "the ids in the audit log",
    "PlaybackUrl.viewingId": "a viewing is only in the audit log, and no object of the schema",
    "AuditEntities.ids": "the type of the objects differs from row to row",
    "AccessEntry.consultationIds": "a report names consultations and shows none",
    "RecordingSummary.consultationId": "a report names a consultation and shows none",
    "Amendment.recordingId": "a patient, who also reads amendments, sees no recordings",
    "Alert.entityIds": "the type of the objects differs from row to row",
    "UnissuedFetch.entityId": "the type of the objects differs from row to row",
    "WebhookDelivery.entityIds": "the type of the objects differs from row to row",
    "WebhookDelivery.messageId": "the id of a message, which is no object of the schema",
}


def test_references_are_objects() -> None:
    bare = {
        f"{owner}.{name}"
        for owner, name, field in output_fields()
        if name != "id" and (get_named_type(field.type).name == "ID" or re.search(r"(Id|Ids)$|^ids$", name))
    }
    assert bare == BARE_IDS.keys()


def test_type_with_an_id_is_a_node() -> None:
    node = OWN["Node"]
    assert isinstance(node, GraphQLInterfaceType)
    assert {name: str(field.type) for name, field in node.fields.items()} == {"id": "ID!"}
    with_id = {name for name, kind in OUTPUTS.items() if "id" in kind.fields}
    assert {name for name in with_id if str(OUTPUTS[name].fields["id"].type) != "ID!"} == set()
    assert {name for name in with_id if node not in OUTPUTS[name].interfaces} == set()
    assert {
        *(
            "User",
            "Patient",
            "Consultation",
            "Participant",
            "Consent",
            "Recording",
            "MediaFile",
            "Clip",
            "SignedNote",
            "Transcript",
            "NoteDraft",
            "Insights",
        ),
        *(
            "RecordingImport",
            "Deletion",
            "LegalHold",
            "Share",
            "SharingAuthorization",
            "EmergencyAccess",
            "AccessRequest",
            "RetentionPolicy",
            "AuditEvent",
            "AuditExport",
            "WebhookDelivery",
            "VendorAgreement",
            "Alert",
            "AccountingRequest",
            "Amendment",
            "Disclosure",
            "ReleasedCopy",
            "DisclosureSuspension",
            "ReviewCase",
            "ReviewPolicy",
            "ReviewCaseEvent",
            "Attestation",
            "BreachAssessment",
            "BreachRecording",
            "Sanction",
        ),
        *("StaffMember", "StaffInvitation", "OfficerProposal", "SessionNote", "SessionNotes"),
        *("AccessEntry", "RecordingSummary"),
        *("StaffAccessReview", "StaffAccessReviewEntry"),
    } == with_id


def test_no_root_field_reads_any_node() -> None:
    assert {"node", "nodes"} & QUERIES.keys() == set()


def test_one_thing_has_one_type() -> None:
    """Two object types with the same fields are one type."""
    shapes: dict[tuple[tuple[str, str], ...], set[str]] = {}
    for name, kind in OUTPUTS.items():
        if not name.endswith(("Payload", "Edge", "Connection")):
            shape = tuple(sorted((field, str(value.type)) for field, value in kind.fields.items()))
            shapes.setdefault(shape, set()).add(name)
    assert [sorted(names) for names in shapes.values() if len(names) > 1] == []
    gone = {"RecordedConsultation", "SpeakerParticipant", "SpeakerSound", "Suspension", "PlacedLegalHold"}
    assert gone & OWN.keys() == set()


# ---- 6: metadata nests; content and answers of vendors are root fields


def test_content_and_answers_of_vendors_are_only_root_fields() -> None:
    separate = {"Transcript", "NoteDraft", "StoredObject", "TranscriptSearch", "ActiveRoom", "StorageReport"}
    wrong = {
        f"{owner}.{name}"
        for owner, name, field in output_fields()
        if get_named_type(field.type).name in separate and not owner.endswith("Payload")
    }
    assert wrong == set()


def test_audit_row_names_all_that_was_shown_by_its_type() -> None:
    event = OUTPUTS["AuditEvent"].fields
    assert str(event["entities"].type) == "[AuditEntities!]!"
    assert {name: str(field.type) for name, field in OUTPUTS["AuditEntities"].fields.items()} == {
        "type": "String!",
        "ids": "[ID!]!",
    }
    assert str(event["fields"].type) == "[String!]!"
    assert {"entityType", "entityIds"} & event.keys() == set()


def test_recordings_of_a_consultation_are_a_page_below_it() -> None:
    assert str(OUTPUTS["Consultation"].fields["recordings"].type) == "RecordingConnection!"


def test_only_these_objects_have_a_page_below_them() -> None:
    pages = {
        f"{owner}.{name}"
        for owner, name, field in output_fields()
        if is_connection(field) and not owner.endswith("Payload")
    }
    assert pages == {
        "BreachAssessment.patients",
        "BreachAssessment.recordings",
        "Consultation.recordings",
        "Consultation.shares",
        "Consultation.sharingAuthorizations",
        "ReviewCase.events",
    }
    assert MOST_NESTED == 25


# ---- 7: names tell the kind of a value


def test_by_is_an_object_and_times_and_days_have_their_scalars() -> None:
    for owner, name, kind in values():
        place = f"{owner}.{name}"
        if name.endswith("By"):
            assert isinstance(kind, (GraphQLObjectType, GraphQLInputObjectType)), place
        if name.endswith("At"):
            assert kind.name == "DateTime", place
        if name.endswith("On"):
            assert kind.name == "Date", place
        if name.endswith("Until"):
            assert kind.name == "DateTime", place
        if kind.name == "DateTime":
            assert re.search(r"(At|Until|From)$|^(from|until)$", name), place
        if kind.name == "Date" and place != "ErrorDetails.earliest":
            assert re.search(r"(On|Date)$", name), place


def test_numbers_bear_their_unit_or_kind() -> None:
    wrong = {
        f"{owner}.{name}"
        for owner, name, kind in (*values(), *((o, n, get_named_type(v.type)) for o, n, v in inputs()))
        if kind.name in {"Int", "Float", "BigInt"}
        and not re.search(rf"({UNITS})$", name)
        and name not in NUMBERS_THAT_ARE_THEIR_KIND
    }
    assert wrong == set()


def test_booleans_read_as_a_sentence() -> None:
    sentence = re.compile(
        r"(is|has|must|may|needs|records|include|applies|only|was|can)[A-Z]|exists$|retryable$"
    )
    wrong = {
        f"{owner}.{name}"
        for owner, name, kind in (*values(), *((o, n, get_named_type(v.type)) for o, n, v in inputs()))
        if kind.name == "Boolean" and not sentence.match(name)
    }
    assert wrong == set()


def test_end_of_a_range_says_that_it_is_exclusive() -> None:
    ends = {
        f"{owner}.{name}": found.description or ""
        for owner, kind in (OUTPUTS | INPUTS).items()
        for name, found in kind.fields.items()
        if re.search(r"Until$|^until$", name)
    }
    assert ends
    assert {
        place for place, text in ends.items() if not re.search(r"exclusive|not in the range", text)
    } == set()


# ---- 8: closed sets are enums

OPEN_STRINGS = {
    "AuditEvent.reason": "a row of the log keeps reasons that are no longer given",
    "ReviewPolicy.source": "the file as it was proposed",
    "ReviewCaseEvent.reason": "a row of the log keeps reasons that are no longer given",
    "Consultation.kind": "the practice names its own kinds",
    "RegisterConsultationInput.kind": "the practice names its own kinds",
    "RetentionTerms.kind": "the practice names its own kinds",
}
"""Names of closed sets that are open elsewhere, and why."""


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
    assert wrong == OPEN_STRINGS.keys()


def test_value_of_an_enum_is_the_same_in_and_out() -> None:
    taken = {
        kind.name
        for _, _, value in inputs()
        if isinstance(kind := get_named_type(value.type), GraphQLEnumType)
    }
    shown = {
        kind.name for owner, _, kind in values() if owner in OUTPUTS and isinstance(kind, GraphQLEnumType)
    }
    assert taken - shown == set()
    assert ENUMS["GuestRole"].values.keys() < ENUMS["ParticipantRole"].values.keys()
    assert {"DOCTOR", "PATIENT"} < ENUMS["ParticipantRole"].values.keys()


def test_failure_is_a_problem_with_a_code_and_a_message() -> None:
    assert {f"{owner}.{name}" for owner, name, _ in values() if re.match(r"error", name)} == set()
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


def test_each_range_of_time_is_a_during() -> None:
    for owner, name, value in inputs():
        is_range = get_named_type(value.type).name == "DateTimeRangeInput"
        assert is_range == name.endswith("During"), f"{owner}.{name}"


def test_input_of_which_one_field_suffices_says_so_in_its_type() -> None:
    """An input that says `exactly one` is a @oneOf, so that a client's compiler refuses two."""
    said = {name for name, kind in INPUTS.items() if re.search(r"exactly one", kind.description or "")}
    assert said == {name for name, kind in INPUTS.items() if kind.is_one_of}


def test_guests_join_with_a_mutation_of_their_own() -> None:
    assert {"joinConsultation", "joinAsGuest"} <= MUTATIONS.keys()
    assert INPUTS["JoinConsultationInput"].fields.keys() == {"consultationId"}
    assert INPUTS["JoinAsGuestInput"].fields.keys() == {"invitation"}


# ---- 10: repeated calls


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_mutation_says_by_what_it_is_idempotent(name: str) -> None:
    assert re.search(r"Idempotent by [^.]+\.", MUTATIONS[name].description or "")


def test_mutation_that_makes_something_takes_an_idempotency_key() -> None:
    keyed = {
        name for name in MUTATIONS if "idempotencyKey" in INPUTS[f"{name[0].upper()}{name[1:]}Input"].fields
    }
    assert keyed == {
        *("inviteGuest", "startRecording", "recordConsent", "withdrawConsent"),
        *("correctTranscript", "attributeTurn", "askTranscript", "addAddendum", "exportAuditEvents"),
        "openBreachAssessment",
        *("writeSessionNote", "writePsychotherapyNote"),
        *("recordDisclosure", "suspendDisclosures"),
        *("requestAmendment", "recordAmendmentRequest"),
        *("shareConsultation", "recordSharingAuthorization"),
    }
    for name in keyed:
        assert "`idempotencyKey`" in (MUTATIONS[name].description or "")


# ---- 11: scalars


def test_own_scalars_name_their_specification() -> None:
    scalars = {name: kind for name, kind in OWN.items() if isinstance(kind, GraphQLScalarType)}
    assert scalars.keys() == {"BigInt", "Date", "DateTime", "URL"}
    assert {
        name for name, kind in scalars.items() if not (kind.specified_by_url or "").startswith("https://")
    } == set()


def test_addresses_are_urls_and_base64_is_named() -> None:
    for owner, name, kind in values():
        if name == "url" or (name.endswith("Url") and not isinstance(kind, GraphQLObjectType)):
            assert kind.name == "URL", f"{owner}.{name}"
    for owner, name in (("SubtitleUrls", "webvtt"), ("SubtitleUrls", "srt"), ("ThumbnailUrl", "jpeg")):
        assert str(OUTPUTS[owner].fields[name].type) == "String!", "relative to the address of the API"
    base64 = {name for _, name, field in output_fields() if "base64" in (field.description or "").lower()}
    assert base64 == {"pdfBase64"}


def test_what_is_issued_tells_how_long_it_is_valid() -> None:
    """Clocks differ, so a time alone does not say when a URL, a token or a secret ends."""
    issued = {name for name, kind in OUTPUTS.items() if "expiresInSeconds" in kind.fields}
    assert issued == {
        *(
            "DownloadUrl",
            "PlaybackUrl",
            "SubtitleUrls",
            "ThumbnailUrl",
            "ArchiveUrl",
            "JoinToken",
            "GuestInvitation",
            "RecordingImport",
        ),
    }
    for name in issued:
        assert str(OUTPUTS[name].fields["expiresInSeconds"].type) == "Int!", name
        assert str(OUTPUTS[name].fields["expiresAt"].type) == "DateTime!", name
    secrets = {
        owner
        for owner, name, kind in values()
        if owner in OUTPUTS and (kind.name == "URL" or name in {"token", "webvtt", "secret"})
    }
    assert secrets - issued == {"RevealAccessExportSecretPayload", "RevealAuditExportSecretPayload"}, (
        "the archive expires, not its secret"
    )


# ---- 12: descriptions


def _described() -> Iterator[tuple[str, str | None]]:
    for name, kind in OWN.items():
        yield name, kind.description
        for part, member in {**getattr(kind, "fields", {}), **getattr(kind, "values", {})}.items():
            yield f"{name}.{part}", member.description
            for argument, value in getattr(member, "args", {}).items():
                yield f"{name}.{part}({argument})", value.description


def test_everything_has_a_description_in_a_full_sentence() -> None:
    wrong = {
        place: f"{fault}: {text}"
        for place, text in _described()
        if (fault := fault_of(re.split(r"[.(]", place.rstrip(")"))[-1], text)) is not None
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("status", None),
        ("status", ""),
        ("status", "Status."),
        ("status", "this is the status of the recording."),
        ("status", "This is the status of the recording"),
        ("status", "The status of the recording."),
        ("status", "The status that the recording has now."),
        ("ground", "The ground on which the request was denied."),
        ("filter", "A filter for searches of transcripts."),
        ("reason", "Why the recording failed or ended too early."),
        ("startedAt", "When the video began, or null before that."),
        ("isHeld", "Whether a legal hold forbids the destruction."),
        ("sizeBytes", "These are the size bytes."),
        ("status", "This is the status of the recording. For compliance only."),
    ],
)
def test_bad_description_is_found(name: str, text: str | None) -> None:
    assert fault_of(name, text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "This is the status of the recording.",
        "Lists the calling doctor's recordings, newest first. Only doctors may call it.",
        "If it is omitted, the first page is returned.",
        "`recordConsent` returns this payload.",
        "Stops a recording. Idempotent by `recordingId`. Only doctors may call it.",
    ],
)
def test_full_sentence_is_no_bad_description(text: str) -> None:
    assert fault_of("status", text) is None


def test_every_root_field_says_who_may_call_it() -> None:
    who = re.compile(
        r"[^.]*\b(doctors|patients|compliance officers|everyone)\b[^.]* may call it\b", re.IGNORECASE
    )
    fields = QUERIES | MUTATIONS | SUBSCRIPTIONS
    assert {name for name, field in fields.items() if not who.search(field.description or "")} == set()


def test_every_argument_of_a_page_says_its_limit() -> None:
    most = {
        "BreachAssessment.patients": MOST_NESTED,
        "BreachAssessment.recordings": MOST_NESTED,
        "Consultation.recordings": MOST_NESTED,
        "Consultation.shares": MOST_NESTED,
        "Consultation.sharingAuthorizations": MOST_NESTED,
        "ReviewCase.events": MOST_NESTED,
        "Query.transcriptSearch": MOST_HITS,
    }
    for owner, name, value in inputs():
        if name == "first":
            limit = f"from 1 to {most.get(owner, MAX_PAGE_SIZE)}."
            assert limit in (value.description or ""), owner


# ---- Besides


def test_errors_are_described_by_the_schema() -> None:
    assert {name: str(field.type) for name, field in OUTPUTS["ErrorExtensions"].fields.items()} == {
        "code": "ErrorCode!",
        "reason": "ErrorReason",
        "retryable": "Boolean!",
        "requestId": "ID",
        "details": "ErrorDetails",
    }
    assert {name: str(field.type) for name, field in OUTPUTS["MissingConsent"].fields.items()} == {
        "participantId": "ID!",
        "role": "ParticipantRole!",
    }
    assert str(OUTPUTS["ErrorDetails"].fields["missing"].type) == "[MissingConsent!]"
    assert "BAD_USER_INPUT" not in ENUMS["ErrorCode"].values
    assert {"INVALID_INPUT", "CONFLICT", "FORBIDDEN", "NOT_FOUND"} <= ENUMS["ErrorCode"].values.keys()
    assert "CONSENT_MISSING" in ENUMS["ErrorReason"].values


def test_page_on_the_schema_explains_every_error_code() -> None:
    page = (ROOT / "docs" / "graphql.md").read_text(encoding="utf-8")
    assert {code for code in ENUMS["ErrorCode"].values if f"`{code}`" not in page} == set()


def test_blockers_and_deletion_are_told_before_the_button() -> None:
    consultation, recording = OUTPUTS["Consultation"].fields, OUTPUTS["Recording"].fields
    assert str(OUTPUTS["Participant"].fields["mustConsent"].type) == "Boolean!"
    assert str(consultation["recordingBlockers"].type) == "[RecordingBlocker!]!"
    assert {name: str(field.type) for name, field in OUTPUTS["RecordingBlocker"].fields.items()} == {
        "reason": "RecordingBlockerReason!",
        "participant": "Participant",
    }
    assert str(recording["deletion"].type) == "Deletion"
    assert str(recording["retentionEndsAt"].type) == "DateTime"
    assert str(recording["isHeld"].type) == "Boolean!"
    assert {"dueAt", "storage", "medium", "speakers"} & recording.keys() == set()


def test_parts_of_the_sound_are_media_files_of_their_recording() -> None:
    assert str(OUTPUTS["Recording"].fields["mediaFiles"].type) == "[MediaFile!]!"
    assert {name: str(value.type) for name, value in INPUTS["IssueDownloadUrlInput"].fields.items()} == {
        "recordingId": "ID!",
        "file": "ID",
        "purposeOfUse": "PurposeOfUse!",
    }


def test_compliance_names_patients_and_consultations_by_the_ids_that_it_knows() -> None:
    for by in ("PatientBy", "ConsultationBy"):
        assert {name: str(value.type) for name, value in INPUTS[by].fields.items()} == {
            "id": "ID",
            "externalId": "String",
        }
    takes = {f"{owner}.{name}": str(value.type) for owner, name, value in inputs()}
    assert takes["LegalHoldScopeInput.patient"] == "PatientBy"
    assert takes["LegalHoldScopeInput.consultation"] == "ConsultationBy"
    assert takes["RecordAccessRequestInput.patient"] == "PatientBy!"
    assert takes["RecordAccessRequestInput.consultation"] == "ConsultationBy"
    assert takes["RequestAccessInput.consultation"] == "ConsultationBy"
    assert takes["AuditEventFilter.patient"] == "PatientBy"
    assert takes["AuditEventFilter.consultation"] == "ConsultationBy"
    member = OUTPUTS["StaffMember"].fields
    assert (str(member["role"].type), str(member["status"].type)) == ("StaffRole!", "StaffStatus!")
    assert "Compliance officers" in (QUERIES["consultation"].description or "")


def test_filters_take_a_patient_and_a_range_of_time() -> None:
    taken = {
        name: {field: str(value.type) for field, value in INPUTS[name].fields.items()}
        for name in ("ConsultationFilter", "RecordingFilter", "TranscriptFilter")
    }
    assert all(one["patient"] == "PatientBy" for one in taken.values())
    assert taken["ConsultationFilter"]["scheduledDuring"] == "DateTimeRangeInput"
    assert taken["RecordingFilter"]["createdDuring"] == "DateTimeRangeInput"
    assert taken["RecordingFilter"]["consultation"] == "ConsultationBy"
    assert taken["TranscriptFilter"]["scheduledDuring"] == "DateTimeRangeInput"
    assert taken["TranscriptFilter"]["consultation"] == "ConsultationBy"


def test_subscriptions_say_that_subscribing_again_is_resuming() -> None:
    assert SUBSCRIPTIONS.keys() == {
        "consultationChanged",
        "recordingChanged",
        "recordingsChanged",
        "sessionNotesChanged",
    }
    assert SUBSCRIPTIONS["consultationChanged"].args.keys() == {"consultationId"}
    assert SUBSCRIPTIONS["recordingsChanged"].args.keys() == set()
    for name, field in SUBSCRIPTIONS.items():
        said = (field.description or "").replace("\n", " ")
        assert "first the present state, then each change" in said, name
        assert "resubscribing is resuming" in said, name


def test_highlights_of_a_search_are_parts_of_text() -> None:
    assert str(OUTPUTS["TranscriptHit"].fields["snippet"].type) == "[SnippetPart!]!"
    assert {name: str(field.type) for name, field in OUTPUTS["SnippetPart"].fields.items()} == {
        "text": "String!",
        "isMatch": "Boolean!",
    }


def test_earlier_consent_text_can_be_read_and_a_correction_names_the_text_that_it_replaces() -> None:
    assert QUERIES["consentText"].args.keys() == {"language", "version"}
    assert str(INPUTS["CorrectTranscriptInput"].fields["expectedText"].type) == "String"
    assert str(OUTPUTS["Patient"].fields["externalId"].type) == "String!"
    assert str(OUTPUTS["Consultation"].fields["patient"].type) == "Patient!"


def test_document_may_have_forty_fragments() -> None:
    assert Limits().fragments == 40


# ---- Kept on purpose


def test_pages_go_forward_only_and_are_not_counted() -> None:
    for name, kind in OUTPUTS.items():
        if name.endswith("Connection"):
            assert kind.fields.keys() == {"edges", "pageInfo"}, name
    assert {name for _, name, _ in inputs()} & {"last", "before"} == set()


def test_addresses_are_issued_by_mutations_and_the_transcript_is_one_field() -> None:
    issued = {name for name in MUTATIONS if name.startswith("issue")}
    assert issued == {
        "issueDownloadUrl",
        "issuePlaybackUrl",
        "issueSubtitleUrls",
        "issueThumbnailUrl",
        "issueAccessExportUrl",
        "issueAuditExportUrl",
    }
    assert str(OUTPUTS["Transcript"].fields["turns"].type) == "[Turn!]!"


def test_schema_is_no_part_of_a_federation() -> None:
    assert {"_service", "_entities"} & QUERIES.keys() == set()
    assert {one.name for one in SCHEMA.directives} <= {
        "skip",
        "include",
        "deprecated",
        "specifiedBy",
        "oneOf",
    }
