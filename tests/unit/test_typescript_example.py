"""Tests of the TypeScript example that do not need Node. The tests read the example's GraphQL scalars, its package
versions, and its lock file.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "typescript"
SCHEMA = ROOT / "graphql_schema" / "schema.graphql"


def test_example_has_a_type_for_each_scalar_of_the_schema() -> None:
    scalars = re.findall(r"^scalar (\w+)", SCHEMA.read_text(), re.MULTILINE)
    config = (EXAMPLE / "codegen.ts").read_text()
    (named,) = re.findall(r"scalars: \{(.*?)\}", config, re.DOTALL)
    assert sorted(re.findall(r"(\w+): \"", named)) == sorted(scalars)


def test_example_pins_exact_versions_and_its_lock_has_them() -> None:
    package = json.loads((EXAMPLE / "package.json").read_text())
    lock = json.loads((EXAMPLE / "package-lock.json").read_text())["packages"]
    wanted = package["dependencies"] | package["devDependencies"]
    assert {
        name: version for name, version in wanted.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)
    } == {}
    assert {name: lock[f"node_modules/{name}"]["version"] for name in wanted} == wanted


def test_lock_of_the_example_names_no_registry() -> None:
    text = (EXAMPLE / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert "registry" not in text
    assert [name for name, one in packages.items() if "resolved" in one] == []
    assert [name for name, one in packages.items() if name and "integrity" not in one] == []
