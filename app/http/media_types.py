"""Finds the media type of GraphQL over HTTP that a request accepts.

If `Accept` is missing or `*/*`, the answer is `application/json`. Source: GraphQL over HTTP, draft of the GraphQL
Foundation, "Media Types" (checked 2026-11-21, with the audits of npm's graphql-http 1.23.1).
"""

from app.http.header_preferences import Preference, parse_preferences

JSON = "application/json"
GRAPHQL_RESPONSE = "application/graphql-response+json"

_BY_RANGE = {"*/*": JSON, "application/*": JSON, JSON: JSON, GRAPHQL_RESPONSE: GRAPHQL_RESPONSE}


def response_media_type(accept: str | None) -> str | None:
    """Return the media type of the answer for an `Accept` header, or None if the client accepts no supported type."""
    if accept is None or not accept.strip():
        return JSON
    wanted = [member for member in parse_preferences(accept) if _is_utf8(member)]
    refused = {member.value for member in wanted if member.quality == 0}
    for member in wanted:
        spoken = _BY_RANGE.get(member.value)
        if spoken is not None and member.quality > 0 and spoken not in refused:
            return spoken
    return None


def is_json_in_utf8(content_type: str | None) -> bool:
    """Return whether the Content-Type declares JSON, in UTF-8 or without a charset."""
    declared = parse_preferences(content_type or "")
    return len(declared) == 1 and declared[0].value == JSON and _is_utf8(declared[0])


def _is_utf8(member: Preference) -> bool:
    return dict(member.parameters).get("charset", "utf-8") in ("utf-8", "utf8")
