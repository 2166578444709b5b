"""Tests of data keys and root keys on a real database. A data key is created once, and wrapped again when the root
key is rotated. A wrong root key is refused, and no output contains a key.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.errors import Conflict
from app.keys import service
from app.keys.keyring import Field, FieldKey, Keyring, new_key_line
from app.postgres.database import Database as Pool
from app.recordings.model import RecordingStatus
from app.texts import operator_message
from devstack.object_store import ObjectStore
from devstack.stack import Stack
from tests.databases import Cluster, Database
from tests.integration import small_stack
from tests.integration.recording_harness import DOCTOR, KEYRING, RecordingHarness, asker, opened
from tests.policies.actors import ANA, BRUNO
from tests.policies.seed import seed
from tests.practice import practice_of
from tests.unit.environments import set_environment

KEYS = "select recording_id, wrapped_key, root_key_id from private.recording_keys order by 1"
PASSPHRASE = "a passphrase of the tests"
Run = Callable[..., Result]


def _ring(*names: str) -> Keyring:
    return Keyring.parse(",".join(new_key_line(name) for name in names))


def _with(current: Keyring, *others: Keyring) -> Keyring:
    """Return a keyring with the root keys of all given keyrings. The key of the first keyring is the current root
    key.
    """
    return Keyring({name: key for ring in (current, *others) for name, key in ring._keys.items()})


@pytest.fixture
async def harness(database: Database, object_store: ObjectStore) -> AsyncIterator[RecordingHarness]:
    async with opened(database, object_store, separate_speakers=True) as made:
        yield made


class Practice:
    """A database with the practice of the policy tests, and the worker's connection pool. The READY videos that a
    test inserts have no data key.
    """

    def __init__(self, database: Database, worker: Pool) -> None:
        self.database, self.worker = database, worker

    def rows(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        """Run a query as a superuser and return its rows."""
        with psycopg.connect(self.database.superuser_url) as connection:
            cursor = connection.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def video(self, status: str = "READY", medium: str = "VIDEO") -> UUID:
        """Insert a recording with this status. Return its id."""
        video = ANA.id_of("over READY") if medium == "SPEAKERS" else None
        with practice_of(self.database.superuser_url) as practice, practice.without_triggers():
            return practice.recording(ANA.id_of("over"), status, medium=medium, video_id=video)

    async def make_key(self, ring: Keyring, recording: UUID) -> bool:
        """Create the data key of a recording, with the worker's database role."""
        async with self.worker.as_service("test") as tx:
            return await service.make_recording_key(tx, ring, recording)

    async def keyed(self, ring: Keyring, count: int = 1) -> dict[UUID, bytes]:
        """Insert videos with a data key. Return, for each video, a field that is encrypted with the video's data
        key.
        """
        await service.register_root_key(self.worker, ring)
        made = {}
        for recording in [self.video() for _ in range(count)]:
            assert await self.make_key(ring, recording)
            made[recording] = self.unwrapped(ring, recording).encrypt(_place(recording), recording.bytes)
        return made

    def unwrapped(self, ring: Keyring, recording: UUID) -> FieldKey:
        """Return the unwrapped data key of a recording."""
        [(wrapped, root_key)] = self.rows(
            "select wrapped_key, root_key_id from private.recording_keys where recording_id = %s", recording
        )
        assert isinstance(wrapped, bytes)
        return ring.unwrap(wrapped, str(root_key))


def _place(recording: UUID) -> Field:
    return Field("transcripts", str(recording), "words", str(recording))


@pytest.fixture
async def practice(database: Database) -> AsyncIterator[Practice]:
    seed(database.superuser_url)
    worker = Pool(database.worker_url, application="test", max_size=4)
    await worker.open()
    made = Practice(database, worker)
    made.rows("delete from private.recording_keys")
    made.rows("delete from private.word_index_key")
    made.rows("delete from private.patient_keys")
    try:
        yield made
    finally:
        await worker.close()


@pytest.mark.anyio
async def test_video_gets_one_data_key_when_it_becomes_ready_and_the_sound_none(
    harness: RecordingHarness,
) -> None:
    video = await harness.recording()
    (sound,) = await harness.sound_of(video)
    await harness.jobs.starter.start(sound.id)
    await harness.until(sound.id, RecordingStatus.RECORDING)
    await harness.recordings.stop(asker(DOCTOR), video)
    for each in (video, sound.id):
        await harness.jobs.updates.stop(each)
        await harness.until(each, RecordingStatus.VERIFYING)
    assert harness.rows(KEYS) == []
    for _ in range(2):
        await harness.jobs.verifier.verify(sound.id)
        await harness.jobs.verifier.verify(video)
    [(recording, wrapped, root_key)] = harness.rows(KEYS)
    assert (recording, root_key) == (video, "tests-1")
    KEYRING.unwrap(wrapped, root_key)
    audited = (
        "select "
        "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
        " as entity_ids, actor_role, basis from audit.events where action = 'recording.make_key'"
    )
    assert harness.rows(audited) == [([video], "resguardo_worker", "move_recording")]


@pytest.mark.anyio
async def test_video_is_not_ready_without_its_data_key(harness: RecordingHarness) -> None:
    """If a worker has not registered its root key, it cannot create the data key of a recording, so the recording
    stays VERIFYING.
    """
    video = await harness.completed()
    harness.jobs.transitions._keyring = _ring("never-registered")
    with pytest.raises(Conflict, match="root_key_unknown"):
        await harness.jobs.verifier.verify(video)
    assert (await harness.read(video)).status is RecordingStatus.VERIFYING
    assert harness.rows(KEYS) == []
    harness.jobs.transitions._keyring = KEYRING
    await harness.jobs.verifier.verify(video)
    assert (await harness.read(video)).status is RecordingStatus.READY
    assert len(harness.rows(KEYS)) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "medium"),
    [
        ("REQUESTED", "VIDEO"),
        ("VERIFYING", "VIDEO"),
        ("FAILED", "VIDEO"),
        ("LOST", "VIDEO"),
        ("DELETED", "VIDEO"),
        ("READY", "SPEAKERS"),
    ],
)
async def test_no_data_key_for_anything_but_a_ready_video(
    practice: Practice, status: str, medium: str
) -> None:
    ring = _ring("one")
    await service.register_root_key(practice.worker, ring)
    with pytest.raises(Conflict, match="recording_not_ready"):
        await practice.make_key(ring, practice.video(status, medium))
    with pytest.raises(Conflict, match="recording_not_ready"):
        await practice.make_key(ring, uuid4())
    assert practice.rows(KEYS) == []


@pytest.mark.anyio
async def test_only_one_of_two_concurrent_calls_creates_a_data_key(practice: Practice) -> None:
    ring = _ring("one")
    await service.register_root_key(practice.worker, ring)
    video = practice.video()
    made = await asyncio.gather(*(practice.make_key(ring, video) for _ in range(4)))
    assert sorted(made) == [False, False, False, True]
    assert len(practice.rows("select id from audit.events where action = 'recording.make_key'")) == 1


@pytest.mark.anyio
async def test_start_registers_the_current_key_alone_and_again_changes_nothing(practice: Practice) -> None:
    ring = _ring("new", "old")
    for _ in range(2):
        await service.register_root_key(practice.worker, ring)
    known = practice.rows("select id, check_value from private.root_keys where id <> 'first'")
    assert known == [("new", ring.check_values()["new"])]


@pytest.mark.anyio
async def test_start_with_another_key_of_the_same_name_is_refused(practice: Practice) -> None:
    await service.register_root_key(practice.worker, _ring("one"))
    for wrong in (_ring("one"), _ring("two", "one")):
        with pytest.raises(Conflict, match="root_key_wrong"):
            await service.register_root_key(practice.worker, wrong)
    assert practice.rows("select id from private.root_keys where id = 'two'") == []


@pytest.mark.anyio
async def test_start_without_a_key_that_is_needed_is_refused_until_it_is_not(practice: Practice) -> None:
    old, new = _ring("old"), _ring("new")
    await practice.keyed(old)
    with pytest.raises(Conflict, match="root_key_missing"):
        await service.register_root_key(practice.worker, new)
    assert practice.rows("select id from private.root_keys where id = 'new'") == []
    await service.rotate(practice.worker, _with(new, old))
    await service.register_root_key(practice.worker, new)


@pytest.mark.anyio
async def test_of_two_starts_at_once_with_different_keys_of_one_name_one_is_refused(
    practice: Practice,
) -> None:
    for attempt in range(5):
        rings = [_ring(f"race-{attempt}") for _ in range(2)]
        ended = await asyncio.gather(
            *(service.register_root_key(practice.worker, ring) for ring in rings), return_exceptions=True
        )
        assert [str(one) for one in ended if one is not None] == ["root_key_wrong"]


@pytest.mark.anyio
async def test_rotation_keeps_every_field_readable_and_frees_the_old_key(practice: Practice) -> None:
    old, new, told = _ring("old"), _ring("new"), list[tuple[int, int]]()
    made = await practice.keyed(old, 5)
    done = await service.rotate(
        practice.worker, _with(new, old), batch=2, on_progress=lambda *so_far: told.append(so_far)
    )
    assert (done.rewrapped, done.unreadable) == (5, ())
    assert told == [(0, 5), (2, 5), (4, 5), (5, 5)]
    for recording, blob in made.items():
        assert practice.unwrapped(new, recording).decrypt(_place(recording), blob) == recording.bytes
    audited = practice.rows(
        "select row_count, "
        "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
        " as entity_ids, patient_ids, basis from audit.events"
        " where action = 'recording.rewrap_key' order by recorded_at"
    )
    assert [row[0] for row in audited] == [2, 2, 1]
    assert {str(one) for row in audited for one in row[1]} == {str(one) for one in made}  # type: ignore[attr-defined]
    assert all(row[2:] == ([ANA.patient_id], "rotate_keys") for row in audited)
    again = await service.rotate(practice.worker, new)
    assert (again.rewrapped, again.unreadable) == (0, ())


@pytest.mark.anyio
async def test_rotation_that_was_cut_short_goes_on(practice: Practice) -> None:
    old, new = _ring("old"), _ring("new")
    made = await practice.keyed(old, 5)

    def cut(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await service.rotate(practice.worker, _with(new, old), batch=2, on_progress=cut)
    assert sorted(str(key) for _, _, key in practice.rows(KEYS)) == ["new", "new", "old", "old", "old"]
    for recording, blob in made.items():
        both = practice.unwrapped(_with(new, old), recording)
        assert both.decrypt(_place(recording), blob) == recording.bytes
    assert (await service.rotate(practice.worker, _with(new, old), batch=2)).rewrapped == 3
    assert {key for _, _, key in practice.rows(KEYS)} == {"new"}


@pytest.mark.anyio
async def test_rotation_leaves_a_damaged_key_unchanged_and_reports_it(practice: Practice) -> None:
    old, new = _ring("old"), _ring("new")
    spoilt, *_ = sorted(await practice.keyed(old, 3))
    practice.rows(
        "update private.recording_keys set wrapped_key = %s where recording_id = %s", bytes(40), spoilt
    )
    done = await service.rotate(practice.worker, _with(new, old), batch=1)
    assert (done.rewrapped, done.unreadable) == (2, (spoilt,))
    assert (spoilt, bytes(40), "old") in practice.rows(KEYS)


@pytest.mark.anyio
async def test_rotation_brings_back_no_key_that_was_shredded_meanwhile(practice: Practice) -> None:
    old, new = _ring("old"), _ring("new")
    [(recording, _)] = (await practice.keyed(old)).items()
    await service.register_root_key(practice.worker, _with(new, old))
    [(_, before, _)] = practice.rows(KEYS)
    practice.rows("delete from private.recording_keys")
    for wrapped in (before, bytes(40)):
        async with practice.worker.as_service("test") as tx:
            replaced = await tx.value(
                "select private.rewrap_recording_keys(%(ids)s, %(before)s, %(after)s, 'new')",
                {"ids": [recording], "before": [wrapped], "after": [bytes(40)]},
            )
        assert replaced == 0
    assert practice.rows(KEYS) == []


@pytest.mark.anyio
async def test_rotation_wraps_the_keys_of_patients_and_reports_a_damaged_one(practice: Practice) -> None:
    old, new = _ring("old"), _ring("new")
    await service.register_root_key(practice.worker, old)
    made = old.new_data_key()
    insert = "insert into private.patient_keys (wrapped_key, root_key_id, patient_id) values (%s, 'old', %s)"
    practice.rows(insert, made.wrapped, ANA.patient_id)
    practice.rows(insert, bytes(40), BRUNO.patient_id)
    place = Field("signed_note_texts", "1:1", "ciphertext", str(ANA.patient_id))
    blob = old.unwrap(made.wrapped, "old").encrypt(place, b"note")
    with pytest.raises(Conflict, match="root_key_missing"):
        await service.require_root_keys(practice.worker, new)
    done = await service.rotate(practice.worker, _with(new, old), batch=1)
    assert (done.rewrapped, done.unreadable, done.unreadable_patients) == (1, (), (BRUNO.patient_id,))
    assert not done.is_complete
    [(wrapped, root_key)] = practice.rows(
        "select wrapped_key, root_key_id from private.patient_keys where patient_id = %s", ANA.patient_id
    )
    assert root_key == "new"
    assert isinstance(wrapped, bytes)
    assert new.unwrap(wrapped, "new").decrypt(place, blob) == b"note"
    counted = {(one.kind, one.root_key_id): one.count for one in await service.count_keys(practice.worker)}
    assert counted == {("patient", "new"): 1, ("patient", "old"): 1}
    assert practice.rows(
        "select patient_ids from audit.events where action = 'patient.rewrap_key' order by recorded_at limit 1"
    ) == [([min(ANA.patient_id, BRUNO.patient_id)],)]


def test_law_1_wrapped_keys_leave_the_database_after_the_audit_row_alone(database: Database) -> None:
    """A SQL function returns a wrapped data key only after it has written the audit row. The function that destroys
    data keys returns only the SHA-256 of each wrapped key, for the certificate.
    """
    with psycopg.connect(database.superuser_url) as connection:
        rows: list[tuple[str, str]] = connection.execute(
            "select proname, prosrc from pg_proc where prosrc like '%wrapped_key%'"
            " and pronamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs')"
        ).fetchall()
    sources = dict(rows)
    of_the_index = {"word_index_key", "read_word_index_key", "lock_word_index_key", "rewrap_word_index_key"}
    giving = {
        "read_keys_to_rewrap",
        "begin_transcription",
        "open_transcript",
        "search_transcripts",
        "read_patient_keys_to_rewrap",
        "begin_signing",
        "begin_label",
        "begin_session_note",
        "begin_note_change",
        "export_session_notes",
        "begin_insights",
        "open_insights",
        "read_signed_notes",
        "record_disclosure",
        "begin_accounting",
        "add_amendment_statement",
        "read_amendment_texts",
        "suspend_disclosures",
        "read_disclosure_texts",
        "export_signed_notes",
        "begin_thumbnail",
        "open_thumbnail",
    }
    assert set(sources) == giving | of_the_index | {
        "keys_of",  # only the functions that open notes may call it
        "gather_note_draft",  # its callers write the audit row before they return what it has read
        "topics_of",  # private.require_audit_of makes the commit write the audit row
        "label_of",  # private.require_audit_of makes the commit write the audit row
        "make_recording_key",
        "rewrap_recording_keys",
        "shred_keys",
        "make_patient_key",
        "destroy_due_notes",
        "rewrap_patient_keys",
    }
    assert "private.require_audit_of(" in sources["topics_of"]
    assert "private.require_audit_of(" in sources["label_of"]
    for name in giving:
        source = sources[name]
        writes = (
            "private.write_audit(",
            "private.write_audit_later(",
            "private.audit_accounting(",
            "private.write_lookup(",
            "private.audit_notes(",
            "private.find_transcript(",
            "private.find_insights(",
            "private.audit_thumbnail(",
            "private.find_thumbnail(",
            "insert into private.searches",
        )
        first = min(source.index(write) for write in writes if write in source)
        assert first < source.rindex("return query"), name


@pytest.fixture(scope="module")
def stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with small_stack.running(cluster, tmp_path_factory.mktemp("keys")) as made:
        yield made


@pytest.fixture
def run(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs the command `resguardo` with the settings of the test stack. Keyword arguments of
    the function change settings.
    """
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, typed: str | None = None, **changes: str) -> Result:
        set_environment(monkeypatch, {**stack.environment, **changes})
        if typed is None:
            monkeypatch.setenv("RESGUARDO_ESCROW_PASSPHRASE", PASSPHRASE)
        else:
            monkeypatch.delenv("RESGUARDO_ESCROW_PASSPHRASE", raising=False)
        return CliRunner().invoke(cli, list(arguments), input=typed)

    return call


def test_check_registers_nothing_and_tells_a_wrong_and_a_missing_key(run: Run, stack: Stack) -> None:
    assert "✓ worker: root keys" in run("check").output
    with psycopg.connect(stack.project.superuser_url, autocommit=True) as connection:
        assert connection.execute("select id from private.root_keys").fetchall() == []
        connection.execute("insert into private.root_keys values ('tests-1', %s)", [bytes(16)])
        told = run("check").output
        connection.execute("delete from private.root_keys")
    assert "✗ worker: root keys: root_key_wrong" in told
    assert operator_message("root_key_wrong") in told


def test_worker_with_a_wrong_root_key_does_not_start(run: Run, stack: Stack) -> None:
    with psycopg.connect(stack.project.superuser_url, autocommit=True) as connection:
        connection.execute("insert into private.root_keys values ('tests-1', %s)", [bytes(16)])
        told = run("worker")
        connection.execute("delete from private.root_keys")
    assert told.exit_code == 1
    assert "CONFLICT root_key_wrong" in told.output
    assert stack.environment["ROOT_KEYS"].split(":")[1] not in told.output


def test_new_key_can_be_put_into_the_settings(run: Run) -> None:
    made = run("keys", "new", "2027-01")
    assert made.exit_code == 0
    [line] = re.findall(r"^2027-01:\S+$", made.stdout, re.MULTILINE)
    assert Keyring.parse(line).ids == ("2027-01",)
    assert run("keys", "new", "2027-01").stdout != made.stdout
    assert "root_key_id" in run("keys", "new", "NO").output


def test_escrow_is_written_once_and_opens_with_its_passphrase(run: Run, stack: Stack, tmp_path: Path) -> None:
    written, again = run("keys", "escrow", "escrow"), run("keys", "escrow", "escrow")
    assert (written.exit_code, again.exit_code) == (0, 1)
    assert "escrow_exists" in again.output
    opened_ = run("keys", "check", "escrow")
    assert opened_.exit_code == 0
    assert "escrow of demo" in opened_.output
    assert "root key tests-1" in opened_.output
    wrong = run("keys", "check", "escrow", typed="another passphrase, as long\n")
    assert wrong.exit_code == 1
    assert "INVALID_INPUT escrow_unreadable" in wrong.output
    secret = stack.environment["ROOT_KEYS"].split(":")[1]
    for told in (written, again, opened_, wrong):
        assert not [one for one in (secret, PASSPHRASE, "another passphrase") if one in told.output]
    assert secret not in (tmp_path / "escrow").read_text()


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("short\nshort\n", "passphrase_short"),
        ("sixteen characters\nsixteen characterz\n", "passphrases_differ"),
    ],
)
def test_passphrase_that_is_short_or_mistyped_writes_nothing(
    run: Run, tmp_path: Path, typed: str, reason: str
) -> None:
    told = run("keys", "escrow", "escrow", typed=typed)
    assert told.exit_code == 1
    assert reason in told.output
    assert not (tmp_path / "escrow").exists()
    assert run("keys", "escrow", "escrow", typed="sixteen characters\nsixteen characters\n").exit_code == 0


def test_status_tells_what_each_root_key_wraps_and_what_is_missing(run: Run, stack: Stack) -> None:
    old = stack.environment["ROOT_KEYS"]
    newer = new_key_line("newer")
    wrapped = Keyring.parse(old).new_data_key().wrapped
    with psycopg.connect(stack.project.superuser_url, autocommit=True) as connection:
        for name, value in Keyring.parse(old).check_values().items():
            connection.execute("insert into private.root_keys values (%s, %s)", [name, value])
        connection.execute("insert into private.word_index_key values (true, %s, 'tests-1')", [wrapped])
        before, missing = (
            run("keys", "status", ROOT_KEYS=f"{newer},{old}"),
            run("keys", "status", ROOT_KEYS=newer),
        )
        rotated = run("keys", "rotate", ROOT_KEYS=f"{newer},{old}")
        after = run("keys", "status", ROOT_KEYS=f"{newer},{old}")
        alone = run("keys", "status", ROOT_KEYS=newer)
        connection.execute("delete from private.word_index_key")
        connection.execute("delete from private.root_keys")
    assert [one.exit_code for one in (before, missing, rotated, after, alone)] == [0, 1, 0, 0, 0]
    assert "newer (the current one): wraps nothing" in before.output
    assert "tests-1: 1 key of the word index (rotate)" in before.output
    assert "tests-1 (not in ROOT_KEYS): 1 key of the word index" in missing.output
    assert "root_key_missing" in missing.output
    assert "newer (the current one): 1 key of the word index" in after.output
    assert "tests-1: wraps nothing (may leave ROOT_KEYS)" in after.output
    assert not [one for one in (before, missing, after) if newer.split(":")[1] in one.output]


def test_rotation_on_the_command_line(run: Run, stack: Stack) -> None:
    newer = f"{new_key_line('newer')},{stack.environment['ROOT_KEYS']}"
    done = run("keys", "rotate", ROOT_KEYS=newer)
    assert done.exit_code == 0, done.output
    assert "0 data keys are wrapped by the current root key" in done.output
    with psycopg.connect(stack.project.superuser_url, autocommit=True) as connection:
        assert connection.execute("select id from private.root_keys").fetchall() == [("newer",)]
        connection.execute("delete from private.root_keys")
