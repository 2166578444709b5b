"""`resguardo certificate`: commands for auditors, who have only a file and a public key.

The certificate commands read no settings and use neither a database nor the network.
"""

import logging
import secrets
from base64 import b64encode
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.certificates.model import Certificate, moment_text
from app.certificates.signing import (
    SEED_BYTES,
    CertificateSigner,
    check,
    public_key_pem,
    read_public_key,
    read_signed,
)
from app.commands.console import out, refusals_told

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
    """Check that a certificate is genuine, and print what it certifies. The exit code is 0 if it is genuine, and 1
    if not.
    """
    from app.certificates.pdf import (
        MAGIC,
        check_pdf,
    )  # this import takes a tenth of a second, and no other command needs it

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its messages quote the file
    with refusals_told():
        public_key = read_public_key(_content(key))
        content = _content(file)
        certificate = (check_pdf if content.startswith(MAGIC) else check)(content, public_key)
        out.print("[green]genuine[/]: signed with this key, and unaltered since")
        for name, value in _summary(certificate).items():
            out.print(f"  {name:<13} {escape(value)}")


@commands.command("pdf")
def write_pdf(
    file: Annotated[
        Path, typer.Argument(help="The signed certificate, JSON.", exists=True, dir_okay=False, readable=True)
    ],
    to: Annotated[Path, typer.Argument(help="The PDF to write; none may be there.")],
) -> None:
    """Write a certificate as a PDF for people, with the signed file attached. Does not check the signature."""
    from app.certificates.pdf import render_pdf

    with refusals_told():
        document = render_pdf(read_signed(_content(file)))
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
    out.print(f"# The public key, {signer.key_id}, for whoever is to check certificates:")
    out.print(public_key_pem(signer.public_key), end="")


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def _summary(certificate: Certificate) -> dict[str, str]:
    policy = certificate.policy
    known_sizes = [one.size_bytes for one in certificate.objects if one.size_bytes is not None]
    return {
        "recording": str(certificate.recording_id),
        "consultation": str(certificate.consultation_id),
        "deployment": certificate.deployment,
        "ground": f"{certificate.ground}" + (f", {certificate.reason}" if certificate.reason else ""),
        "policy": f"{policy.name}, sha256 {policy.sha256}" if policy else "none",
        "holds": f"none at {moment_text(certificate.hold_check.checked_at)}",
        "objects": f"{len(certificate.objects)} of {sum(known_sizes)} bytes, each answered 404",
        "keys": f"{len(certificate.keys)} destroyed",
        "words": f"{sum(one.rows for one in certificate.words_cleared)} rows cleared",
        "destroyed": f"{moment_text(certificate.destroyed_at)}",
        "backups until": certificate.backups_until.isoformat(),
        "number": f"{certificate.number}" + (f", after {certificate.repeats}" if certificate.repeats else ""),
    }
