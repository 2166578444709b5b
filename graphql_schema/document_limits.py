"""Limits the size of a document, and caches parsed documents and validation errors.

Tokens are limited during parsing. Operations, root fields, depth, aliases and cost are limited before validation,
because validation takes time that grows with them. The caches hold a bounded number of parsed documents and
validation errors by the text of the query, and never variables or results.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from graphql import (
    ASTValidationRule,
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    ValuesOfCorrectTypeRule,
    specified_rules,
    validate,
)
from strawberry.extensions import MaxTokensLimiter, ParserCache, SchemaExtension
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from app.errors import AppError
from app.postgres.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from graphql_schema.complexity import PageSizes, count_written, measure, operations_of
from graphql_schema.error_masking import InvalidDocumentError
from graphql_schema.input_errors import InvalidLiteralError, PlacesOfLiterals

_MAX_VALIDATION_ERRORS = 20
_LARGEST_TOLD = 1_000_000_000


class TooComplex(AppError):  # noqa: N818 - the kinds of AppError read as what happened
    """The operation exceeds a limit. `detail` contains the measured value and the limit."""

    code = "TOO_COMPLEX"


@dataclass(frozen=True)
class Limits:
    """The limits of one operation.

    Selections and fragments are counted as written, because some validation rules take time that grows with their
    square, before the token is checked.
    """

    tokens: int = 600
    selections: int = 200
    fragments: int = 10
    root_fields: int = 10
    depth: int = 12
    aliases: int = 30
    cost: int = 7500
    default_page_size: int = DEFAULT_PAGE_SIZE
    max_page_size: int = MAX_PAGE_SIZE
    cached_documents: int = 128


def limit_extensions(limits: Limits, *, allow_introspection: bool) -> list[Callable[[], SchemaExtension]]:
    """Return the extensions of one schema. Without introspection, error messages also suggest no names of the
    schema.
    """
    validations = _Validations(limits.cached_documents, allow_introspection=allow_introspection)
    return [
        lambda: MaxTokensLimiter(limits.tokens),
        lambda: ParserCache(limits.cached_documents),
        lambda: _Guard(limits, validations),
    ]


def find_excess(
    limits: Limits, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, object]
) -> TooComplex | None:
    """Return the first limit that a document exceeds. The document need not be valid. Never raises."""
    operations = len(operations_of(document))
    if operations != 1:
        return _over("too_many_operations", 1, count=operations) if operations else None
    excess = _written_excess(limits, document)
    if excess is not None:
        return excess
    try:
        page_sizes = PageSizes(default=limits.default_page_size, maximum=limits.max_page_size)
        found = measure(schema, document, variables, page_sizes)
    except RecursionError:
        return _over("too_deep", limits.depth, count=_LARGEST_TOLD)
    if found.fields > limits.root_fields:
        return _over("too_many_root_fields", limits.root_fields, count=found.fields)
    if found.depth > limits.depth:
        return _over("too_deep", limits.depth, count=found.depth)
    if found.aliases > limits.aliases:
        return _over("too_many_aliases", limits.aliases, count=found.aliases)
    if found.cost > limits.cost:
        return _over("too_costly", limits.cost, cost=found.cost)
    return None


def _written_excess(limits: Limits, document: DocumentNode) -> TooComplex | None:
    written = count_written(document)
    if written.fragments > limits.fragments:
        return _over("too_many_fragments", limits.fragments, count=written.fragments)
    if written.selections > limits.selections:
        return _over("too_many_selections", limits.selections, count=written.selections)
    return None


def _over(reason: str, limit: int, **found: int) -> TooComplex:
    return TooComplex(reason, limit=limit, **{key: min(value, _LARGEST_TOLD) for key, value in found.items()})


class _Guard(SchemaExtension):
    """Refuses documents above the limits, and then validates with the cache, in place of Strawberry's own
    validation.

    Strawberry skips its validation if errors are already set, even an empty list (schema/schema.py,
    `_run_validation`; 0.341.2).
    """

    def __init__(self, limits: Limits, validations: "_Validations") -> None:
        self._limits = limits
        self._validations = validations

    def on_validate(self) -> Iterator[None]:
        """Set the errors of the document."""
        context = self.execution_context
        schema = context.schema._schema  # noqa: SLF001 - Strawberry's own extensions reach it so; nothing else does
        document = context.graphql_document
        assert document is not None, "validation follows parsing"  # noqa: S101 - narrows the type
        variables = context.variables if isinstance(context.variables, Mapping) else {}
        excess = find_excess(self._limits, schema, document, variables)
        if excess is not None:
            context.pre_execution_errors = [GraphQLError(excess.reason, original_error=excess)]
        else:
            context.pre_execution_errors = self._validations.errors(schema, context.query or "", document)
        yield


class _Validations:
    """The validation errors of the latest documents.

    Strawberry's own cache returns the same error objects to every request, and masking would change them. It also
    misses whenever rules are created for each request.
    """

    def __init__(self, size: int, *, allow_introspection: bool) -> None:
        self._size = size
        self._hide_suggestions = not allow_introspection
        self._rules: tuple[type[ASTValidationRule], ...] = (
            *(PlacesOfLiterals if rule is ValuesOfCorrectTypeRule else rule for rule in specified_rules),
            MaybeNullValidationRule,
            OneOfInputValidationRule,
            *(() if allow_introspection else (NoSchemaIntrospectionCustomRule,)),
        )
        self._kept: OrderedDict[tuple[GraphQLSchema, str], list[GraphQLError]] = OrderedDict()

    def errors(self, schema: GraphQLSchema, query: str, document: DocumentNode) -> list[GraphQLError]:
        """Return the errors of a document as new objects at each call. `query` is its text."""
        key = (schema, query)
        if key not in self._kept:
            self._kept[key] = self._validate(schema, document)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return [_renewed(error) for error in self._kept[key]]

    def _validate(self, schema: GraphQLSchema, document: DocumentNode) -> list[GraphQLError]:
        return validate(
            schema,
            document,
            self._rules,
            max_errors=_MAX_VALIDATION_ERRORS,
            hide_suggestions=self._hide_suggestions,
        )


def _renewed(error: GraphQLError) -> GraphQLError:
    """Return a copy of an error, because masking changes the error."""
    if isinstance(error, InvalidLiteralError):
        return InvalidLiteralError(error.refused, error.nodes)
    return InvalidDocumentError(error.message, nodes=error.nodes)
