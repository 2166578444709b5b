"""Parses the files of `policies/bucket/` strictly.

If a field is missing, unknown or of the wrong type, the parser raises an error that names the file and the field.
The parser also raises an error if a rule would delete objects that must stay. `model.py` derives the bucket's rules
from the parsed files.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.bucket.object_keys import AUDIT, AUDIT_LATEST, EXPORTS, KEPT, LEDGER, MARK, RECORDINGS
from app.errors import InvalidInput
from app.packaged import repository_path

DIRECTORY: Final = repository_path("policies/bucket")

NEVER_UNDER: Final = (AUDIT, AUDIT_LATEST, KEPT, LEDGER)
"""The prefixes that no rule of the bucket may delete, whatever the documents say."""
NEVER: Final = (MARK,)
"""The keys that no rule of the bucket may delete."""
BACKSTOP_DAYS: Final = 7
"""How many days after our own deletion the bucket deletes at the earliest. `private.endangered_prefixes()` uses the
same number.
"""

_Prefix = Annotated[str, StringConstraints(pattern=r"^[a-z]+(-[a-z]+)*/$")]
_Days = Annotated[int, Field(ge=1, le=36_500)]
_Header = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
_Method = Annotated[str, StringConstraints(pattern=r"^(GET|HEAD|PUT)$")]
_Document = TypeVar("_Document", bound="_Strict")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    about: str = Field(min_length=1)


class Backstop(_Strict):
    """The lifecycle rules that delete old recordings, one rule for each retention term. In `under`, the number of
    days of the retention term replaces the text `<term>`.
    """

    under: Annotated[str, StringConstraints(pattern=r"^r/d<term>/$")]
    terms_in_days: list[_Days] = Field(min_length=1)
    days_after_the_term: int = Field(le=365)


class Exports(_Strict):
    """The lifecycle rule that deletes old encrypted copies of access requests."""

    under: _Prefix
    days: _Days


class UnfinishedUploads(_Strict):
    """The lifecycle rule that aborts old unfinished uploads under any prefix."""

    days: _Days


class Never(_Strict):
    """The prefixes and object keys that no rule that deletes objects may cover."""

    under: list[_Prefix]
    objects: list[str]


class LifecycleDocument(_Strict):
    """The content of `lifecycle.json`."""

    recordings: Backstop
    exports: Exports
    unfinished_uploads: UnfinishedUploads
    never: Never


class WebApp(_Strict):
    """The HTTP methods and headers that pages of the web app may use in requests to the bucket."""

    may: list[_Method] = Field(min_length=1)
    with_headers: list[_Header]
    may_read_headers: list[_Header]
    remembered_for_seconds: int = Field(ge=0, le=86_400)


class CorsDocument(_Strict):
    """The content of `cors.json`."""

    web_app: WebApp


class FixedLock(_Strict):
    """A prefix whose objects are locked forever."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    under: _Prefix


class HoldLocks(_Strict):
    """The prefix of the ids of locks that are created for legal holds."""

    named: Annotated[str, StringConstraints(pattern=r"^hold-$")]


class LocksDocument(_Strict):
    """The content of `locks.json`."""

    for_ever: list[FixedLock]
    holds: HoldLocks


class Documents(BaseModel):
    """The three documents."""

    model_config = ConfigDict(frozen=True)

    lifecycle: LifecycleDocument
    cors: CorsDocument
    locks: LocksDocument


def load(directory: Path = DIRECTORY) -> Documents:
    """Read and check the three files of `policies/bucket/`.

    Raises InvalidInput with the reason `bucket_policy_unreadable` or `bucket_policy_malformed`. Raises InvalidInput
    with the reason `bucket_policy_unsafe` if a rule could delete objects that must stay, or if an object that must
    not change would not be locked. The InvalidInput error names the file and, unless the file is unreadable, the
    field.
    """
    documents = Documents(
        lifecycle=_read(directory / "lifecycle.json", LifecycleDocument),
        cors=_read(directory / "cors.json", CorsDocument),
        locks=_read(directory / "locks.json", LocksDocument),
    )
    _require_safe(documents)
    return documents


def overlap(prefix: str, other: str) -> bool:
    """Return whether the key of one object can begin with both prefixes."""
    return prefix.startswith(other) or other.startswith(prefix)


def _read(path: Path, kind: type[_Document]) -> _Document:
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, object_pairs_hook=_without_doubles)
    except (OSError, ValueError) as error:
        raise InvalidInput("bucket_policy_unreadable", file=path.name) from error
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise InvalidInput("bucket_policy_malformed", file=path.name, field=field or "all") from error


def _without_doubles(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field twice")
    return found


def _require_safe(documents: Documents) -> None:
    lifecycle, locks = documents.lifecycle, documents.locks.for_ever
    if lifecycle.recordings.days_after_the_term < BACKSTOP_DAYS:
        raise _unsafe("lifecycle.json", "recordings.days_after_the_term")
    if not {*NEVER_UNDER} <= {*lifecycle.never.under}:
        raise _unsafe("lifecycle.json", "never.under")
    if not {*NEVER} <= {*lifecycle.never.objects}:
        raise _unsafe("lifecycle.json", "never.objects")
    if any(overlap(lifecycle.exports.under, one) for one in (*lifecycle.never.under, RECORDINGS)):
        raise _unsafe("lifecycle.json", "exports.under")
    if not {AUDIT, LEDGER} <= {lock.under for lock in locks}:
        raise _unsafe("locks.json", "for_ever")
    if any(overlap(lock.under, one) for lock in locks for one in (RECORDINGS, EXPORTS, KEPT, AUDIT_LATEST)):
        raise _unsafe("locks.json", "for_ever")
    if len({lock.name for lock in locks}) != len(locks):
        raise InvalidInput("bucket_policy_malformed", file="locks.json", field="for_ever")


def _unsafe(file: str, field: str) -> InvalidInput:
    return InvalidInput("bucket_policy_unsafe", file=file, field=field)
