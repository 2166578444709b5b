"""The retention commands of the database owner: propose a version of policies/retention.toml to the compliance
officers, or put the first version into force.

The first policy comes into force without the approval of officers, but only if no recording exists and no policy
was ever proposed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from psycopg.types.json import Jsonb

from app.errors import InvalidInput
from app.packaged import repository_path
from app.postgres.database import Database
from app.postgres.owner import as_owner
from app.retention import store
from app.retention.model import (
    Change,
    KeptPolicy,
    PolicyStatus,
    Preview,
    RetentionPolicy,
    compare_policies,
    compute_sha256,
)
from app.retention.policy_file import MAX_BYTES, parse

RETENTION_FILE: Final = repository_path("policies/retention.toml")


@dataclass(frozen=True)
class Proposal:
    """A proposed retention policy, its differences from the policy in force, and its effect on existing recordings.

    If no retention policy is in force, `active` is None and `changes` is empty.
    """

    kept: KeptPolicy
    active: KeptPolicy | None
    changes: tuple[Change, ...]
    preview: Preview


class Proposals:
    """The operations on retention policies that the database owner may run. Needs the owner's login."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def propose(self, source: str) -> Proposal:
        """Store a retention policy with the status PROPOSED. Raises the InvalidInput of `parse`, and Conflict
        (retention_policies_name_key) if a policy with this name exists.
        """
        proposed = parse(source)
        async with self._database.as_service("retention_propose") as tx:
            open_policies = await store.list_open_policies(tx)
            policy_id = await store.propose(tx, proposed, source)
            kept = await store.read_policy(tx, policy_id)
            preview = await store.compute_effects(tx, policy_id)
        assert kept is not None  # noqa: S101 - made in this very transaction
        active = next((each for each in open_policies if each.status is PolicyStatus.ACTIVE), None)
        return Proposal(kept, active, compare_policies(active.policy, proposed) if active else (), preview)

    async def list_open_policies(self) -> list[KeptPolicy]:
        """Return the retention policy in force, if there is one, and after it the proposed policies."""
        async with self._database.as_service("retention_show") as tx:
            return await store.list_open_policies(tx)


def read_policy_file(path: Path = RETENTION_FILE) -> str:
    """Return the text of a retention policy file. Raises InvalidInput (retention_malformed) if the file cannot be
    read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("retention_malformed", place=path.name) from error


def adopt_first_policy(owner_url: str, path: Path = RETENTION_FILE) -> RetentionPolicy | None:
    """Put the policy file into force and return its policy. If a recording exists or a policy was proposed before,
    return None.

    Raises InvalidInput like `parse`.
    """
    source = read_policy_file(path)
    policy = parse(source)
    with as_owner(owner_url) as connection:
        connection.execute("select set_config('resguardo.service_reason', 'retention_adopt', true)")
        row = connection.execute(
            "select private.adopt_policy(%s, %s, %s, %s)",
            (policy.name, compute_sha256(source), source, Jsonb(policy.terms)),
        ).fetchone()
    return None if row is None or row[0] is None else policy
