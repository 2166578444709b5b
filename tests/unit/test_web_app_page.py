"""The page `docs/web-app.md` lists every error, scalar and type that the API has, and none that the API does not
have.
"""

import re
from pathlib import Path

import graphql

from app.bucket.policy_documents import load as load_bucket_documents
from app.http.websocket_messages import Close
from app.texts import error_texts
from app.texts.reasons import load_reasons

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "web-app.md").read_text(encoding="utf-8")
SCHEMA = graphql.build_schema((ROOT / "graphql_schema" / "schema.graphql").read_text(encoding="utf-8"))
REASONS = load_reasons()


def _section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|\n ").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]


def _named(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def _listed_reasons() -> list[tuple[str, str]]:
    """Return each error reason in the table "Every reason" of `docs/web-app.md`, with the error code in the same
    row.
    """
    table = PAGE.partition("\n### Every reason\n")[2]
    return [(reason.lower(), _named(row[0])[0]) for row in _rows(table)[1:] for reason in _named(row[1])]


def test_page_names_every_reason_of_the_product_once_and_no_other() -> None:
    listed = [reason for reason, _ in _listed_reasons()]
    known = {name for name, reason in REASONS.items() if "caller" in reason.readers}
    assert known - set(listed) == set(), "name these in docs/web-app.md, 'Every reason'"
    assert set(listed) - known == set(), "the product has no such reasons any more: take them out"
    assert sorted(listed) == sorted(set(listed))


def test_page_gives_each_reason_the_code_that_the_product_gives_it() -> None:
    wrong = {reason for reason, code in _listed_reasons() if code not in REASONS[reason].codes}
    assert wrong == set()


def test_page_names_every_code_of_the_product() -> None:
    named = {code for row in _rows(_section("Errors")) for code in _named(row[0])}
    codes = set(error_texts("en")["codes"])
    for path in [*(ROOT / "app" / "http").glob("*.py"), *(ROOT / "graphql_schema").glob("*.py")]:
        codes |= set(re.findall(r'RefusedError\(\s*\d+, "([A-Z_]+)"', path.read_text(encoding="utf-8")))
        codes |= set(re.findall(r'"((?:GRAPHQL|PERSISTED)_[A-Z_]+)"', path.read_text(encoding="utf-8")))
    assert {"BAD_REQUEST", "PAYLOAD_TOO_LARGE", "GRAPHQL_PARSE_FAILED"} <= codes
    assert codes - named == set()


def test_page_names_every_code_with_which_a_connection_ends() -> None:
    named = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE) for code in row.split(", ")
    }
    assert named == {int(code) for code in Close}


def test_page_gives_a_type_to_each_scalar() -> None:
    own = {
        name
        for name, kind in SCHEMA.type_map.items()
        if isinstance(kind, graphql.GraphQLScalarType) and name not in graphql.specified_scalar_types
    }
    assert {_named(row[0])[0] for row in _rows(_section("Types"))} == own


def test_page_says_how_each_type_is_kept_in_a_cache() -> None:
    section = _section("The library and its cache")
    named = set(_named(section))
    objects = {
        name
        for name, kind in SCHEMA.type_map.items()
        if isinstance(kind, graphql.GraphQLObjectType)
        and not name.startswith("__")
        and not name.endswith(("Connection", "Edge", "Payload"))
    } - {"Query", "Mutation", "Subscription", "ErrorExtensions", "ErrorDetails", "MissingConsent"}
    assert objects - named == set()
    for row in _rows(section):
        for name in _named(row[0]):
            kind = SCHEMA.type_map.get(name)
            if isinstance(kind, graphql.GraphQLObjectType):
                assert "id" not in kind.fields, name
                assert row[1].startswith(("none", "never")) or set(_named(row[1])) <= set(kind.fields), name


def test_operations_that_the_page_names_exist() -> None:
    roots = [kind for kind in (SCHEMA.query_type, SCHEMA.mutation_type, SCHEMA.subscription_type) if kind]
    fields = {name for kind in roots for name in kind.fields}
    named = set(re.findall(r"`(\w+)\(\w+[^`]*\)`", PAGE)) - {"new", "switch"}
    assert {"issueDownloadUrl", "recordings", "transcript", "completeImport"} <= named <= fields


def test_upload_of_the_page_sends_what_the_bucket_lets_pages_send() -> None:
    assert "PUT" in load_bucket_documents().cors.web_app.may


def test_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
