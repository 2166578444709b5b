"""Measures the size of a GraphQL document, before and after each fragment spread is replaced by the fragment's
content.

A measured document may contain validation errors. Each fragment is measured once, so nested fragments do not
multiply the time that the measurement takes. Each alias is counted, and a field with `@skip` or `@include` is
counted like a field without a directive. A field of introspection counts as one field, whatever it contains.
Strawberry's own limiters of depth and aliases (0.341.2, checked 2026-11-21) measure a fragment again at each
spread, which takes exponential time. Strawberry's limiters also raise an error if a document spreads a fragment
that it does not define.
"""

from dataclasses import dataclass

from graphql import (
    DocumentNode,
    ExecutableDefinitionNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)


@dataclass(frozen=True)
class WrittenSize:
    """The size of a document as the client wrote it: the number of selections of every kind, and of fragment
    definitions.
    """

    selections: int
    fragments: int


@dataclass(frozen=True)
class OperationSize:
    """The size of a selection set after each fragment spread is replaced by the fragment's content.

    `selections` counts the fields of all levels, `root_fields` counts the fields of the first level, and `depth`
    counts the levels.
    """

    selections: int = 0
    root_fields: int = 0
    depth: int = 0
    aliases: int = 0

    def __add__(self, other: "OperationSize") -> "OperationSize":
        """Return the size of a selection set that contains the selections of two measured sets."""
        return OperationSize(
            self.selections + other.selections,
            self.root_fields + other.root_fields,
            max(self.depth, other.depth),
            self.aliases + other.aliases,
        )


def list_operations(document: DocumentNode) -> list[OperationDefinitionNode]:
    """Return the operations of a document in order."""
    return [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]


def measure_written(document: DocumentNode) -> WrittenSize:
    """Measure a document as the client wrote it. The function does not follow fragment spreads and does not
    recurse.
    """
    sets = [node.selection_set for node in document.definitions if isinstance(node, ExecutableDefinitionNode)]
    selections = 0
    while sets:
        for selection in sets.pop().selections:
            selections += 1
            if isinstance(selection, (FieldNode, InlineFragmentNode)) and selection.selection_set is not None:
                sets.append(selection.selection_set)
    fragments = sum(isinstance(node, FragmentDefinitionNode) for node in document.definitions)
    return WrittenSize(selections, fragments)


def measure_operation(document: DocumentNode) -> OperationSize:
    """Measure the first operation of a document. Raises RecursionError if the nesting exceeds Python's limit."""
    fragments = {
        node.name.value: node.selection_set
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode)
    }
    return _Measurement(fragments).measure(list_operations(document)[0].selection_set)


class _Measurement:
    def __init__(self, fragments: dict[str, SelectionSetNode]) -> None:
        self._fragments = fragments
        self._measured: dict[str, OperationSize] = {}

    def measure(self, node: SelectionSetNode | None) -> OperationSize:
        total = OperationSize()
        for selection in node.selections if node is not None else ():
            if isinstance(selection, FieldNode):
                total += self._measure_field(selection)
            elif isinstance(selection, FragmentSpreadNode):
                total += self._measure_fragment(selection.name.value)
            elif isinstance(selection, InlineFragmentNode):
                total += self.measure(selection.selection_set)
        return total

    def _measure_field(self, node: FieldNode) -> OperationSize:
        is_introspection = node.name.value.startswith("__")
        below = OperationSize() if is_introspection else self.measure(node.selection_set)
        aliases = below.aliases + (node.alias is not None)
        return OperationSize(1 + below.selections, root_fields=1, depth=1 + below.depth, aliases=aliases)

    def _measure_fragment(self, name: str) -> OperationSize:
        """Return the size of a fragment. A fragment that the document does not define, or that contains itself, has
        size zero.
        """
        if name not in self._measured:
            self._measured[name] = OperationSize()
            self._measured[name] = self.measure(self._fragments.get(name))
        return self._measured[name]
