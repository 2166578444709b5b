"""Counts the objects that the pages of a GraphQL document can show, and how deep the pages nest.

The objects of a page inside another entity (`Consultation.recordings`) are counted once for each object around the
page: `consultations(first: 50)` with `recordings(first: 10)` on each consultation counts as 50 + 50 * 10 objects. A
field with an alias is counted like a field without an alias, and a field with `@skip` or `@include` like a field
without a directive. A page size of the variables is the value that the client sent. An invalid page size counts as the
largest page, and the API refuses it later.

The measured document may contain validation errors. Its size must be limited already. Each fragment is measured once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    NullValueNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_nullable_type,
    is_list_type,
)
from graphql.utilities import get_default_value_ast

from app.postgres.composer import MOST_NESTED
from app.postgres.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from graphql_schema.document_sizes import list_operations
from graphql_schema.selected_fields import PAGED

_LONGEST_NUMBER: Final = 9


@dataclass(frozen=True)
class PageSize:
    """The size of the pages in a selection set: `objects` is how many objects the pages can show in total, and
    `depth` is how many pages nest in one another.
    """

    objects: int = 0
    depth: int = 0

    def __add__(self, other: "PageSize") -> "PageSize":
        """Return the size of a selection set that contains the pages of two measured sets."""
        return PageSize(self.objects + other.objects, max(self.depth, other.depth))


def measure_pages(
    document: DocumentNode, schema: GraphQLSchema, variables: Mapping[str, Any] | None
) -> PageSize:
    """Measure the pages of the first operation of a document. The depth does not include the pages of the root
    fields.
    """
    (operation, *_) = list_operations(document)
    defaults = {
        one.variable.name.value: one.default_value
        for one in operation.variable_definitions or ()
        if one.default_value is not None
    }
    fragments = {
        node.name.value: node.selection_set
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode)
    }
    measurement = _Measurement(
        schema.get_root_type(operation.operation), variables or {}, defaults, fragments
    )
    return measurement.measure(operation.selection_set, is_root=True)


class _Measurement:
    def __init__(
        self,
        root: GraphQLObjectType | None,
        variables: Mapping[str, Any],
        defaults: Mapping[str, ValueNode],
        fragments: Mapping[str, SelectionSetNode],
    ) -> None:
        self._root_fields = root.fields if root is not None else {}
        self._variables = variables
        self._defaults = defaults
        self._fragments = fragments
        self._measured: dict[tuple[str, bool], PageSize] = {}

    def measure(self, node: SelectionSetNode | None, *, is_root: bool = False) -> PageSize:
        total = PageSize()
        for selection in node.selections if node is not None else ():
            if isinstance(selection, FieldNode):
                total += self._measure_root(selection) if is_root else self._measure_field(selection)
            elif isinstance(selection, FragmentSpreadNode):
                total += self._measure_fragment(selection.name.value, is_root=is_root)
            elif isinstance(selection, InlineFragmentNode):
                total += self.measure(selection.selection_set, is_root=is_root)
        return total

    def _measure_root(self, node: FieldNode) -> PageSize:
        below = self.measure(node.selection_set)
        field = self._root_fields.get(node.name.value)
        if field is None:
            return below
        if "first" in field.args:
            default = _int_of(get_default_value_ast(field.args["first"]))
            first = self._page_size(node, default, MAX_PAGE_SIZE)
        elif is_list_type(get_nullable_type(field.type)):
            first = MAX_PAGE_SIZE
        else:
            return below
        return PageSize(first * (1 + below.objects), below.depth)

    def _measure_field(self, node: FieldNode) -> PageSize:
        below = self.measure(node.selection_set)
        if node.name.value not in PAGED:
            return below
        first = self._page_size(node, DEFAULT_PAGE_SIZE, MOST_NESTED)
        return PageSize(first * (1 + below.objects), 1 + below.depth)

    def _measure_fragment(self, name: str, *, is_root: bool) -> PageSize:
        """Return the size of a fragment. A fragment that the document does not define, or that contains itself, has
        no pages.
        """
        key = (name, is_root)
        if key not in self._measured:
            self._measured[key] = PageSize()
            self._measured[key] = self.measure(self._fragments.get(name), is_root=is_root)
        return self._measured[key]

    def _page_size(self, node: FieldNode, default: object, most: int) -> int:
        """Return the size of the page that a field asks for, from 0 to `most`."""
        given = next((one.value for one in node.arguments or () if one.name.value == "first"), None)
        value = self._value(given, default)
        if isinstance(value, float) and value.is_integer():  # JSON may spell 5 as 5.0
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return most
        return max(0, min(value, most))

    def _value(self, node: ValueNode | None, default: object) -> object:
        if isinstance(node, VariableNode):
            name = node.name.value
            if name in self._variables:
                return self._variables[name]
            node = self._defaults.get(name)
        if node is None or isinstance(node, NullValueNode):
            return default
        return _int_of(node)


def _int_of(node: ValueNode | None) -> int | None:
    """Return the value of a whole number in a document, or None for any other value."""
    if isinstance(node, IntValueNode) and len(node.value) <= _LONGEST_NUMBER:
        return int(node.value)
    return None
