"""Limits the size of a GraphQL document.

The number of tokens is limited during parsing. Operations, fragments, selections, root fields, depth and aliases
are limited before validation, because the time of validation grows with them. The pages are limited then too: a page
inside another entity (`Consultation.recordings`) contains no further page, and all pages of an operation together show
a limited number of objects. These limits bound the size of an answer.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import DocumentNode, GraphQLError, GraphQLSchema
from strawberry.extensions import ParserCache, SchemaExtension

from app.errors import AppError
from graphql_schema.document_sizes import list_operations, measure_operation, measure_written
from graphql_schema.page_sizes import measure_pages
from graphql_schema.validation_cache import ValidationCache

_LARGEST_COUNT = 1_000_000_000


class TooComplex(AppError):  # noqa: N818 - the kinds of AppError read as what happened
    """The GraphQL operation exceeds a limit on its size. The error's `detail` contains the measured value and the
    limit.
    """

    code = "TOO_COMPLEX"


@dataclass(frozen=True)
class Limits:
    """The limits on the size of one GraphQL operation.

    Fragments and selections are counted as the document contains them, because some validation rules take time that
    grows with the square of these counts. Selections are counted a second time, after each fragment spread is
    replaced by the fragment's content. `nested_pages` is how many pages may nest in one another below a root field, and
    `page_objects` is how many objects all pages of the operation may show.
    """

    tokens: int = 600
    selections: int = 260
    fragments: int = 40
    root_fields: int = 10
    depth: int = 12
    aliases: int = 30
    nested_pages: int = 1
    page_objects: int = 3000
    cached_documents: int = 128


def limit_extensions(limits: Limits, *, allow_introspection: bool) -> list[Callable[[], SchemaExtension]]:
    """Return the Strawberry extensions that enforce the limits in one schema. If introspection is not allowed,
    error messages also do not suggest names from the schema.
    """
    validations = ValidationCache(limits.cached_documents, allow_introspection=allow_introspection)
    return [
        lambda: _ParserOptions(limits.tokens),
        lambda: ParserCache(limits.cached_documents),
        lambda: _Guard(limits, validations),
    ]


def find_excess(limits: Limits, document: DocumentNode) -> TooComplex | None:
    """Return an error that names the first limit that a document exceeds, or None if it exceeds no limit. The
    document may contain validation errors. Never raises.
    """
    operations = len(list_operations(document))
    if operations != 1:
        return _excess("too_many_operations", 1, operations) if operations else None
    written = measure_written(document)
    if written.fragments > limits.fragments:
        return _excess("too_many_fragments", limits.fragments, written.fragments)
    if written.selections > limits.selections:
        return _excess("too_many_selections", limits.selections, written.selections)
    try:
        size = measure_operation(document)
    except RecursionError:
        return _excess("too_deep", limits.depth, _LARGEST_COUNT)
    for reason, limit, count in (
        ("too_many_root_fields", limits.root_fields, size.root_fields),
        ("too_deep", limits.depth, size.depth),
        ("too_many_aliases", limits.aliases, size.aliases),
        ("too_many_selections", limits.selections, size.selections),
    ):
        if count > limit:
            return _excess(reason, limit, count)
    return None


def find_page_excess(
    limits: Limits, document: DocumentNode, schema: GraphQLSchema, variables: Mapping[str, Any] | None
) -> TooComplex | None:
    """Return an error that names the limit on pages that a document exceeds, or None. The document must exceed no
    limit of `find_excess`, and may contain validation errors. Never raises.
    """
    if not list_operations(document):
        return None
    size = measure_pages(document, schema, variables)
    if size.depth > limits.nested_pages:
        return _excess("page_in_nested_page", limits.nested_pages, size.depth)
    if size.objects > limits.page_objects:
        return _excess("too_many_page_objects", limits.page_objects, size.objects)
    return None


def _excess(reason: str, limit: int, count: int) -> TooComplex:
    return TooComplex(reason, limit=limit, count=min(count, _LARGEST_COUNT))


class _ParserOptions(SchemaExtension):
    """Limits the number of tokens of a document, and refuses empty selection sets, as the specification does."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    def on_operation(self) -> Iterator[None]:
        """Set the options before the document is parsed."""
        options = self.execution_context.parse_options
        options["max_tokens"] = self._tokens
        options["allow_empty_selection_sets"] = False  # type: ignore[typeddict-unknown-key]
        yield


class _Guard(SchemaExtension):
    """Refuses documents that exceed a limit, and validates all other documents with the cache. This extension
    replaces Strawberry's own validation of documents.

    Strawberry skips its validation if errors are already set, even an empty list (schema/schema.py,
    `_run_validation`; 0.341.2).
    """

    def __init__(self, limits: Limits, validations: ValidationCache) -> None:
        self._limits = limits
        self._validations = validations

    def on_validate(self) -> Iterator[None]:
        """Store the limit that the document exceeds, or its validation errors, in Strawberry's execution context."""
        context = self.execution_context
        schema = context.schema._schema  # noqa: SLF001 - Strawberry's own extensions reach it so; nothing else does
        document = context.graphql_document
        assert document is not None, "validation follows parsing"  # noqa: S101 - narrows the type
        excess = find_excess(self._limits, document) or find_page_excess(
            self._limits, document, schema, context.variables
        )
        if excess is not None:
            context.pre_execution_errors = [GraphQLError(excess.reason, original_error=excess)]
        else:
            context.pre_execution_errors = self._validations.find_errors(
                schema, context.query or "", document
            )
        yield
