"""Root fields of the schema. Each root field declares its permission, and runs to its end even if another field of
the operation fails.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Literal, TypeVar

import strawberry
from graphql import GraphQLField
from strawberry.extensions import FieldExtension

from app.errors import InvalidInput
from app.identity.permissions import Permission

Quota = Literal[
    "pages", "urls", "playbacks", "subtitles", "invitations", "questions", "exports", "emergencies"
]
"""The name of a quota in `policies/quotas.toml`."""

_PERMISSION: Final = "permission"
ARGUMENTS: Final = {
    "first": "The page has at most this many items, from 1 to 100.",
    "after": (
        "The page starts after the item with this cursor, which is the `endCursor` of the page before. If it "
        "is omitted, the first page is returned."
    ),
    "filter": (
        "All items fulfil these conditions. Without a filter, the list has all items that the caller may see."
    ),
    "by": "This names the object, and exactly one of its fields is given.",
    "input": "The input has the ids of the objects that the mutation changes, and the new values.",
    "query": (
        "The search looks for these words, and for phrases in double quotes: at most 10 of them, in at most 200 "
        "characters."
    ),
    "recording_id": "This is the id of the recording, a UUID.",
    "consultation_id": "This is the id of the consultation, a UUID.",
    "review_id": "This is the id of the access review, a UUID.",
    "policy_id": "This is the id of the retention policy, which is a number.",
}
"""The descriptions of arguments that mean the same in every root field."""
_CALLERS: Final[dict[frozenset[str], str]] = {
    frozenset({"clinician"}): "Only doctors may call it, with a second factor.",
    frozenset({"compliance"}): "Only compliance officers may call it, with a second factor.",
    frozenset({"patient"}): "Only patients may call it.",
    frozenset({"clinician", "patient"}): "Doctors may call it with a second factor, and patients without.",
    frozenset(
        {"clinician", "compliance"}
    ): "Doctors and compliance officers may call it, with a second factor.",
    frozenset({"patient", "compliance"}): (
        "Compliance officers may call it with a second factor, and patients without."
    ),
    frozenset({"clinician", "compliance", "patient"}): (
        "Doctors and compliance officers may call it with a second factor, and patients without."
    ),
    frozenset(): "Everyone may call it, without a token.",
}
"""The sentence that says who may call a root field, by the roles of its permission."""
_QUOTAS: Final[dict[Quota, str]] = {
    "pages": "Each call counts as one page against the caller's hourly quota.",
    "urls": "Each call counts as one URL against the caller's hourly quota.",
    "playbacks": "Each call counts as one playback URL against the caller's hourly quota.",
    "subtitles": "Each call counts as one subtitle link against the caller's hourly quota.",
    "invitations": "Each call counts as one invitation against the caller's hourly quota.",
    "questions": "Each call counts as one question against the caller's hourly quota.",
    "emergencies": "Each call counts as one emergency access against the caller's hourly quota.",
    "exports": "Each call counts as one export against the caller's hourly quota.",
}
"""The sentence that says against which quota of `policies/quotas.toml` a call of a root field counts."""
_Value = TypeVar("_Value")


def root_field(
    resolver: Callable[..., Any],
    permission: Permission | None,
    *,
    description: str,
    quota: Quota | None = None,
) -> Any:
    """Return a root field of the query or the mutation. `permission` is None if everyone may use the field without
    a token. `quota` names the quota against which the database counts a call, for the description. The description
    of the field ends with who may call it, and with its quota.
    """
    limit = "" if quota is None else f" {_QUOTAS[quota]}"
    field: Any = strawberry.field(
        resolver,
        description=f"{description} {_callers_of(permission)}{limit}",
        metadata={_PERMISSION: permission},
        extensions=[_RootField(permission)],
    )
    return _describe_arguments(field)


def root_subscription(resolver: Callable[..., Any], permission: Permission, *, description: str) -> Any:
    """Return a root field of the subscription type, with the same last sentence of its description."""
    field: Any = strawberry.subscription(
        resolver,
        description=f"{description} {_callers_of(permission)}",
        metadata={_PERMISSION: permission},
    )
    return _describe_arguments(field)


def _callers_of(permission: Permission | None) -> str:
    return _CALLERS[frozenset() if permission is None else permission.roles]


def _describe_arguments(field: Any) -> Any:
    for argument in field.arguments:
        if argument.description is None:
            argument.description = ARGUMENTS.get(argument.python_name)
    return field


def permission_of(field: GraphQLField) -> Permission | None:
    """Return the permission that a root field declares. Raises KeyError if the field declares no permission."""
    permission: Permission | None = field.extensions["strawberry-definition"].metadata[_PERMISSION]
    return permission


async def run_to_end(work: Coroutine[Any, Any, _Value]) -> _Value:
    """Return the result of `work`, which continues even if the caller of this function is cancelled.

    graphql-core cancels the other fields of an operation if one field fails (3.3.2). If a field did not run to its
    end, an operation of ten fields would leave only one audit row if its first field is refused.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_retrieve)
    return await asyncio.shield(task)


class _RootField(FieldExtension):
    """Runs a root field to its end. A caller without the permission gets the refusal, and never an error about the
    input.

    A service reads its input before it opens its transaction, which checks the permission. If the service refuses
    the input, this extension checks the permission separately before the error is returned.
    """

    def __init__(self, permission: Permission | None) -> None:
        self._permission = permission

    async def resolve_async(
        self, next_: Callable[..., Awaitable[Any]], source: Any, info: strawberry.Info, **kwargs: Any
    ) -> Any:
        """Return the field's value. Raises RateLimited if the person runs too many operations at once."""
        return await run_to_end(self._admitted(next_, source, info, kwargs))

    async def _admitted(
        self, next_: Callable[..., Awaitable[Any]], source: Any, info: strawberry.Info, kwargs: dict[str, Any]
    ) -> Any:
        if self._permission is None:
            return await self._resolve(next_, source, info, kwargs)
        async with info.context.person_slot():
            return await self._resolve(next_, source, info, kwargs)

    async def _resolve(
        self, next_: Callable[..., Awaitable[Any]], source: Any, info: strawberry.Info, kwargs: dict[str, Any]
    ) -> Any:
        try:
            return await next_(source, info, **kwargs)
        except InvalidInput:
            if self._permission is not None:
                await info.context.require(self._permission)
            raise


def _retrieve(task: "asyncio.Future[Any]") -> None:
    """Mark the error of an abandoned task as handled. asyncio need not log the error, because the audit log
    contains it.
    """
    if not task.cancelled():
        task.exception()
