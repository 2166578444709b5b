"""Validates GraphQL documents, and caches the validation errors of the latest documents.

The key of a cache entry is the text of the document. The cache contains no variables and no results.
"""

from collections import OrderedDict
from collections.abc import Mapping

from graphql import (
    ASTValidationRule,
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    ProvidedRequiredArgumentsRule,
    ValuesOfCorrectTypeRule,
    specified_rules,
    validate,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule

from graphql_schema.error_masking import InvalidDocumentError
from graphql_schema.input_errors import InvalidLiteralError, PlacesOfLiterals, RequiredArguments

_MAX_ERRORS = 20
_REPLACED: Mapping[type[ASTValidationRule], type[ASTValidationRule]] = {
    ValuesOfCorrectTypeRule: PlacesOfLiterals,
    ProvidedRequiredArgumentsRule: RequiredArguments,
}


class ValidationCache:
    """A cache of the validation errors of the latest documents.

    Strawberry's own cache returns the same error objects to every request, and masking would change them.
    Strawberry's cache also never finds an entry if the validation rules are created anew for each request.
    """

    def __init__(self, size: int, *, allow_introspection: bool) -> None:
        self._size = size
        self._hide_suggestions = not allow_introspection
        self._rules: tuple[type[ASTValidationRule], ...] = (
            *(_REPLACED.get(rule, rule) for rule in specified_rules),
            MaybeNullValidationRule,
            *(() if allow_introspection else (NoSchemaIntrospectionCustomRule,)),
        )
        self._kept: OrderedDict[tuple[GraphQLSchema, str], list[GraphQLError]] = OrderedDict()

    def find_errors(self, schema: GraphQLSchema, query: str, document: DocumentNode) -> list[GraphQLError]:
        """Return the validation errors of a document. Each call returns new error objects, copied from the cache.
        `query` is its text.
        """
        key = (schema, query)
        if key not in self._kept:
            self._kept[key] = self._validate(schema, document)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return [_copy(error) for error in self._kept[key]]

    def _validate(self, schema: GraphQLSchema, document: DocumentNode) -> list[GraphQLError]:
        return validate(
            schema,
            document,
            self._rules,
            max_errors=_MAX_ERRORS,
            hide_suggestions=self._hide_suggestions,
        )


def _copy(error: GraphQLError) -> GraphQLError:
    """Return a copy of an error, because masking changes the error."""
    if isinstance(error, InvalidLiteralError):
        return InvalidLiteralError(error.refused, error.nodes)
    return InvalidDocumentError(error.message, nodes=error.nodes)
