"""Tests that the files of `policies/bucket/` are validated strictly, and that a rule that could delete a retained
object is refused.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.bucket import policy_documents
from app.bucket.policy_documents import load, overlap
from app.errors import InvalidInput
from app.integrations.storage.client import MARK_KEY
from app.integrations.storage.presigned_urls import upload_headers
from app.retention.policy_file import parse

RETENTION = Path(__file__).parents[2] / "policies" / "retention.toml"
Spoil = Callable[[dict[str, Any]], object]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return Path(shutil.copytree(policy_documents.DIRECTORY, tmp_path / "bucket"))


def spoil(directory: Path, file: str, how: Spoil) -> None:
    path = directory / file
    value = json.loads(path.read_text())
    how(value)
    path.write_text(json.dumps(value))


def test_our_documents_are_read() -> None:
    read = load()
    assert read.lifecycle.recordings.days_after_the_term == 7
    assert (read.lifecycle.exports.under, read.lifecycle.exports.days) == ("exports/", 37)
    assert read.lifecycle.unfinished_uploads.days == 7
    assert [lock.under for lock in read.locks.for_ever] == ["audit/", "ledger/"]
    assert read.cors.web_app.may == ["GET", "HEAD", "PUT"]


def test_lifecycle_names_the_terms_of_the_retention_policy() -> None:
    policy = parse(RETENTION.read_text(encoding="utf-8"))
    terms = {policy.default.recording_days, *(kind.recording_days for kind in policy.kinds.values())}
    assert set(load().lifecycle.recordings.terms_in_days) == terms


def test_cors_lets_a_page_send_what_an_upload_needs() -> None:
    set_by_browsers = {"content-length"}
    needed = {name.lower() for name in upload_headers("video/mp4", 1)} - set_by_browsers
    assert needed <= set(load().cors.web_app.with_headers)


def test_every_field_is_explained_for_people() -> None:
    for path in policy_documents.DIRECTORY.glob("*.json"):
        for about in re.findall(r'"about": "([^"]*)"', path.read_text()):
            assert about.endswith("."), path.name


def test_the_mark_is_what_the_storage_marks_with() -> None:
    assert policy_documents.NEVER == (MARK_KEY,)


MALFORMED: list[tuple[str, str, Spoil]] = [
    ("lifecycle.json", "recordings", lambda d: d.pop("recordings")),
    ("lifecycle.json", "recordings.about", lambda d: d["recordings"].pop("about")),
    ("lifecycle.json", "surprise", lambda d: d.update(surprise=1)),
    ("lifecycle.json", "exports.note", lambda d: d["exports"].update(note="x")),
    ("lifecycle.json", "exports.days", lambda d: d["exports"].update(days="37")),
    ("lifecycle.json", "exports.days", lambda d: d["exports"].update(days=0)),
    ("lifecycle.json", "exports.days", lambda d: d["exports"].update(days=True)),
    ("lifecycle.json", "exports.under", lambda d: d["exports"].update(under="")),
    ("lifecycle.json", "recordings.under", lambda d: d["recordings"].update(under="r/")),
    ("lifecycle.json", "recordings.terms_in_days", lambda d: d["recordings"].update(terms_in_days=[])),
    ("lifecycle.json", "recordings.terms_in_days.0", lambda d: d["recordings"].update(terms_in_days=[-1])),
    ("cors.json", "web_app.may.0", lambda d: d["web_app"].update(may=["DELETE"])),
    ("cors.json", "web_app.with_headers.0", lambda d: d["web_app"].update(with_headers=["*"])),
    ("cors.json", "web_app.origins", lambda d: d["web_app"].update(origins=["*"])),
    ("locks.json", "holds.named", lambda d: d["holds"].update(named="lock-")),
    ("locks.json", "for_ever.0.under", lambda d: d["for_ever"][0].update(under="")),
    ("locks.json", "for_ever", lambda d: d["for_ever"].append(d["for_ever"][0])),
]


@pytest.mark.parametrize(("file", "field", "how"), MALFORMED)
def test_a_malformed_document_is_refused_by_its_field(
    directory: Path, file: str, field: str, how: Spoil
) -> None:
    spoil(directory, file, how)
    with pytest.raises(InvalidInput) as refused:
        load(directory)
    assert refused.value.reason == "bucket_policy_malformed"
    assert refused.value.detail == {"file": file, "field": field}


UNSAFE: list[tuple[str, str, Spoil]] = [
    (
        "lifecycle.json",
        "recordings.days_after_the_term",
        lambda d: d["recordings"].update(days_after_the_term=6),
    ),
    (
        "lifecycle.json",
        "recordings.days_after_the_term",
        lambda d: d["recordings"].update(days_after_the_term=-90),
    ),
    ("lifecycle.json", "never.under", lambda d: d["never"]["under"].remove("keep/")),
    ("lifecycle.json", "never.under", lambda d: d["never"]["under"].remove("ledger/")),
    ("lifecycle.json", "never.under", lambda d: d["never"]["under"].remove("audit-latest/")),
    ("lifecycle.json", "never.objects", lambda d: d["never"].update(objects=[])),
    ("lifecycle.json", "exports.under", lambda d: d["exports"].update(under="keep/")),
    ("lifecycle.json", "exports.under", lambda d: d["exports"].update(under="audit/")),
    ("lifecycle.json", "exports.under", lambda d: d["exports"].update(under="r/")),
    ("locks.json", "for_ever", lambda d: d["for_ever"].pop()),
    (
        "locks.json",
        "for_ever",
        lambda d: d["for_ever"].append({"name": "latest", "under": "audit-latest/", "about": "x"}),
    ),
    ("locks.json", "for_ever", lambda d: d["for_ever"][0].update(under="notes/")),
    ("locks.json", "for_ever", lambda d: d["for_ever"].append({"name": "r", "under": "r/", "about": "x"})),
]


@pytest.mark.parametrize(("file", "field", "how"), UNSAFE)
def test_a_document_that_endangers_what_must_stay_is_refused(
    directory: Path, file: str, field: str, how: Spoil
) -> None:
    spoil(directory, file, how)
    with pytest.raises(InvalidInput) as refused:
        load(directory)
    assert refused.value.reason == "bucket_policy_unsafe"
    assert refused.value.detail == {"file": file, "field": field}


@pytest.mark.parametrize("text", ["", "{", '{"about": "x.", "about": "y."}', "\udcff"])
def test_file_that_is_no_json_is_refused(directory: Path, text: str) -> None:
    (directory / "cors.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InvalidInput, match="bucket_policy_unreadable"):
        load(directory)


def test_a_missing_file_is_refused(directory: Path) -> None:
    (directory / "locks.json").unlink()
    with pytest.raises(InvalidInput, match="bucket_policy_unreadable"):
        load(directory)


def test_a_list_is_no_document(directory: Path) -> None:
    (directory / "locks.json").write_text("[]")
    with pytest.raises(InvalidInput) as refused:
        load(directory)
    assert refused.value.detail == {"file": "locks.json", "field": "all"}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("", "keep/", True), ("k", "keep/", True), ("keep/x/", "keep/", True), ("keepsake/", "keep/", False)],
)
def test_prefixes_overlap_where_an_object_can_be_under_both(one: str, other: str, expected: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is expected
