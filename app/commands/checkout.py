"""Gives the commands access to what only a checkout of the repository has: the development stack and the schema
files.
"""

import importlib
from pathlib import Path
from types import ModuleType

import typer

from app.commands.console import err


def load_devstack(module: str, *, command: str) -> ModuleType:
    """Import `devstack.<module>`. If the program does not run from a checkout of the repository, print a message
    and exit with code 1.
    """
    name = f"devstack.{module}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in ("devstack", name):
            raise
    raise _refused(command, "development stack")


def require_schemas(directory: Path, *, command: str) -> None:
    """If there is no directory of schema files, print a message and exit with code 1."""
    if not directory.is_dir():
        raise _refused(command, "schema files")


def _refused(command: str, missing: str) -> typer.Exit:
    err.print(f"{command} needs a checkout of the repository: an installed wheel has no {missing}")
    return typer.Exit(1)
