"""Recognises requests that send only the hash of their query, as Apollo Client and urql can do.

The API stores no queries. It answers such a request like Apollo Server (4.x). Clients recognise the answer by its
code or its exact text, and then send the whole query.
"""

from collections.abc import Mapping

CODE = "PERSISTED_QUERY_NOT_SUPPORTED"
MESSAGE = "PersistedQueryNotSupported"


def is_hash_alone(parameters: Mapping[str, object]) -> bool:
    """Return whether the parameters of a request contain a hash and no query."""
    extensions = parameters.get("extensions")
    return (
        not parameters.get("query")
        and isinstance(extensions, dict)
        and bool(extensions.get("persistedQuery"))
    )


def not_supported(request_id: str | None) -> dict[str, object]:
    """Return the error."""
    return {"message": MESSAGE, "extensions": {"code": CODE, "retryable": False, "requestId": request_id}}
