"""Recognises requests that contain only the hash of a query instead of the query. Apollo Client and urql can send
requests that contain only the hash of a query.

The API stores no persisted queries, so it cannot look a query up by its hash. The API answers a request with only a
hash like Apollo Server (4.x). Clients recognise the API's answer by its code or its exact text, and then send the
whole query.
"""

from collections.abc import Mapping

from app.public_errors import build_extensions

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
    return {"message": MESSAGE, "extensions": build_extensions(CODE, request_id=request_id)}
