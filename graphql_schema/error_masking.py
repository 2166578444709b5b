"""Masks the errors of an operation for the client, and logs errors without data of people.

Every error of an operation passes through this module. For an AppError, the client receives a sentence in the
reader's language. Errors that graphql-core finds in a document reach the client. graphql-core puts the value of a
variable, a literal or a token into its messages (3.3.2, checked 2026-11-29). `input_errors.py` replaces the value
by its place, so that the client never receives the value. An error of any other kind is a bug: the client receives
a masked error, and the log contains the error's type and place. The log never contains the query, variables,
arguments or messages.
"""

import logging
import re
from collections.abc import Mapping

import strawberry
from graphql import GraphQLError, GraphQLSchema, GraphQLSyntaxError, VariableDefinitionNode
from strawberry.exceptions import StrawberryInputCoercionError
from strawberry.types import ExecutionContext

from app.errors import AppError, Timeout, UpstreamFailed, camel_case_keys, public_extensions
from app.failures import describe_failure
from app.texts import DEFAULT_LANGUAGE, LANGUAGES, Language, error_message
from graphql_schema.input_errors import InvalidLiteralError, Refused, bad_argument, bad_variable

logger = logging.getLogger(__name__)

_TOKEN_VALUE = re.compile(r"\b(Name|Int|Float|String|BlockString|Comment|sequence:) '.*'(?=\.?$)", re.DOTALL)
"""The value of a token at the end of graphql-core's message (3.3.2, language/parser.py, lexer.py)."""


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
            return self._as_written(error, "GRAPHQL_PARSE_FAILED")
        if isinstance(error, InvalidLiteralError):
            return _before_resolver(self._error(error, "INVALID_INPUT", *error.refused))
        if isinstance(error, InvalidDocumentError):
            return _before_resolver(self._as_written(error, "GRAPHQL_VALIDATION_FAILED"))
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

    def _as_written(self, error: GraphQLError, code: str) -> PublicError:
        extensions = {"code": code, "retryable": False, "requestId": self._request_id}
        return PublicError(
            _TOKEN_VALUE.sub(r"\1", error.message),
            nodes=error.nodes,
            source=error.source,
            positions=error.positions,
            extensions=extensions,
        )

    def _error(
        self, error: GraphQLError, code: str, reason: str | None, detail: Mapping[str, str | int]
    ) -> PublicError:
        extensions = camel_case_keys(detail)
        extensions |= {"code": code, "retryable": False, "requestId": self._request_id}
        if reason is not None:
            extensions["reason"] = reason
        message = error_message(code, reason, self._language, detail)
        return PublicError(message, nodes=error.nodes, path=error.path, extensions=extensions)


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
