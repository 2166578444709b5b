"""Requests that name their query by a hash and do not bring it, as Apollo Client and urql can send them.

No query is kept here. The answer is Apollo Server's (4.x), by whose code or very words clients know it: they then send
the query whole.
"""

from collections.abc import Mapping

CODE = "PERSISTED_QUERY_NOT_SUPPORTED"
MESSAGE = "PersistedQueryNotSupported"


def is_hash_alone(parameters: Mapping[str, object]) -> bool:
    """Whether a request, by its parameters, has a hash and no query."""
    extensions = parameters.get("extensions")
    return (
        not parameters.get("query")
        and isinstance(extensions, dict)
        and bool(extensions.get("persistedQuery"))
    )


def not_supported(request_id: str | None) -> dict[str, object]:
    """The error."""
    return {"message": MESSAGE, "extensions": {"code": CODE, "retryable": False, "requestId": request_id}}
