"""Masks the errors of an operation for the client, and logs errors without data of people.

Every error of an operation passes through this module. For an AppError, the client receives a sentence in the
reader's language. graphql-core puts the value of a variable, a literal or a token into its messages (3.3.2, checked
2026-11-29), so no message of its parsers reaches the client. `input_errors.py` describes a bad value by its place.
Only the messages of the validation rules reach the client, because they contain only names. An error of any other
kind is a bug: the client receives a masked error, and the log contains the error's type and place. The log never
contains the query, variables, arguments or messages.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

import strawberry
from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLSchema,
    GraphQLSyntaxError,
    VariableDefinitionNode,
)
from strawberry.exceptions import StrawberryInputCoercionError
from strawberry.types import ExecutionContext

from app.errors import AppError, DetailValue, Timeout, UpstreamFailed
from app.failures import describe_failure
from app.public_errors import build_extensions, public_extensions
from app.texts import DEFAULT_LANGUAGE, LANGUAGES, Language, error_message
from graphql_schema.input_errors import InvalidLiteralError, Refused, bad_argument, bad_variable

_TOO_MANY_TOKENS: Final = re.compile(r"Document contains more than (\d+) tokens\. Parsing aborted\.$")
_TOO_NESTED: Final = "Document is nested too deeply. Parsing aborted."
logger = logging.getLogger(__name__)


class PublicError(GraphQLError):
    """An error in the form that the client may see. `is_before_resolver` means that no resolver ran for the error's
    field, so that no service has checked the caller.
    """

    is_before_resolver = False


class InvalidDocumentError(GraphQLError):
    """A GraphQL document breaks a validation rule. The error contains no variables, because validation does not
    read them.
    """


class MaskedSchema(strawberry.Schema):
    """A GraphQL schema that masks errors for the client and writes only ids to the log.

    The context of an operation should have `language` and `request_id`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind in self._schema.type_map.values():
            if isinstance(kind, GraphQLInputObjectType):
                definition = kind.extensions.get("strawberry-definition")
                # Strawberry tells graphql-core nothing of @oneOf and refuses such input by itself, too late to
                # name its place (0.341.2)
                kind.is_one_of = bool(getattr(definition, "is_one_of", False))

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Replace the errors in the list by public errors. Strawberry's own `process_errors` would log the query."""
        context = execution_context.context if execution_context is not None else None
        language = getattr(context, "language", None)
        request_id = getattr(context, "request_id", None)
        reader = _Reader(self._schema, language if language in LANGUAGES else DEFAULT_LANGUAGE, request_id)
        errors[:] = [reader.public(error) for error in errors]


class _Reader:
    """Converts errors to the form that one client may see, with the client's language and request id. The log line
    contains the same request id as the client's masked error.
    """

    def __init__(self, schema: GraphQLSchema, language: Language, request_id: object) -> None:
        self._schema = schema
        self._language = language
        self._request_id = None if request_id is None else str(request_id)

    def public(self, error: GraphQLError) -> GraphQLError:
        """Return the error in the form that the client may see."""
        if isinstance(error, PublicError):
            return error
        if isinstance(error, GraphQLSyntaxError):
            return self._error(error, *_as_parsed(error))
        if isinstance(error, InvalidLiteralError):
            return _before_resolver(self._error(error, "INVALID_INPUT", *error.refused))
        if isinstance(error, InvalidDocumentError):
            return _before_resolver(self._as_validated(error))
        cause = _root_cause(error)
        if isinstance(cause, AppError) and type(cause) is not AppError:
            public = self._app_error(error, cause)
            return _before_resolver(public) if cause.code == "TOO_COMPLEX" else public
        bad_input = _bad_input(self._schema, error, cause)
        if bad_input is not None:
            return _before_resolver(self._error(error, "INVALID_INPUT", *bad_input))
        logger.error("operation failed: request=%s %s", self._request_id, describe_failure(cause or error))
        return self._error(error, "INTERNAL", None, {})

    def _app_error(self, error: GraphQLError, cause: AppError) -> PublicError:
        if isinstance(cause, UpstreamFailed | Timeout):
            logger.warning("%s: request=%s %s", cause.summary, self._request_id, describe_failure(cause))
        message = error_message(cause.code, cause.reason, self._language, cause.detail)
        extensions = public_extensions(cause, self._request_id)
        return PublicError(message, nodes=error.nodes, path=error.path, extensions=extensions)

    def _as_validated(self, error: InvalidDocumentError) -> PublicError:
        extensions = build_extensions("GRAPHQL_VALIDATION_FAILED", request_id=self._request_id)
        return PublicError(error.message, nodes=error.nodes, extensions=extensions)

    def _error(
        self, error: GraphQLError, code: str, reason: str | None, detail: Mapping[str, DetailValue]
    ) -> PublicError:
        message = error_message(code, reason, self._language, detail)
        extensions = build_extensions(code, reason, request_id=self._request_id, detail=detail)
        return PublicError(
            message,
            nodes=error.nodes,
            source=error.source,
            positions=error.positions,
            path=error.path,
            extensions=extensions,
        )


def _as_parsed(error: GraphQLSyntaxError) -> tuple[str, str, dict[str, DetailValue]]:
    """Return the code, the reason and the detail of an error of the parser. The parser reports a document that is too
    large as a syntax error (graphql-core 3.3.2, language/parser.py).
    """
    many = _TOO_MANY_TOKENS.search(error.message)
    if many is not None:
        return "TOO_COMPLEX", "too_many_tokens", {"limit": int(many[1])}
    if _TOO_NESTED in error.message:
        return "TOO_COMPLEX", "nested_too_deep", {}
    return "GRAPHQL_PARSE_FAILED", "bad_syntax", {}


def _before_resolver(error: PublicError) -> PublicError:
    error.is_before_resolver = True
    return error


def _root_cause(error: GraphQLError) -> Exception | None:
    """Return the exception that GraphQL's errors wrap, or None if GraphQL itself raised the error."""
    current: Exception | None = error
    while isinstance(current, GraphQLError):
        if isinstance(current, StrawberryInputCoercionError):
            return current
        current = current.original_error
    return current


def _bad_input(schema: GraphQLSchema, error: GraphQLError, cause: Exception | None) -> Refused | None:
    """Return the reason and detail of an error about an invalid input value, or None for any other error."""
    node = error.nodes[0] if error.nodes else None
    if error.path is None and isinstance(node, VariableDefinitionNode):
        return bad_variable(schema, error, node)
    if error.path is None and cause is None:
        return "bad_input", {}
    if isinstance(cause, StrawberryInputCoercionError):
        return "bad_input", {}
    return bad_argument(error.message) if isinstance(error.original_error, GraphQLError) else None
