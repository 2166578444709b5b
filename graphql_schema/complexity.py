"""Computes the cost of an operation from its text, before it is executed.

A field costs 1. A connection (a field with the argument `first`) multiplies the cost of its selection by its page
size. A fragment costs as much as its fields, each alias counts as a field, and `@skip` or `@include` save nothing.
Each fragment is measured once, so fragments that double each other cost no time. Strawberry's own limiters for
depth and aliases (0.341.2, checked 2026-11-21) visit a fragment again at each spread, which is exponential, and
fail on unknown fragments. Documents need not be valid. Introspection counts as one field.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from graphql import (
    DocumentNode,
    ExecutableDefinitionNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    NullValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
)

PAGE_SIZE_ARGUMENT = "first"
LIST_SIZES: Final[Mapping[str, int]] = {"Recording.speakers": 4}
"""Lists without a page size. Each multiplies the cost of its selection by this many items."""

_MAX_DIGITS = 9


@dataclass(frozen=True)
class Complexity:
    """The sums over a selection set. `depth` counts levels of fields, and `fields` those of the first level."""

    cost: int = 0
    depth: int = 0
    aliases: int = 0
    fields: int = 0

    def __add__(self, other: "Complexity") -> "Complexity":
        """Return the sum of two selections side by side."""
        return Complexity(
            self.cost + other.cost,
            max(self.depth, other.depth),
            self.aliases + other.aliases,
            self.fields + other.fields,
        )


@dataclass(frozen=True)
class PageSizes:
    """The page size of a connection without `first`, and the maximum. Services refuse a larger page."""

    default: int
    maximum: int


@dataclass(frozen=True)
class Written:
    """The counts of a document as written: selections of every kind, and fragment definitions."""

    selections: int
    fragments: int


def count_written(document: DocumentNode) -> Written:
    """Count without following spreads and without recursion."""
    sets = [node.selection_set for node in document.definitions if isinstance(node, ExecutableDefinitionNode)]
    selections = 0
    while sets:
        for selection in sets.pop().selections:
            selections += 1
            if isinstance(selection, (FieldNode, InlineFragmentNode)) and selection.selection_set is not None:
                sets.append(selection.selection_set)
    fragments = sum(isinstance(node, FragmentDefinitionNode) for node in document.definitions)
    return Written(selections, fragments)


def operations_of(document: DocumentNode) -> list[OperationDefinitionNode]:
    """Return the operations of a document in order."""
    return [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]


def measure(
    schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, object], page_sizes: PageSizes
) -> Complexity:
    """Return the complexity of a document's first operation, for raw variables.

    Raises RecursionError if the nesting exceeds Python's limit.
    """
    operation = operations_of(document)[0]
    return _Surveyor(schema, document, operation, variables, page_sizes).selection_set(
        operation.selection_set, schema.get_root_type(operation.operation)
    )


class _Surveyor:
    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        variables: Mapping[str, object],
        page_sizes: PageSizes,
    ) -> None:
        self._schema = schema
        self._variables = variables
        self._page_sizes = page_sizes
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._defaults = {
            node.variable.name.value: node.default_value for node in operation.variable_definitions or ()
        }
        self._measured: dict[str, Complexity] = {}

    def selection_set(self, node: SelectionSetNode | None, parent: GraphQLNamedType | None) -> Complexity:
        total = Complexity()
        for selection in node.selections if node is not None else ():
            total += self._selection(selection, parent)
        return total

    def _selection(self, node: SelectionNode, parent: GraphQLNamedType | None) -> Complexity:
        if isinstance(node, FieldNode):
            return self._field(node, parent)
        if isinstance(node, FragmentSpreadNode):
            return self._fragment(node.name.value)
        if isinstance(node, InlineFragmentNode):
            condition = node.type_condition
            return self.selection_set(
                node.selection_set,
                parent if condition is None else self._schema.get_type(condition.name.value),
            )
        return Complexity()

    def _fragment(self, name: str) -> Complexity:
        if name not in self._measured:
            self._measured[name] = Complexity()
            fragment = self._fragments.get(name)
            if fragment is not None:
                condition = self._schema.get_type(fragment.type_condition.name.value)
                self._measured[name] = self.selection_set(fragment.selection_set, condition)
        return self._measured[name]

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None) -> Complexity:
        aliases = 0 if node.alias is None else 1
        if node.name.value.startswith("__"):
            return Complexity(cost=1, depth=1, aliases=aliases, fields=1)
        definition = _definition(node, parent)
        below = self.selection_set(
            node.selection_set, None if definition is None else get_named_type(definition.type)
        )
        return Complexity(
            cost=1 + self._page_size(node, definition, parent) * below.cost,
            depth=1 + below.depth,
            aliases=aliases + below.aliases,
            fields=1,
        )

    def _page_size(
        self, node: FieldNode, definition: GraphQLField | None, parent: GraphQLNamedType | None
    ) -> int:
        if definition is None or PAGE_SIZE_ARGUMENT not in definition.args:
            return 1 if parent is None else LIST_SIZES.get(f"{parent.name}.{node.name.value}", 1)
        given = [arg.value for arg in node.arguments or () if arg.name.value == PAGE_SIZE_ARGUMENT]
        return max((self._literal(value) for value in given), default=self._page_sizes.default)

    def _literal(self, value: ValueNode | None) -> int:
        if value is None or isinstance(value, NullValueNode):
            return self._page_sizes.default
        if isinstance(value, IntValueNode):
            return (
                self._bounded(int(value.value))
                if len(value.value) <= _MAX_DIGITS
                else self._page_sizes.maximum
            )
        if isinstance(value, VariableNode):
            return self._variable(value.name.value)
        return self._page_sizes.maximum

    def _variable(self, name: str) -> int:
        if name not in self._variables:
            default = self._defaults.get(name)
            return self._page_sizes.maximum if isinstance(default, VariableNode) else self._literal(default)
        value = self._variables[name]
        if value is None:
            return self._page_sizes.default
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self._page_sizes.maximum
        if isinstance(value, float) and not math.isfinite(value):
            return self._page_sizes.maximum
        return self._bounded(int(value))

    def _bounded(self, first: int) -> int:
        """Return the page size that is counted. An invalid size counts as the maximum, because the service refuses
        it later.
        """
        return max(1, first) if 0 <= first <= self._page_sizes.maximum else self._page_sizes.maximum


def _definition(node: FieldNode, parent: GraphQLNamedType | None) -> GraphQLField | None:
    if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType):
        definition: GraphQLField | None = parent.fields.get(node.name.value)
        return definition
    return None
