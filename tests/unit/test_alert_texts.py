"""Tests that each kind of alert has its texts, and that every kind that the SQL opens exists."""

import re
from pathlib import Path

from app.alerts.model import AlertKind
from app.texts.alerts import load_alert_texts

ROOT = Path(__file__).parents[2]
OPENED = re.compile(r"(?:open_alert|close_alert|replace_alerts)\(\s*'([^']*)'")


def test_every_kind_has_texts_and_every_text_a_kind() -> None:
    assert load_alert_texts().keys() == {kind.value for kind in AlertKind}


def test_every_text_is_a_sentence_in_both_languages() -> None:
    for kind, texts in load_alert_texts().items():
        for sentences in (texts.text, texts.remedy):
            assert sentences.keys() == {"en", "es"}, kind
            for text in sentences.values():
                assert re.fullmatch(r"[A-ZÁÉ].*\.", text), (kind, text)


def test_every_kind_that_the_sql_opens_is_known() -> None:
    found = {
        kind
        for path in (ROOT / "supabase" / "schemas").glob("*.sql")
        for kind in OPENED.findall(path.read_text(encoding="utf-8"))
    }
    assert "NO_LEADER" in found
    assert found <= set(AlertKind)


def test_the_page_about_alerts_names_every_kind() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)
    assert sorted(named) == sorted(AlertKind)
