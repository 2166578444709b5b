"""Finds the files of the repository that Resguardo reads while it runs: migrations, policies and tools.

A wheel has copies of these files in `app/data` (`pyproject.toml`, `tool.hatch.build.targets.wheel.sources`). A
checkout of the repository has no `app/data`, and the files are read from their own place in the repository.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def repository_path(name: str) -> Path:
    """Return the path of a file or directory whose path in the repository is `name`, such as `policies/access`."""
    copies = _PACKAGE / "data"
    return (copies if copies.is_dir() else _PACKAGE.parent) / name
