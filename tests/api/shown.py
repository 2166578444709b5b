"""Finds the objects that an answer of the API shows, in order to compare them with the audit row of the answer."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    build_schema,
    get_named_type,
    parse,
)

from tests.api.harness import Answer

_SCHEMA = build_schema(
    (Path(__file__).parent.parent.parent / "graphql_schema" / "schema.graphql").read_text(encoding="utf-8")
)
_ENTITY_TYPES = {
    "AccessRequest": "access_request",
    "Alert": "alert",
    "Attestation": "attestation",
    "AuditExport": "audit_export",
    "AccountingRequest": "accounting_request",
    "Amendment": "amendment",
    "Disclosure": "disclosure",
    "ReleasedCopy": "audit_event",
    "DisclosureSuspension": "disclosure_suspension",
    "WebhookDelivery": "webhook_delivery",
    "VendorAgreement": "vendor_agreement",
    "BreachAssessment": "breach_assessment",
    "BreachRecording": "recording",
    "Consent": "consent",
    "Consultation": "consultation",
    "Deletion": "deletion",
    "Insights": "insights",
    "LegalHold": "legal_hold",
    "MediaFile": "recording",
    "Participant": "participant",
    "Patient": "patient",
    "Recording": "recording",
    "RecordingImport": "recording_import",
    "ReviewCase": "review_case",
    "ReviewCaseEvent": "audit_event",
    "Sanction": "sanction",
    "SessionNote": "session_note",
    "SignedNote": "signed_note",
    "Transcript": "transcript",
}
"""The entity type in audit rows of each type of the schema that audit rows name."""

Shown = dict[str, set[str]]


def shown_in(answer: Answer) -> Shown:
    """Return the ids of all objects in an answer by their entity types. The document must select the `id` of each
    object.
    """
    return shown_by(answer.document, answer.data)


def shown_by(document: str, data: Mapping[str, Any]) -> Shown:
    """Return the same for the `data` of an answer to this document, such as one event of a subscription."""
    walk = _Walk(document)
    walk.visit(walk.root, walk.operation.selection_set, data)
    return dict(walk.shown)


def named_in(row: Mapping[str, Any]) -> Shown:
    """Return the ids that a row of audit.events names, by their entity types."""
    named = {one["type"]: set(one["ids"]) for one in row["entities"]}
    assert len(named) == len(row["entities"]), "the audit row names a type twice"
    return {entity_type: ids for entity_type, ids in named.items() if ids}


class _Walk:
    def __init__(self, document: str) -> None:
        definitions = parse(document).definitions
        self.operation = next(one for one in definitions if isinstance(one, OperationDefinitionNode))
        self._fragments = {
            one.name.value: one.selection_set
            for one in definitions
            if isinstance(one, FragmentDefinitionNode)
        }
        root = _SCHEMA.get_root_type(self.operation.operation)
        assert root is not None
        self.root = root
        self.shown: defaultdict[str, set[str]] = defaultdict(set)

    def visit(self, kind: GraphQLObjectType, selections: SelectionSetNode, value: Any) -> None:
        """Collect the ids of a value, which is an object of the given type, a list of such objects, or null."""
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            for node in selections.selections:
                if isinstance(node, FieldNode):
                    self._visit_field(kind, node, one)
                elif isinstance(node, FragmentSpreadNode):
                    self.visit(kind, self._fragments[node.name.value], one)
                elif isinstance(node, InlineFragmentNode):
                    self.visit(kind, node.selection_set, one)

    def _visit_field(self, kind: GraphQLObjectType, node: FieldNode, value: Mapping[str, Any]) -> None:
        key = node.alias.value if node.alias else node.name.value
        if key not in value or node.name.value == "__typename":
            return
        if node.name.value == "id" and kind.name in _ENTITY_TYPES:
            self.shown[_ENTITY_TYPES[kind.name]].add(value[key])
        below = get_named_type(kind.fields[node.name.value].type)
        if node.selection_set is not None and isinstance(below, GraphQLObjectType):
            self.visit(below, node.selection_set, value[key])
