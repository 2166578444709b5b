"""Tests of the TypeScript example that do not need Node. The tests read the example's GraphQL scalars, its operations,
its package versions, and its lock file.
"""

import json
import re
from pathlib import Path

import graphql
import pytest

from graphql_schema.document_limits import Limits, find_excess

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


def _operations() -> dict[str, graphql.DocumentNode]:
    """Return each operation of the example by its name, with the fragments that it spreads."""
    texts = [
        text
        for file in sorted((EXAMPLE / "src").glob("*.ts"))
        for text in re.findall(r"graphql\(`(.*?)`\)", file.read_text(), re.DOTALL)
    ]
    definitions = [node for text in texts for node in graphql.parse(text).definitions]
    whole = graphql.DocumentNode(definitions=tuple(definitions))
    return graphql.utilities.separate_operations(whole)


@pytest.mark.parametrize("name", sorted(_operations()))
def test_operation_of_the_example_is_valid_and_fits_the_limits(name: str) -> None:
    document = _operations()[name]
    assert graphql.validate(graphql.build_schema(SCHEMA.read_text()), document) == []
    assert find_excess(Limits(), document) is None


class _Selections(graphql.Visitor):
    """Collects the types that an operation shows, and the fields that it selects of each."""

    def __init__(self, types: graphql.TypeInfo) -> None:
        super().__init__()
        self._types = types
        self.found: list[tuple[str, set[str]]] = []

    def enter_selection_set(self, node: graphql.SelectionSetNode, *_: object) -> None:
        """Keep the named type of the selection, with the names of its fields and of its fragments."""
        shown = self._types.get_parent_type()
        named = (graphql.FieldNode, graphql.FragmentSpreadNode)
        names = {one.name.value for one in node.selections if isinstance(one, named)}
        if shown is not None:
            self.found.append((shown.name, names))


def test_cache_knows_the_key_of_each_type_and_updates_nothing_by_hand() -> None:
    """A view shows a change because the payload has the changed objects, and not because of an update by hand."""
    schema = graphql.build_schema(SCHEMA.read_text())
    cache = (EXAMPLE / "src" / "cache.ts").read_text()
    assert "updates" not in cache
    assert "optimistic" not in cache
    keys = set(re.findall(r"^      (\w+): ", cache, re.MULTILINE))
    for name, document in _operations().items():
        types = graphql.TypeInfo(schema)
        selections = _Selections(types)
        graphql.visit(document, graphql.TypeInfoVisitor(types, selections))
        fragments = {
            one.name.value for one in document.definitions if isinstance(one, graphql.FragmentDefinitionNode)
        }
        for kind, fields in selections.found:
            shown = schema.get_type(kind)
            assert isinstance(shown, graphql.GraphQLObjectType)
            if "id" in shown.fields:
                assert "id" in fields or fields & fragments, f"{name}: {kind}"
            elif kind not in {"Query", "Mutation", "Subscription"} and not kind.endswith("Payload"):
                assert kind in keys, f"{name}: {kind}"
