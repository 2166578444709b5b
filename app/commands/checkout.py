"""The development stack, which is in a checkout of the repository and not in an installed wheel."""

import importlib
from types import ModuleType

import typer

from app.commands.console import err


def load_devstack(module: str, *, command: str) -> ModuleType:
    """Import `devstack.<module>`. Without a checkout, end the command with 1 and one line that says so."""
    name = f"devstack.{module}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in ("devstack", name):
            raise
    err.print(f"{command} needs a checkout of the repository: an installed wheel has no development stack")
    raise typer.Exit(1)
