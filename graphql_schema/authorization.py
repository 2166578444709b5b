"""Checks permissions before input errors are returned, so that only permitted callers see errors about the input.

The library graphql-core refuses an invalid document, variable or argument before any resolver runs, before any
service has checked the caller. If an operation has an input error, this extension checks the permission that each
of its root fields declares. If the caller lacks a permission, the extension writes an audit row and replaces the
input error by a refusal. If graphql-core executed the operation and refused only the arguments of one root field,
the answer keeps what the other root fields returned.
"""

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
)
from graphql import ExecutionResult as GraphQLExecutionResult
from strawberry.extensions import SchemaExtension
from strawberry.types import StreamExecutionResult
from strawberry.types.execution import ExecutionResult
from strawberry.types.graphql import OperationType

from app.errors import AppError, InvalidInput
from app.identity.permissions import Permission
from graphql_schema.context import Context
from graphql_schema.document_limits import Limits
from graphql_schema.error_masking import MaskedSchema, PublicError
from graphql_schema.root_fields import permission_of, run_to_end


@dataclass(frozen=True)
class _Root:
    """A root field that a GraphQL document selects, with the permission that the field declares."""

    node: FieldNode
    key: str
    permission: Permission


class AuthorizationFirst(SchemaExtension):
    """Replaces the input errors of an operation by refusals, if the caller lacks a permission that its root fields
    declare.
    """

    async def on_operation(self) -> AsyncIterator[None]:
        """Check the permissions of a query or a mutation after its execution, before its result is sent."""
        yield
        result = self.execution_context.result
        if (
            isinstance(result, ExecutionResult | GraphQLExecutionResult)
            and result.errors
            and self.execution_context.graphql_document is not None
            and self.execution_context.operation_type is not OperationType.SUBSCRIPTION
        ):
            await self._authorize(result)

    async def on_stream_result(self, result: StreamExecutionResult) -> AsyncIterator[None]:
        """Check the permissions of a subscription before each of its results is sent. Strawberry runs no field
        extension around a subscription (0.341.2), so this method also handles input errors of its resolver.
        """
        if isinstance(result, ExecutionResult | GraphQLExecutionResult) and result.errors:
            await self._authorize(result, (InvalidInput.code,))
        yield

    async def _authorize(
        self, result: ExecutionResult | GraphQLExecutionResult, codes: Collection[str] = ()
    ) -> None:
        context, document = self.execution_context.context, self.execution_context.graphql_document
        errors = [
            error
            for error in result.errors or ()
            if len(error.path or ()) <= 1
            and isinstance(error, PublicError)
            and (error.is_before_resolver or (error.extensions or {}).get("code") in codes)
        ]
        if not errors or document is None or not isinstance(context, Context):
            return
        keys = {_key(error) for error in errors}
        refusals = [
            refusal
            for root in self._roots(document)
            if None in keys or root.key in keys
            if (refusal := await run_to_end(_refusal(context, root))) is not None
        ]
        if not refusals:
            return
        schema = self.execution_context.schema
        assert isinstance(schema, MaskedSchema)  # noqa: S101 - narrows the type
        schema.process_errors(refusals, self.execution_context)
        if None in keys:
            result.data, result.errors = None, refusals
            return
        refused = {_key(refusal) for refusal in refusals}
        result.errors = [
            *(error for error in result.errors or () if error not in errors or _key(error) not in refused),
            *refusals,
        ]

    def _roots(self, document: DocumentNode) -> Sequence[_Root]:
        """Return the root fields that need a permission. The number of returned root fields is at most the number
        that one operation may have.
        """
        schema = self.execution_context.schema._schema  # noqa: SLF001 - as in `document_limits.py`
        roots: list[_Root] = []
        for operation in document.definitions:
            if not isinstance(operation, OperationDefinitionNode):
                continue
            parent = schema.get_root_type(operation.operation)
            fields = {} if parent is None else parent.fields
            for node in _fields(document, operation):
                field = fields.get(node.name.value)
                permission = None if field is None else permission_of(field)
                if permission is not None:
                    roots.append(_Root(node, (node.alias or node.name).value, permission))
                if len(roots) == Limits.root_fields:
                    return roots
        return roots


def _key(error: GraphQLError) -> str | int | None:
    """Return the response key of the root field that the error belongs to, or None if no root field was executed."""
    return error.path[0] if error.path else None


async def _refusal(context: Context, root: _Root) -> GraphQLError | None:
    try:
        async with context.person_slot():
            await context.require(root.permission)
    except AppError as error:
        return GraphQLError(error.reason, nodes=root.node, path=[root.key], original_error=error)
    return None


def _fields(document: DocumentNode, operation: OperationDefinitionNode) -> Iterator[FieldNode]:
    """Yield the root fields of an operation in order. The function visits each fragment of the document only once."""
    fragments = {
        node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
    }
    left: list[SelectionNode] = list(reversed(operation.selection_set.selections))
    while left:
        selection = left.pop()
        if isinstance(selection, FieldNode):
            yield selection
        elif isinstance(selection, InlineFragmentNode):
            left += reversed(selection.selection_set.selections)
        elif isinstance(selection, FragmentSpreadNode):
            fragment = fragments.pop(selection.name.value, None)
            left += reversed(fragment.selection_set.selections) if fragment is not None else ()
