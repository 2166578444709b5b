"""A WSGI filter that answers web pages like a bucket with CORS rules.

Swift's own CORS is a property of a container and supports neither methods nor headers. Swift's s3api answers
preflight requests for all buckets alike. This filter applies the CORS rules of each bucket before a request reaches
s3api. As in S3, the filter answers 403 to a preflight that no rule allows. Answers to requests other than
preflights, including refusals, name the origin if a rule allows it. The filter grants no access: a request still
needs its signature.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from devstack.swift.guard import Application, Environ, StartResponse

_REFUSED = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>AccessForbidden</Code><Message>CORSResponse: This CORS request is not allowed.</Message></Error>"
)
_VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"


@dataclass(frozen=True)
class PageRule:
    """The origins that may use certain methods and headers. A rule contains header names in lower case, and matches
    origins exactly.
    """

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    exposed: tuple[str, ...]
    max_age_seconds: int


def save_rules(rules: Sequence[PageRule], path: Path) -> None:
    """Write the rules to the file that `cors_factory` reads."""
    path.write_text(json.dumps([asdict(rule) for rule in rules]))


@dataclass
class Pages:
    """The filter. Only `bucket` has rules."""

    app: Application
    bucket: str
    rules: tuple[PageRule, ...]

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a preflight request. Pass a request that is no preflight on to the next filter, and add the CORS
        headers to the answer.
        """
        origin = environ.get("HTTP_ORIGIN")
        if origin is None or "swift.authorize_override" in environ:
            return self.app(environ, start_response)
        wanted = environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD")
        if environ["REQUEST_METHOD"] == "OPTIONS" and wanted is not None:
            return self._answer_preflight(environ, origin, wanted, start_response)
        rule = self._rule(environ, origin, environ["REQUEST_METHOD"], frozenset())
        if rule is None:
            return self.app(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            told = [
                ("Access-Control-Allow-Origin", origin),
                ("Access-Control-Expose-Headers", ", ".join(rule.exposed)),
                ("Vary", _VARY),
            ]
            return start_response(status, [*headers, *told], *more)

        return self.app(environ, start)

    def _answer_preflight(
        self, environ: Environ, origin: str, method: str, start_response: StartResponse
    ) -> Iterable[bytes]:
        asked = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
        headers = frozenset(name.strip().lower() for name in asked.split(",") if name.strip())
        rule = self._rule(environ, origin, method, headers)
        if rule is None:
            kind = [("Content-Type", "application/xml"), ("Content-Length", str(len(_REFUSED)))]
            start_response("403 Forbidden", [*kind, ("Vary", _VARY)])
            return [_REFUSED]
        told = [
            ("Content-Length", "0"),
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Methods", ", ".join(rule.methods)),
            ("Access-Control-Max-Age", str(rule.max_age_seconds)),
            ("Vary", _VARY),
        ]
        if headers:
            told.append(("Access-Control-Allow-Headers", ", ".join(sorted(headers))))
        start_response("200 OK", told)
        return [b""]

    def _rule(self, environ: Environ, origin: str, method: str, headers: frozenset[str]) -> PageRule | None:
        """Return the first rule that allows the request."""
        if environ["PATH_INFO"].removeprefix("/").partition("/")[0] != self.bucket:
            return None
        for rule in self.rules:
            if origin in rule.origins and method in rule.methods and headers <= {*rule.headers}:
                return rule
        return None


def cors_factory(
    global_conf: dict[str, str], *, bucket: str, rules: str, **local_conf: str
) -> Callable[[Application], Pages]:
    """Return the filter for paste's `[filter:cors]`. `rules` is the path of a file that `save_rules` wrote."""
    found = json.loads(Path(rules).read_text())
    read = tuple(PageRule(**{name: _frozen(value) for name, value in one.items()}) for one in found)
    return lambda app: Pages(app, bucket, read)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
