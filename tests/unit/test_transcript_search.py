"""Tests of the search in transcripts: how it parses queries, hashes words for the index, finds and ranks matches,
and divides snippets into parts.
"""

import hashlib
import hmac
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.texts.unsafe_characters import remove_unsafe_characters
from app.transcripts.model import Transcript
from app.transcripts.search.matches import (
    SNIPPET_CHARACTERS,
    Match,
    Snippet,
    cut_snippet,
    find_turns,
    match_transcript,
    rank_matches,
)
from app.transcripts.search.normalization import normalize, normalize_text
from app.transcripts.search.query_terms import Query, parse_query
from app.transcripts.search.word_index import NO_WORD, IndexKey, hash_query, hash_text, hash_transcript
from app.transcripts.transcript_format import format_transcript, read_normalized_words
from tests.unit.transcripts import any_text, hostile_text, transcript, turn

KEY = IndexKey(bytes(range(32)))
few_words = st.lists(st.sampled_from(["a", "b", "c", "pain", "pains"]), max_size=8).map(" ".join)


def _match(made: Transcript, text: str) -> Match | None:
    return match_transcript(read_normalized_words(format_transcript(made)), parse_query(text))


def _contains(made: Transcript, query: Query) -> bool:
    """Return whether the transcript matches the query, according to a simple reference implementation of the
    search.
    """
    turns = [normalize(turn.text) for turn in made.turns]
    return all(
        any(tuple(words[at : at + len(term)]) == term for words in turns for at in range(len(words)))
        for term in query.terms
    )


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Headaches  dolor", [["headach"], ["dolor"]]),
        ('"right side" pain', [["right", "side"], ["pain"]]),
        ("\u201cright side\u201d \u00abotro lado\u00bb", [["right", "side"], ["otro", "lado"]]),
        ('pain "right side', [["pain"], ["right", "side"]]),
        ('pain"right side"', [["pain"], ["right", "side"]]),
        ("500mg covid-19", [["500", "mg"], ["covid", "19"]]),
        ("pain PAIN pains", [["pain"]]),
        ('pain "" " " -- !', [["pain"]]),
    ],
)
def test_query_is_words_and_phrases(text: str, terms: list[list[str]]) -> None:
    assert [list(term) for term in parse_query(text).terms] == terms


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "search_empty"),
        ('"" -- \u202e', "search_empty"),
        ("a" * 201, "search_too_long"),
        ('"' * 10_000, "search_too_long"),
        ("\x00" * 1_000_000, "search_too_long"),
        (" ".join(f"word{number}x" for number in range(11)), "search_too_many_terms"),
    ],
)
def test_query_that_cannot_be_searched_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_query(text)
    assert refused.value.reason == reason


def test_longest_query_is_accepted() -> None:
    assert len(parse_query(" ".join("abcdefghij")).terms) == 10
    assert parse_query("a" * 200).terms == (("a" * 64,),)


@given(any_text)
def test_any_query_is_parsed_or_refused(text: str) -> None:
    try:
        query = parse_query(text)
    except InvalidInput:
        return
    assert 1 <= len(query.terms) <= 10
    assert repr(query) == "Query()"


def test_index_is_hmac_of_the_normalized_word_cut_to_63_bits() -> None:
    digest = hmac.new(bytes(range(32)), b"headach", hashlib.sha256).digest()
    assert hash_text(KEY, "Headaches, headache!") == {int.from_bytes(digest[:8], "big") // 2}


def test_index_key_is_32_bytes_and_in_no_repr() -> None:
    assert repr(KEY) == "IndexKey()"
    for size in (0, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            IndexKey(b"k" * size)


@given(hostile_text)
def test_index_numbers_fit_a_positive_bigint_and_depend_on_the_key(text: str) -> None:
    numbers = hash_text(KEY, text)
    assert all(NO_WORD < number < 2**63 for number in numbers)
    read = normalize_text(text)
    found = " ".join(word.normalized for word in (*read.words, *read.aliases))
    assert len(numbers) == len(set(found.split()))
    assert numbers.isdisjoint(hash_text(IndexKey(b"\x01" * 32), text))


@given(st.lists(few_words.filter(bool), min_size=1, max_size=4), few_words, few_words)
def test_match_agrees_with_a_plain_implementation_and_the_index(
    texts: list[str], loose: str, phrase: str
) -> None:
    made, text = transcript(*texts), f'{loose} "{phrase}"'
    assume(normalize(text))
    query = parse_query(text)
    found = _match(made, text)
    assert (found is not None) == _contains(made, query)
    if found is not None:
        assert hash_query(KEY, query) <= hash_transcript(KEY, made)
        assert set(find_turns(read_normalized_words(format_transcript(made)), query)) >= {found.turn_number}


@given(st.lists(hostile_text, max_size=5))
def test_index_of_a_transcript_has_the_words_of_its_turns_and_no_others(texts: list[str]) -> None:
    made = transcript(*texts)
    assert hash_transcript(KEY, made) == {number for text in texts for number in hash_text(KEY, text)}


def test_phrase_is_within_a_turn() -> None:
    made = transcript("on the right", "side by side")
    assert _match(made, '"the right"') is not None
    assert _match(made, '"right side"') is None
    assert _match(made, "right side") is not None


def test_word_is_not_found_inside_another_word_or_the_separators() -> None:
    made = transcript("migraines", "5 words")
    assert _match(made, "graine") is None
    for text in ("DOCTOR", "turns", "transcript", "null", "en", "6000", "1"):
        assert _match(made, text) is None, text


def test_accents_plurals_and_case_are_found_alike() -> None:
    made = transcript("Tengo DOLORES de cabeza, y tomo pastillas de 500mg.")
    for text in ("dolor", "Pastilla", '"500 MG"', "do\u0301lor cabezas"):
        assert _match(made, text) is not None, text


def test_match_reports_the_turn_where_the_terms_are_closest() -> None:
    made = transcript("pain here", "nothing", "the rash and the pain", "the rash")
    found = _match(made, "pain rash")
    assert found is not None
    assert found.turn_number == 2
    assert found.counts == (2, 2)
    far = _match(transcript("pain", *["word " * 50] * 40, "rash"), "pain rash")
    assert far is not None
    assert far.distance > found.distance


def test_rank_prefers_close_frequent_and_rare_terms() -> None:
    def of(name: str, distance: int, *counts: int, size: int = 20_000) -> tuple[str, Match]:
        return name, Match(0, distance, counts, size)

    assert [name for name, _ in rank_matches([of("far", 4000, 1, 1), of("near", 15, 1, 1)])] == [
        "near",
        "far",
    ]
    assert [name for name, _ in rank_matches([of("once", 0, 1), of("often", 0, 5)])] == ["often", "once"]
    assert [name for name, _ in rank_matches([of("long", 0, 2), of("short", 0, 2, size=2000)])] == [
        "short",
        "long",
    ]
    others = [of(str(number), 50, 9, 1) for number in range(5)]
    order = [
        name for name, _ in rank_matches([*others, of("common twice", 50, 2, 1), of("rare twice", 50, 1, 2)])
    ]
    assert order.index("rare twice") < order.index("common twice")


def test_rank_keeps_the_order_of_equal_matches() -> None:
    found = [(number, Match(0, 10, (1, 2), 500)) for number in range(50)]
    assert rank_matches(found) == found
    assert rank_matches([]) == []


def _matches(shown: Snippet) -> list[str]:
    return [part.text for part in shown.parts if part.is_match]


@pytest.mark.parametrize(
    ("text", "searched", "parts"),
    [
        ("\U0001f9e0\U0001f48a pain \U0001f468\u200d\u2695\ufe0f pain!", "pain", [
            ("\U0001f9e0\U0001f48a ", False), ("pain", True), (" \U0001f468\u200d\u2695\ufe0f ", False),
            ("pain", True), ("!", False),
        ]),
        ("pain", "pain", [("pain", True)]),
        ("Le duele el corazo\u0301n y el riñón.", "corazón riñon", [
            ("Le duele el ", False), ("corazo\u0301n", True), (" y el ", False), ("riñón", True), (".", False),
        ]),
        ("Tome\u0301 cafe\u0301.", "cafe", [("Tome\u0301 ", False), ("cafe\u0301", True), (".", False)]),
        ("no hits", "pain", [("no hits", False)]),
    ],
)  # fmt: skip
def test_snippet_is_divided_into_parts(text: str, searched: str, parts: list[tuple[str, bool]]) -> None:
    shown = cut_snippet(turn(0, text), parse_query(searched))
    assert [(part.text, part.is_match) for part in shown.parts] == parts


def test_snippet_highlights_the_transcribed_text_with_accents() -> None:
    text = "Sí, los dolores: niño, co\u0301licos y 500mg de ibuprofeno."
    shown = cut_snippet(turn(3, text), parse_query('dolor cólico "500 mg" headache'))
    assert (shown.turn_number, shown.start_ms, shown.end_ms) == (3, 18_000, 23_000)
    assert _matches(shown) == ["dolores", "co\u0301licos", "500mg"]
    assert shown.text == text


def test_snippet_is_cut_between_words_around_the_closest_terms() -> None:
    text = f"pain {'word ' * 60}rash {'other ' * 30}the rash and the pain {'more ' * 60}"
    shown = cut_snippet(turn(0, text.strip()), parse_query("pain rash"))
    assert "the rash and the pain" in shown.text
    assert shown.text.startswith("…other ")
    assert shown.text.endswith(" more…")
    assert _matches(shown) == ["rash", "pain"]


def test_snippet_of_a_turn_without_the_terms_is_its_beginning() -> None:
    shown = cut_snippet(turn(0, "word " * 100), parse_query("pain"))
    assert shown.text.startswith("word word")
    assert _matches(shown) == []


def test_text_is_in_no_repr_of_a_snippet() -> None:
    assert "pain" not in repr(cut_snippet(turn(0, "pain"), parse_query("pain")))


@given(
    st.lists(hostile_text | few_words, max_size=12).map(" ".join).map(remove_unsafe_characters).filter(bool),
    few_words.filter(bool),
)
def test_snippet_is_short_and_its_highlights_are_hits(text: str, searched: str) -> None:
    query = parse_query(searched)
    shown = cut_snippet(turn(0, text), query)
    assert len(shown.text) <= SNIPPET_CHARACTERS
    assert shown.text.strip("…") in text
    assert all(part.text for part in shown.parts)
    assert "".join(part.text for part in shown.parts) == shown.text
    assert not any(unicodedata.combining(part.text[0]) for part in shown.parts[1:])
    if len(text) <= SNIPPET_CHARACTERS:
        assert shown.text == text
        assert all(set(normalize(one)) & query.words for one in _matches(shown))
    if query.words & set(normalize(text)):
        assert _matches(shown)
