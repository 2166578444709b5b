"""`resguardo certificate`: commands for auditors, who have only a file and a public key.

The certificate commands read no settings and use neither a database nor the network.
"""

import logging
import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.certificates.model import Certificate, format_fact, format_moment
from app.certificates.signing import (
    SEED_BYTES,
    CertificateSigner,
    check,
    compute_key_id,
    encode_public_key_pem,
    read_public_key,
    read_signed,
)
from app.commands.console import out, report_refusals

_MOST_BYTES = 5 * 1024 * 1024 + 1
"""The number of bytes that are read: one more than any certificate has, JSON or PDF."""

commands = typer.Typer(no_args_is_help=True, help="Certificates of destruction.")


@commands.command("check")
def check_file(
    file: Annotated[
        Path, typer.Argument(help="The certificate, JSON or PDF.", exists=True, dir_okay=False, readable=True)
    ],
    key: Annotated[
        Path,
        typer.Option(
            help="The practice's public key, PEM or base64.", exists=True, dir_okay=False, readable=True
        ),
    ],
) -> None:
    """Check the signature of a certificate, and print the signed facts. The exit code is 0 if the signature is
    valid, and 1 if not. The visible pages of a certificate PDF prove nothing; only its attached, signed file does.
    """
    from app.certificates.pdf import MAGIC, read_attachment  # takes 0.1 s, and no other command needs it

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its messages quote the file
    with report_refusals():
        public_key = read_public_key(_read_file(key))
        content = _read_file(file)
        is_pdf = content.startswith(MAGIC)
        certificate = check(read_attachment(content) if is_pdf else content, public_key)
        out.print("[green]genuine[/]: signed with this key, and unaltered since")
        if is_pdf:
            out.print("The text on the pages of the PDF is no proof. Only the facts below are signed.")
        for line in _fact_lines(certificate, signer=compute_key_id(public_key)):
            out.print(escape(line))


@commands.command("pdf")
def write_pdf(
    file: Annotated[
        Path, typer.Argument(help="The signed certificate, JSON.", exists=True, dir_okay=False, readable=True)
    ],
    to: Annotated[Path, typer.Argument(help="The PDF to write; none may be there.")],
) -> None:
    """Write a certificate as a PDF for people, with the signed file attached. The command `pdf` does not check the
    certificate's signature.
    """
    from app.certificates.pdf import render_pdf

    with report_refusals():
        document = render_pdf(read_signed(_read_file(file)))
    try:
        with to.open("xb") as written:
            written.write(document)
    except OSError as error:
        raise typer.BadParameter(f"{to}: {error.strerror}") from None
    out.print(f"written: {escape(str(to))}")


@commands.command("new-key")
def make_key() -> None:
    """Print a new seed for CERTIFICATE_SIGNING_KEY and its public key. Stores neither."""
    seed = b64encode(secrets.token_bytes(SEED_BYTES)).decode()
    signer = CertificateSigner.from_seed(seed)
    out.print(f"CERTIFICATE_SIGNING_KEY={seed}")
    out.print(f"# The public key, {signer.key_id}, for everyone who checks certificates:")
    out.print(encode_public_key_pem(signer.public_key), end="")


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def _fact_lines(certificate: Certificate, *, signer: str) -> Iterator[str]:
    policy, objects = certificate.policy, certificate.objects
    known_sizes = [one.size_bytes for one in objects if one.size_bytes is not None]
    yield from _lines(
        {
            **({"signed note": certificate.signed_note_id} if certificate.signed_note_id else {}),
            "recording": certificate.recording_id,
            "consultation": certificate.consultation_id,
            "deployment": certificate.deployment,
            "ground": certificate.ground,
            "reason": certificate.reason,
            "requested at": certificate.requested_at,
            "policy": f"{policy.name}, sha256 {policy.sha256}" if policy else None,
            "holds": f"none at {format_moment(certificate.hold_check.checked_at)}",
            "destroyed at": certificate.destroyed_at,
            "last backup ages out on": certificate.backups_until,
            "number": certificate.number,
            "previous file": certificate.repeats,
            "signer key": signer,
            "objects": f"{len(objects)}, {sum(known_sizes)} bytes",
        }
    )
    for one in objects:
        yield from _lines(
            {
                "object": one.kind,
                "  sha256 of its key": one.key_sha256,
                "  bytes": one.size_bytes,
                "  sha256 of content": one.sha256,
                "  etag": one.etag,
                "  deleted at": one.deleted_at,
                "  HEAD answered": f"{one.head_status} at {format_moment(one.head_at)}",
            }
        )
    for key in certificate.keys:
        yield from _lines(
            {
                "destroyed key": key.kind,
                "  sha256 when wrapped": key.wrapped_key_sha256,
                "  root key": key.root_key_id,
                "  destroyed at": key.destroyed_at,
            }
        )
    for cleared in certificate.text_rows_cleared:
        yield from _lines({"rows without text": f"{cleared.rows} of {cleared.table}"})
    for note in certificate.surviving_notes:
        yield from _lines(
            {
                "surviving signed note": note.signed_note_id,
                "  sha256 of versions": " ".join(note.versions_sha256),
                "  quotes kept": note.quotes,
                "  due at": note.due_at,
            }
        )


def _lines(facts: Mapping[str, object]) -> Iterator[str]:
    for name, value in facts.items():
        yield f"  {name:<24} {'none' if value is None else format_fact(value)}"
