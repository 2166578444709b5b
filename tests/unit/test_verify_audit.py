"""Tests of `tools/verify_audit.py`: an auditor runs it on files alone, in a process without Resguardo."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from app.packaged import repository_path
from app.transparency_log.checkpoints import MlDsa44Cosigner
from app.transparency_log.merkle import leaf_hash
from app.transparency_log.policies import Witness
from tests.transparency_logs import START, Event, PublishedLog, make_event

TOOL = repository_path("tools/verify_audit.py")
EVENTS = 66_000
SIZES = (100, 300, 65_700, EVENTS)
"""The sizes of the checkpoints. The last tree has a full tile of level 1."""


def verify(*arguments: object) -> tuple[int, str]:
    """Run the tool in isolated mode. Return its exit code and what it prints."""
    done = subprocess.run(
        [sys.executable, "-I", TOOL, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> PublishedLog:
    """Return a log with four checkpoints."""
    log = PublishedLog(tmp_path_factory.mktemp("audit"))
    events = [make_event(number).entry for number in range(EVENTS)]
    for size in SIZES:
        log.append(events[len(log.entries) : size])
        log.publish(START + size)
    (log.folder / "policy").write_text(log.policy.format())
    return log


@pytest.fixture
def log(original: PublishedLog, tmp_path: Path) -> PublishedLog:
    """Return a copy of the log."""
    copy = replace(
        original, folder=tmp_path / "copy", hashes={k: list(v) for k, v in original.hashes.items()}
    )
    shutil.copytree(original.folder, copy.folder)
    return copy


@pytest.fixture
def policy(log: PublishedLog) -> Path:
    """Return the policy file."""
    return log.folder / "policy"


def test_the_file_has_at_most_300_lines_and_needs_only_cryptography() -> None:
    text = TOOL.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    imported = {
        line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))
    }
    assert imported - sys.stdlib_module_names == {"cryptography"}


def test_an_unchanged_log_is_verified(log: PublishedLog, policy: Path) -> None:
    code, said = verify(policy, "--tiles", log.folder)
    assert code == 0
    assert said.splitlines() == [
        f"NOTE 1090 minutes without a checkpoint before {log.home}/checkpoints/65700",
        f"verify_audit: {EVENTS} events of resguardo/test/2026: verified",
    ]


def change_byte(path: Path) -> int:
    """Change the last byte of a file. Return the file's size."""
    content = path.read_bytes()
    return path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("tile-changed", lambda log: change_byte(log.home / "tile/0/007")),
        ("tile-changed", lambda log: change_byte(log.home / "tile/entries/007")),
        ("tile-changed", lambda log: change_byte(log.home / "tile/0/001.p/44")),
        ("tile-changed", lambda log: change_byte(log.home / "tile/entries/000.p/100")),
        ("tile-changed", lambda log: change_byte(log.home / "tile/1/000")),
        ("tile-changed", lambda log: change_byte(log.home / "tile/1/001.p/1")),
        ("tile-changed", lambda log: change_byte(log.home / "tile/2/000.p/1")),
        (
            "root-differs",
            lambda log: [change_byte(log.home / f"tile/{one}/257.p/208") for one in ("0", "entries")],
        ),
        ("tile-missing", lambda log: (log.home / "tile/0/007").unlink()),
        ("tile-missing", lambda log: (log.home / "tile/entries/007").unlink()),
        ("tile-missing", lambda log: (log.home / "tile/2/000.p/1").unlink()),
        ("not-verified", lambda log: [(log.home / f"tile/{one}/007").unlink() for one in ("0", "entries")]),
        ("tile-changed", lambda log: (log.home / "tile/0/007").write_bytes(b"short")),
        ("checkpoint-forged", lambda log: change_byte(log.home / "checkpoints/300")),
        ("checkpoint-forged", lambda log: (log.home / "checkpoints/300").write_bytes(b"")),
        ("checkpoint-missing", lambda log: [one.unlink() for one in (log.home / "checkpoints").iterdir()]),
        (
            "checkpoint-misplaced",
            lambda log: (log.home / "checkpoints/300").rename(log.home / "checkpoints/301"),
        ),
        ("checkpoint-misplaced", lambda log: log.home.rename(log.home.with_name("2027"))),
    ],
)
def test_each_change_of_a_file_has_a_name(
    log: PublishedLog, policy: Path, name: str, attack: Callable[[PublishedLog], object]
) -> None:
    attack(log)
    code, said = verify(policy, "--tiles", log.folder)
    assert code == 1
    assert f"FINDING {name}: " in said


def test_a_change_is_located(log: PublishedLog, policy: Path) -> None:
    path = log.home / "tile/0/007"
    content = path.read_bytes()
    path.write_bytes(content[:64] + bytes(32) + content[96:])
    _, said = verify(policy, "--tiles", log.folder)
    assert f"the hash in {log.home}/tile/0 of the events 1794 to 1794 is not the hash below it" in said
    assert f"the hash in {log.home}/tile/1 of the events 1792 to 2047 is not the hash below it" in said


def rewrite(log: PublishedLog, folder: Path, number: int, *, witnesses: int = 2) -> PublishedLog:
    """Return the log as a thief of its key would write it anew, without the event `number`."""
    other = PublishedLog(folder)
    other.append([entry for place, entry in enumerate(log.entries) if place != number])
    other.append([make_event(number).entry])
    other.publish(START + EVENTS, witnesses=witnesses)
    return other


def test_a_log_that_was_signed_again_with_the_stolen_key_lacks_the_witnesses(
    log: PublishedLog, policy: Path, tmp_path: Path
) -> None:
    other = rewrite(log, tmp_path / "other", 500, witnesses=1)
    code, said = verify(policy, "--tiles", other.folder)
    assert code == 1
    assert "FINDING quorum-missing: " in said


def test_two_histories_are_a_split_view(log: PublishedLog, policy: Path, tmp_path: Path) -> None:
    """Even the witnesses signed both. An auditor with a second bucket or an older checkpoint detects it."""
    other = rewrite(log, tmp_path / "other", 500)
    assert verify(policy, "--tiles", other.folder)[0] == 0
    for arguments in (
        ["--tiles", other.folder, log.folder],
        ["--tiles", other.folder, "--known", log.home / "checkpoints/65700"],
    ):
        code, said = verify(policy, *arguments)
        assert code == 1
        assert "FINDING split-view: " in said


def test_a_log_without_its_newest_events_is_rolled_back(
    log: PublishedLog, policy: Path, tmp_path: Path
) -> None:
    known = shutil.copy(log.home / f"checkpoints/{EVENTS}", tmp_path / "known")
    (log.home / f"checkpoints/{EVENTS}").unlink()
    assert verify(policy, "--tiles", log.folder)[0] == 0
    code, said = verify(policy, "--tiles", log.folder, "--known", known)
    assert code == 1
    assert f"FINDING rolled-back: {log.home} ends at 65700 events" in said


def test_a_known_log_that_is_gone_is_missing(log: PublishedLog, policy: Path, tmp_path: Path) -> None:
    known = shutil.copy(log.home / f"checkpoints/{EVENTS}", tmp_path / "known")
    next_year = PublishedLog(tmp_path / "next", year=2027)
    next_year.publish(START)
    both = replace(log.policy, logs=(*log.policy.logs, *next_year.policy.logs))
    policy.write_text(both.format())
    code, said = verify(policy, "--tiles", next_year.folder, "--known", known)
    assert code == 1
    assert "FINDING checkpoint-missing: no folder has `checkpoints` of resguardo/test/2026" in said


def test_a_full_tile_replaces_the_partial_ones(log: PublishedLog, policy: Path) -> None:
    """A log may delete a partial tile as soon as the full one exists."""
    for path in ("tile/0/000.p", "tile/entries/000.p", "tile/0/001.p"):
        shutil.rmtree(log.home / path)
    (log.home / f"checkpoints/{EVENTS}").unlink()
    assert verify(policy, "--tiles", log.folder)[0] == 0


def test_the_logs_of_several_years_are_verified_together(log: PublishedLog, tmp_path: Path) -> None:
    next_year = PublishedLog(log.folder, year=2027)
    next_year.append([make_event(0).entry])
    next_year.publish(START)
    both = replace(log.policy, logs=(*log.policy.logs, *next_year.policy.logs))
    (tmp_path / "both").write_text(both.format())
    code, said = verify(tmp_path / "both", "--tiles", log.folder)
    assert (code, said.splitlines()[-1]) == (
        0,
        f"verify_audit: {EVENTS} events of resguardo/test/2026, 1 events of resguardo/test/2027: verified",
    )


def test_an_empty_log_is_verified(tmp_path: Path) -> None:
    log = PublishedLog(tmp_path)
    log.publish(START)
    (tmp_path / "policy").write_text(log.policy.format())
    assert verify(tmp_path / "policy", "--tiles", tmp_path)[0] == 0


@pytest.fixture
def receipt(log: PublishedLog, tmp_path: Path) -> tuple[Path, Path]:
    """Return the receipt of the event 777, and the event."""
    event = make_event(777)
    proof, content = tmp_path / "777.tlog-proof", tmp_path / "777.json"
    proof.write_bytes(log.receipt(777, event.salt, START + EVENTS).format())
    content.write_bytes(event.canonical)
    return proof, content


def test_a_receipt_verifies_without_tiles(policy: Path, receipt: tuple[Path, Path]) -> None:
    code, said = verify(policy, "--receipt", *receipt)
    assert (code, said) == (0, f"verify_audit: the event of {receipt[0]}: verified\n")


@pytest.mark.parametrize(
    ("name", "file", "old", "new"),
    [
        ("event-changed", 1, b"recording.read", b"recording.list"),
        ("event-changed", 0, b"index 777", b"index 778"),
        ("event-changed", 0, b"index 777", b"index 99999999"),
        ("event-changed", 0, b"extra ", b"extra AAAA"),
        ("receipt-malformed", 0, b"tlog-proof@v1", b"tlog-proof@v2"),
        ("receipt-malformed", 0, b"index 777\n", b""),
        ("checkpoint-forged", 0, b"\n66000\n", b"\n66001\n"),
        ("checkpoint-forged", 0, b"resguardo/test/2026 ", b"resguardo/test/2027 "),
        ("quorum-missing", 0, b"witness.example/1 ", b"witness.example/3 "),
    ],
)
def test_a_changed_receipt_is_named(
    policy: Path, receipt: tuple[Path, Path], name: str, file: int, old: bytes, new: bytes
) -> None:
    content = receipt[file].read_bytes()
    changed = content.replace(old, new)
    if new.endswith(b"AAAA"):  # another salt of the same length
        changed = changed.replace(b"AAAA" + content[29:33], b"AAAA", 1)
    assert changed != content
    receipt[file].write_bytes(changed)
    code, said = verify(policy, "--receipt", *receipt)
    assert code == 1
    assert f"FINDING {name}: " in said


ODD_EVENTS = [b"5", b"[]", b"{}", b"", b"\xff", b'{"recorded_at":5}', b'{"recorded_at":"x"}', b"[" * 100_000]


@pytest.mark.parametrize("content", ODD_EVENTS)
def test_an_event_of_any_content_is_named(policy: Path, receipt: tuple[Path, Path], content: bytes) -> None:
    receipt[1].write_bytes(content)
    code, said = verify(policy, "--receipt", *receipt)
    assert (code, "FINDING event-changed: " in said) == (1, True), said


def export_line(index: int | None, event: Event, origin: str = "resguardo/test/2026") -> bytes:
    """Return a line of an export."""
    place, salt = ("null", "null") if index is None else (str(index), f'"{event.salt.hex()}"')
    head = f'{{"log":"{origin}","index":{place},"salt":{salt},"event":'
    return head.encode() + event.canonical + b"}\n"


def test_each_line_of_an_export_is_compared_with_the_tiles(
    log: PublishedLog, policy: Path, tmp_path: Path
) -> None:
    export = tmp_path / "export.ndjson"
    numbers = [0, 255, 256, 65_535, 65_536, EVENTS - 1]
    lines = [
        *(export_line(number, make_event(number)) for number in numbers),
        export_line(None, make_event(9)),
        re.sub(rb'"salt":"[0-9a-f]+"', b'"salt":""', export_line(4, make_event(8))),
    ]
    export.write_bytes(b"".join(lines))
    code, said = verify(policy, "--tiles", log.folder, "--export", export)
    assert code == 0
    assert f"8 lines of {export}, 1 of them not sealed yet, 1 redacted: verified" in said


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("event-changed", export_line(7, make_event(8))),
        ("event-changed", export_line(7, replace(make_event(7), salt=bytes(16)))),
        *(
            ("event-changed", export_line(7, replace(make_event(7), canonical=odd)))
            for odd in (b"{}", b'{"recorded_at":5}', b'{"a":' + b"[" * 100_000 + b"}")
        ),
        ("not-verified", export_line(EVENTS, make_event(EVENTS))),
        ("not-verified", export_line(7, make_event(7), "resguardo/other/2026")),
        ("export-malformed", b'{"event":{}}\n'),
        ("export-malformed", export_line(7, make_event(7)).replace(b"{", b"{ ", 1)),
        ("export-malformed", export_line(7, make_event(7)).replace(b":7,", b":null,")),
        ("export-malformed", b"\xff\n"),
        ("export-malformed", b"\n"),
    ],
)
def test_a_changed_line_of_an_export_is_named(
    log: PublishedLog, policy: Path, tmp_path: Path, name: str, line: bytes
) -> None:
    export = tmp_path / "export.ndjson"
    export.write_bytes(export_line(6, make_event(6)) + line)
    code, said = verify(policy, "--tiles", log.folder, "--export", export)
    assert code == 1
    assert f"FINDING {name}: {export} line 2" in said


@pytest.mark.parametrize(("name", "second"), [("backdated", 10), ("clock-leap", 500)])
def test_an_event_whose_time_does_not_fit_its_place_is_named(tmp_path: Path, name: str, second: int) -> None:
    """The witnesses saw the checkpoints 2,000 and 100 seconds after START."""
    log = PublishedLog(tmp_path)
    log.append([make_event(0).entry])
    log.publish(START + (2_000 if name == "backdated" else 50))
    event = make_event(1, second=second)
    log.append([event.entry])
    log.publish(START + (2_100 if name == "backdated" else 100))
    (tmp_path / "policy").write_text(log.policy.format())
    (tmp_path / "export").write_bytes(export_line(0, make_event(0)) + export_line(1, event))
    code, said = verify(tmp_path / "policy", "--tiles", tmp_path, "--export", tmp_path / "export")
    assert code == 1
    assert f"FINDING {name}: " in said
    assert "1 " + name in said


def test_an_export_is_the_file_that_its_receipt_names(tmp_path: Path) -> None:
    export = tmp_path / "export.csv"
    export.write_text("id,action\r\n")
    event = make_event(3, digest=sha256(export.read_bytes()).hexdigest())
    log = PublishedLog(tmp_path)
    log.append([make_event(0).entry, event.entry])
    (tmp_path / "policy").write_text(log.policy.format())
    (tmp_path / "proof").write_bytes(log.receipt(1, event.salt, START + 9).format())
    (tmp_path / "event").write_bytes(event.canonical)
    arguments = (tmp_path / "policy", "--export", export, "--receipt", tmp_path / "proof", tmp_path / "event")
    assert verify(*arguments)[0] == 0
    export.write_text("id,action\r\nmore\r\n")
    code, said = verify(*arguments)
    assert code == 1
    assert "FINDING export-changed: " in said


def test_a_policy_may_name_an_ml_dsa_witness(tmp_path: Path) -> None:
    log = PublishedLog(tmp_path)
    log.append([make_event(0).entry])
    witness = MlDsa44Cosigner.from_seed("witness.example/pq", bytes(32))
    policy = replace(log.policy, witnesses={"pq": Witness(witness.verifier_key)}, groups={}, quorum="pq")
    (tmp_path / "policy").write_text(policy.format())
    path = log.publish(START)
    assert "FINDING quorum-missing: " in verify(tmp_path / "policy", "--tiles", tmp_path)[1]
    note = log.checkpoint(START)
    path.write_bytes(note.with_signatures([witness.cosign(note.text, START)]).format())
    assert verify(tmp_path / "policy", "--tiles", tmp_path)[0] == 0
    of_another = PublishedLog(tmp_path).checkpoint(START)
    path.write_bytes(note.with_signatures([witness.cosign(of_another.text, START)]).format())
    assert "FINDING checkpoint-forged: " in verify(tmp_path / "policy", "--tiles", tmp_path)[1]


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "quorum nobody",
        "quorum none\nquorum none",
        "log nonsense\nquorum none",
        "logs\nquorum none",
        "{witness}\n{witness}\nquorum none",
        "{witness}\ngroup g 2 one\nquorum g",
        "{witness}\ngroup g 0 one\nquorum g",
        "{witness}\ngroup g any one\ngroup h any one\nquorum h",
        "{witness}\ngroup g any none\nquorum g",
    ],
)
def test_a_malformed_policy_is_an_error_of_its_own(log: PublishedLog, tmp_path: Path, lines: str) -> None:
    witness = f"witness one {log.witnesses[0].verifier_key.format()}"
    (tmp_path / "policy").write_text(lines.format(witness=witness))
    assert verify(tmp_path / "policy", "--tiles", log.folder)[0] == 2


def test_nothing_is_not_verified(policy: Path, tmp_path: Path) -> None:
    assert verify(policy)[0] == 1
    (tmp_path / "empty").mkdir()
    assert verify(policy, "--tiles", tmp_path / "empty")[0] == 1
    assert verify(tmp_path / "missing", "--tiles", tmp_path)[0] == 2


def test_the_last_tile_may_be_full(tmp_path: Path) -> None:
    log = PublishedLog(tmp_path)
    for size in (256, 512):
        log.append([leaf_hash(b"%d" % number) for number in range(256)])
        log.publish(START + size)
    (tmp_path / "policy").write_text(log.policy.format())
    assert verify(tmp_path / "policy", "--tiles", tmp_path) == (
        0,
        "verify_audit: 512 events of resguardo/test/2026: verified\n",
    )
