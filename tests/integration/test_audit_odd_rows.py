"""`resguardo audit verify` of rows that no code of Resguardo writes: each becomes a finding, and none stops it."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from app.transparency_log.checkpoints import Checkpoint, sign_checkpoint
from tests.audit_log import AuditLog, names, open_log
from tests.databases import Database

pytestmark = pytest.mark.anyio

SECONDS = 60


@pytest.fixture
async def log(database: Database, tmp_path: Path) -> AsyncIterator[AuditLog]:
    """Yield a log with 300 sealed and published events."""
    async with open_log(database, tmp_path) as made:
        made.insert(300)
        await made.seal()
        made.publish()
        yield made


EVENT = "(select event_id from audit.leaves where index = 5)"
DEEP = "(repeat('[', 3000) || repeat(']', 3000))::jsonb"
ODD_ROWS: dict[str, tuple[str, str]] = {
    **{
        f"entities {value[:40]}": (
            "update audit.events set action = 'audit_log.redact', entities = 'VALUE' where id = EVENT".replace(
                "VALUE", value
            ),
            "edited",
        )
        for value in (
            "5",
            "null",
            "[5, null, [[]]]",
            '[{"ids": 5}]',
            '[{"ids": null}]',
            '[{"ids": true}]',
            '[{"ids": {"a": 1}}]',
            '[{"ids": [null, 5, {}, "x"]}]',
            "1e400",
            "[1" + "0" * 5000 + "]",
        )
    },
    "entities that are deep": ("update audit.events set entities = DEEP where id = EVENT", "edited"),
    "a long text": ("update audit.events set basis = repeat('x', 30000000) where id = EVENT", "edited"),
    "an infinite time": ("update audit.events set occurred_at = 'infinity' where id = EVENT", "edited"),
    "a time before Christ": (
        "update audit.events set occurred_at = '4000-01-01 BC' where id = EVENT",
        "edited",
    ),
    "arrays of arrays": (
        "update audit.events set fields = '[3:4][0:1]={{a,b},{null,d}}' where id = EVENT",
        "edited",
    ),
    "a number that is large": (
        "update audit.events set row_count = -2147483648, byte_count = 9223372036854775807 where id = EVENT",
        "edited",
    ),
    "another version": ("update audit.events set canonical_version = -1 where id = EVENT", "edited"),
    "a salt that is long": ("update audit.events set salt = '\\x00' where id = EVENT", "edited"),
    "a leaf without an event": (
        "update audit.leaves set event_id = null, recorded_at = null where index = 5",
        "deleted",
    ),
    "a leaf with an infinite time": (
        "update audit.leaves set recorded_at = 'infinity' where index = 5",
        "leaf_changed",
    ),
    "a leaf before Christ": (
        "update audit.leaves set recorded_at = '4000-01-01 BC' where index = 5",
        "leaf_changed",
    ),
    "a leaf at the largest index": (
        "update audit.leaves set index = 9223372036854775807 where index = 5",
        "leaf_changed",
    ),
    "a leaf hash without bytes": (
        (
            "alter table audit.leaves drop constraint leaves_leaf_hash_is_sha_256;"
            "update audit.leaves set leaf_hash = '' where index = 5"
        ),
        "leaf_changed",
    ),
    "a leaf hash that is null": (
        (
            "alter table audit.leaves alter leaf_hash drop not null;"
            "update audit.leaves set leaf_hash = null where index = 5"
        ),
        "leaf_changed",
    ),
    "a tile hash that is null": (
        "alter table audit.tile_hashes alter hash drop not null; update audit.tile_hashes set hash = null",
        "tile_hash_changed",
    ),
    "a tile hash without bytes": (
        (
            "alter table audit.tile_hashes drop constraint tile_hashes_hash_is_sha_256;"
            "update audit.tile_hashes set hash = ''"
        ),
        "tile_hash_changed",
    ),
    "a size that is large": ("update audit.logs set size = 9223372036854775807", "root_differs"),
    "a size that is null": (
        "alter table audit.logs alter size drop not null; update audit.logs set size = null",
        "root_differs",
    ),
    "a frontier that is not one": ("update audit.logs set frontier = 'x'", "root_differs"),
    "a frontier that is null": (
        "alter table audit.logs alter frontier drop not null; update audit.logs set frontier = null",
        "root_differs",
    ),
    "a checkpoint that is text": ("update audit.logs set checkpoint = 'x'", "checkpoint_forged"),
    "a checkpoint that is empty": ("update audit.logs set checkpoint = ''", "checkpoint_forged"),
    "a checkpoint that is long": (
        "update audit.logs set checkpoint = repeat(checkpoint, 20000)",
        "checkpoint_forged",
    ),
    "a checkpoint with a large size": (
        (
            "update audit.logs set checkpoint = replace(checkpoint, E'\\n' || size || E'\\n', "
            "E'\\n' || repeat('9', 5000) || E'\\n')"
        ),
        "checkpoint_forged",
    ),
    "an origin that is not one": ("update audit.logs set origin = 'x'", "log_missing"),
    "an origin that is null": (
        "alter table audit.logs alter origin drop not null; update audit.logs set origin = null",
        "log_missing",
    ),
    "an origin of another year": (
        "update audit.logs set origin = regexp_replace(origin, '[0-9]+$', '9999')",
        "log_missing",
    ),
    "a log of another year": (
        "insert into audit.logs (log_year, origin, size) values (9999, 'resguardo//9999', 3)",
        "checkpoint_forged",
    ),
    "two logs with one origin": (
        "insert into audit.logs (log_year, origin, size) select 9999, origin, 7 from audit.logs",
        "unreadable",
    ),
    "a closed size that is negative": ("update audit.logs set closed_size = -5", ""),
    "publications of odd sizes": (
        (
            "insert into audit.publications (log_year, size) select log_year, n.size from audit.logs, "
            "(values (-5), (9223372036854775807)) as n (size)"
        ),
        "",
    ),
    "a queued event with an infinite time": (
        "insert into audit.unsealed values ('infinity', gen_random_uuid()), ('-infinity', gen_random_uuid())",
        "deleted",
    ),
    "an event in a year that no log has": (
        (
            "create table audit.events_far partition of audit.events for values from ('2200-01-01') to (maxvalue);"
            "update audit.events set recorded_at = 'infinity' where id = EVENT"
        ),
        "edited",
    ),
}


@pytest.mark.parametrize("odd", ODD_ROWS)
async def test_an_odd_row_is_a_finding(log: AuditLog, odd: str) -> None:
    statements, name = ODD_ROWS[odd]
    for statement in statements.split(";"):
        log.execute(statement.replace("EVENT", EVENT).replace("DEEP", DEEP))
    with anyio.fail_after(SECONDS):
        report = await log.verify()
    assert name in {*names(report), ""}, report.findings
    assert report.is_clean is (name == "")


ODD_EVENTS: dict[str, tuple[str, str]] = {
    "a redaction of nothing": ("'audit_log.redact', '[{\"ids\": 5}]', 0, null", ""),
    "a closing of a negative size": (
        "'audit_log.close_year', '[]', -5, repeat('0', 64)",
        "closed_year_changed",
    ),
    "a closing without a digest": ("'audit_log.close_year', '[]', 2147483647, null", "closed_year_changed"),
    "an adoption of a negative number": ("'audit_log.adopt', '[]', -5, null", "adopted_after_a_restore"),
    "a leap of the clock": ("'audit_log.note_clock', '[]', -5, null", ""),
}
INSERT = """
insert into audit.events (actor_role, operation, outcome, purpose, basis, policy_version, action, entities, row_count,
    digest)
values ('resguardo_worker', 'E', 'ALLOWED', 'OPERATIONS', 'test', 'test', {})
"""


@pytest.mark.parametrize("odd", ODD_EVENTS)
async def test_an_odd_event_of_the_log_about_itself_stops_nothing(log: AuditLog, odd: str) -> None:
    values, name = ODD_EVENTS[odd]
    log.execute(INSERT.format(values))
    await log.seal()
    report = await log.verify()
    assert names(report) == {name} - {""}, report.findings


async def test_a_checkpoint_of_any_size_ends_the_verification(log: AuditLog) -> None:
    """Somebody with the log's key and the bucket's key can sign and store a checkpoint of any size."""
    for size in (10**6, 2**62):
        note = sign_checkpoint(Checkpoint(log.origin, size, bytes(32)), log.signer()).format()
        log.path(f"audit/{log.origin}/checkpoints/{size}").write_bytes(note)
        for with_database in (True, False):
            with anyio.fail_after(SECONDS):
                report = await log.verify(with_database=with_database)
            assert "tile_missing" in names(report)
