"""Tests of the command `resguardo certificate` as an auditor runs it: the auditor has a file and a public key, but
no settings of Resguardo.
"""

import os
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pypdf
import pytest
from typer.testing import CliRunner, Result

from app import cli
from app.certificates.pdf import render_pdf
from app.certificates.signing import CertificateSigner, encode_public_key_pem, read_public_key
from app.settings import WorkerSettings, load
from app.texts import operator_message
from tests.unit.certificates import FULL, OTHER_SIGNER, SIGNER
from tests.unit.environments import ENVIRONMENTS, set_environment

Run = Callable[..., Result]
SIGNED = SIGNER.sign(FULL)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    set_environment(monkeypatch, {})
    (tmp_path / "pub.pem").write_text(encode_public_key_pem(SIGNER.public_key))
    (tmp_path / "other.pem").write_text(encode_public_key_pem(OTHER_SIGNER.public_key))
    (tmp_path / "certificate.json").write_bytes(SIGNED.file)
    (tmp_path / "certificate.pdf").write_bytes(render_pdf(SIGNED))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli.cli, ["certificate", *arguments])

    return invoke


FACTS = f"""\
  recording                4f1f8f1e-37a5-4d0c-9a51-6f8a4f2b7c11
  consultation             90cde0f1-2d1b-4f64-8a3c-1b1a2f7e5d22
  deployment               test-practice
  ground                   RETENTION
  reason                   none
  requested at             none
  policy                   2026-11, sha256 {"a1" * 32}
  holds                    none at 2026-11-21T12:00:00.000120Z
  destroyed at             2026-11-21T12:00:00.000120Z
  last backup ages out on  2026-12-26
  number                   1
  previous file            none
  signer key               {SIGNER.key_id}
  objects                  2, 73400320 bytes
  object                   video.mp4
    sha256 of its key      {"b2" * 32}
    bytes                  73400320
    sha256 of content      {"c3" * 32}
    etag                   9b2cf535f27731c974343645a3985328-5
    deleted at             2026-11-21T12:00:00.000120Z
    HEAD answered          404 at 2026-11-21T12:00:00.000120Z
  object                   speakers.ogg
    sha256 of its key      {"d4" * 32}
    bytes                  none
    sha256 of content      none
    etag                   none
    deleted at             2026-11-21T12:00:00.000120Z
    HEAD answered          404 at 2026-11-21T12:00:00.000120Z
  destroyed key            recording
    sha256 when wrapped    {"e5" * 32}
    root key               root-2026
    destroyed at           2026-11-21T12:00:00.000120Z
  rows without text        214 of resguardo.transcripts
  surviving signed note    5a6b7c8d-1111-4222-8333-944455556666
    sha256 of versions     {"f7" * 32} {"f8" * 32}
    quotes kept            21
    due at                 2026-11-21T12:00:00.000120Z
"""
GENUINE = "genuine: signed with this key, and unaltered since\n"
PAGES_ARE_NO_PROOF = "The text on the pages of the PDF is no proof. Only the facts below are signed.\n"


def test_check_of_a_genuine_json_prints_the_signed_facts(run: Run) -> None:
    result = run("check", "certificate.json", "--key", "pub.pem")
    assert (result.exit_code, result.output) == (0, GENUINE + FACTS)


def test_check_of_a_genuine_pdf_prints_the_signed_facts_and_that_pages_are_no_proof(
    run: Run, tmp_path: Path
) -> None:
    result = run("check", "certificate.pdf", "--key", "pub.pem")
    assert (result.exit_code, result.output) == (0, GENUINE + PAGES_ARE_NO_PROOF + FACTS)
    path = tmp_path / "certificate.pdf"
    path.write_bytes(path.read_bytes().replace(b"2026-12-26", b"2026-12-25", 1))
    assert run("check", "certificate.pdf", "--key", "pub.pem").output == result.output


def test_check_takes_the_key_in_base64(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pub.txt").write_bytes(b64encode(SIGNER.public_key.public_bytes_raw()) + b"\n")
    assert run("check", "certificate.json", "--key", "pub.txt").exit_code == 0


def test_check_of_what_was_destroyed_again_names_the_certificate_before(run: Run, tmp_path: Path) -> None:
    again = replace(FULL, number=2, repeats=SIGNED.sha256, reason="restored_backup")
    (tmp_path / "again.json").write_bytes(SIGNER.sign(again).file)
    told = run("check", "again.json", "--key", "pub.pem").output
    assert f"  number                   2\n  previous file            {SIGNED.sha256}\n" in told
    assert "  reason                   restored_backup\n" in told


@pytest.mark.parametrize("file", ["certificate.json", "certificate.pdf"])
@pytest.mark.parametrize("key", ["pub.pem", "other.pem"])
def test_check_of_an_altered_certificate_says_why_not(run: Run, tmp_path: Path, file: str, key: str) -> None:
    path = tmp_path / file
    path.write_bytes(path.read_bytes().replace(b"2026-12-26", b"2026-12-25"))
    result = run("check", file, "--key", key)
    reason = "certificate_signature" if key == "pub.pem" else "certificate_other_key"
    assert (result.exit_code, result.output) == (1, f"INVALID_INPUT {reason}\n  {operator_message(reason)}\n")


@pytest.mark.parametrize("names", [[], ["other.json"], ["certificate.json", "certificate.json"]])
def test_check_of_a_pdf_without_exactly_one_certificate_says_so(
    run: Run, tmp_path: Path, names: list[str]
) -> None:
    writer = pypdf.PdfWriter()
    for name in names:
        writer.add_attachment(name, SIGNED.file)
    writer.write(tmp_path / "several.pdf")
    result = run("check", "several.pdf", "--key", "pub.pem")
    remedy = operator_message("certificate_pdf_attachments")
    assert (result.exit_code, result.output) == (
        1,
        f"INVALID_INPUT certificate_pdf_attachments found={len(names)}\n  {remedy}\n",
    )


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"%PDF-1.7\nnothing", b"\0" * 6_000_000, b"%PDF-" + b"\0" * 6_000_000]
)
def test_check_of_a_file_that_is_no_certificate_exits_with_1(
    run: Run, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "file").write_bytes(content)
    result = run("check", "file", "--key", "pub.pem")
    assert result.exit_code == 1
    assert re.match(r"INVALID_INPUT certificate_(malformed|pdf_malformed|too_large)", result.output)


def test_check_with_a_file_that_is_no_key_exits_with_1(run: Run) -> None:
    result = run("check", "certificate.json", "--key", "certificate.json")
    assert (result.exit_code, result.output.split("\n")[0]) == (1, "INVALID_INPUT certificate_public_key")


def test_check_of_a_file_that_is_not_there_is_a_wrong_call(run: Run) -> None:
    assert run("check", "nowhere.json", "--key", "pub.pem").exit_code == 2
    assert run("check", "certificate.json").exit_code == 2


def test_pdf_is_written_once_and_checks(run: Run, tmp_path: Path) -> None:
    assert run("pdf", "certificate.json", "made.pdf").exit_code == 0
    assert (tmp_path / "made.pdf").read_bytes() == (tmp_path / "certificate.pdf").read_bytes()
    again = run("pdf", "certificate.json", "made.pdf")
    assert (again.exit_code, "File exists" in again.output) == (2, True)
    assert run("pdf", "certificate.json", "nowhere/made.pdf").exit_code == 2
    assert run("pdf", "pub.pem", "other.pdf").exit_code == 1
    assert not (tmp_path / "other.pdf").exists()


def test_new_key_is_a_setting_and_its_public_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run("new-key").output
    seed = told.splitlines()[0].removeprefix("CERTIFICATE_SIGNING_KEY=")
    signer = CertificateSigner.from_seed(seed)
    assert read_public_key(told[told.index("-----BEGIN") :].encode()) == signer.public_key
    assert signer.key_id in told
    assert run("new-key").output != told
    set_environment(monkeypatch, {**ENVIRONMENTS[WorkerSettings], "CERTIFICATE_SIGNING_KEY": seed})
    assert load(WorkerSettings).certificate_signing_key.get_secret_value() == seed


def test_check_asks_no_network_and_no_settings(run: Run, tmp_path: Path) -> None:
    """The test checks a certificate in a process that cannot open a socket."""
    script = """
import socket, sys
def refuse(*_, **__): raise SystemExit("a socket")
socket.socket.connect = socket.getaddrinfo = refuse
from app.cli import main
sys.argv = ["resguardo", "certificate", "check", sys.argv[1], "--key", sys.argv[2]]
main()
"""
    for file in ("certificate.json", "certificate.pdf"):
        done = subprocess.run(
            [sys.executable, "-c", script, file, "pub.pem"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("genuine")


def test_check_tells_nothing_of_a_hostile_file(run: Run, tmp_path: Path) -> None:
    """If the file is invalid, the command prints neither text from the file nor an error message of the parser."""
    path = tmp_path / "certificate.pdf"
    path.write_bytes(path.read_bytes().replace(b"/EmbeddedFiles", b"/[red]Maria   "))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "app.cli",
            "certificate",
            "check",
            str(path),
            "--key",
            str(tmp_path / "pub.pem"),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Maria" not in done.stdout + done.stderr
    assert done.stderr.count("\n") == 2


def test_signature_verifies_by_hand_with_openssl(run: Run, tmp_path: Path) -> None:
    """The test runs exactly the openssl commands that docs/certificates.md shows."""
    document = (Path(__file__).parents[2] / "docs" / "certificates.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"```sh\n(# by hand\n.*?)```", document, flags=re.DOTALL)

    def verify() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-e", "-c", commands], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert (verify().returncode, "Signature Verified Successfully" in verify().stdout) == (0, True)
    assert SIGNER.key_id in verify().stdout
    path = tmp_path / "certificate.json"
    path.write_bytes(SIGNED.file.replace(b"2026-12-26", b"2026-12-25"))
    assert (verify().returncode, "Signature Verified Successfully" in verify().stdout) == (1, False)
