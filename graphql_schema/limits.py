"""What a document may ask for at most, and the caches that make documents cheap.

Tokens are limited while the document is parsed; operations, root fields, depth, aliases and cost before it is
validated, since validation takes time that grows with them. Cached are parsed documents and their validation errors,
by the text of the query, a bounded number of each; never variables or results.
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
from app.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from graphql_schema.complexity import PageSizes, count_written, measure, operations_of
from graphql_schema.errors import InvalidDocumentError
from graphql_schema.input_errors import InvalidLiteralError, PlacesOfLiterals

_MAX_VALIDATION_ERRORS = 20
_LARGEST_TOLD = 1_000_000_000


class TooComplex(AppError):  # noqa: N818 - the kinds of AppError read as what happened
    """The operation asks for more than its limits allow; `detail` says how much, and the limit."""

    code = "TOO_COMPLEX"


@dataclass(frozen=True)
class Limits:
    """The limits of one operation.

    Selections and fragments are counted as they are written: some rules of validation take time that grows with the
    square of them, before anybody is asked for a token.
    """

    tokens: int = 600
    selections: int = 200
    fragments: int = 10
    root_fields: int = 10
    depth: int = 12
    aliases: int = 30
    cost: int = 5000
    default_page_size: int = DEFAULT_PAGE_SIZE
    max_page_size: int = MAX_PAGE_SIZE
    cached_documents: int = 128


def limit_extensions(limits: Limits, *, allow_introspection: bool) -> list[Callable[[], SchemaExtension]]:
    """The extensions of one schema. Without introspection, error messages suggest no names of the schema either."""
    validations = _Validations(limits.cached_documents, allow_introspection=allow_introspection)
    return [
        lambda: MaxTokensLimiter(limits.tokens),
        lambda: ParserCache(limits.cached_documents),
        lambda: _Guard(limits, validations),
    ]


def find_excess(
    limits: Limits, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, object]
) -> TooComplex | None:
    """The first limit that a document is over; it need not be valid. Never raises."""
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
    """Refuses what is over the limits, then validates by the cache, in the place of Strawberry's own validation.

    Strawberry skips its validation where errors, even none, are already set (schema/schema.py, `_run_validation`;
    0.341.2).
    """

    def __init__(self, limits: Limits, validations: "_Validations") -> None:
        self._limits = limits
        self._validations = validations

    def on_validate(self) -> Iterator[None]:
        """Sets the errors of the document."""
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

    Strawberry's cache returns the same error objects to every request, and masking would change them; its rules that
    are made for each request make it miss.
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
        """The errors of a document, new ones at each call; `query` is its text."""
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
    """The same error once more, since masking changes it."""
    if isinstance(error, InvalidLiteralError):
        return InvalidLiteralError(error.refused, error.nodes)
    return InvalidDocumentError(error.message, nodes=error.nodes)
