"""`resguardo webhooks`."""

import secrets
from base64 import b64encode

import typer

SECRET_BYTES = 32

commands = typer.Typer(no_args_is_help=True, help="Outgoing webhooks.")


@commands.callback()
def _options() -> None:
    """Outgoing webhooks."""


@commands.command("new-secret")
def make_secret() -> None:
    """Print a new secret for OUTGOING_WEBHOOK_SECRETS. Stores nothing."""
    typer.echo(f"whsec_{b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}")
