"""The computation of a transcript's word error rate counts each wrong, missing or additional word once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.spoken import word_error_rate, word_errors, words

sentences = st.lists(st.sampled_from(["no", "pain", "in", "the", "chest"]), max_size=8).map(" ".join)


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("No pain in the chest.", "no pain in the chest", 0),
        ("No pain in the chest.", "pain in the chest", 1),
        ("No pain in the chest.", "no pain in a chess", 2),
        ("No pain.", "no no pain in", 2),
        ("¿Le duele el corazón?", "le duele el corazon", 0),
        ("", "thank you", 2),
    ],
)
def test_errors_are_the_fewest_changes(said: str, heard: str, errors: int) -> None:
    assert word_errors(said, heard) == errors


@given(said=sentences, heard=sentences, between=sentences)
def test_errors_are_a_distance(said: str, heard: str, between: str) -> None:
    assert word_errors(said, said) == 0
    assert word_errors(said, heard) == word_errors(heard, said)
    assert word_errors(said, heard) <= word_errors(said, between) + word_errors(between, heard)
    longest, shortest = sorted((len(words(said)), len(words(heard))), reverse=True)
    assert longest - shortest <= word_errors(said, heard) <= longest


def test_rate_weighs_each_word_alike() -> None:
    assert word_error_rate(
        [("no pain in the chest", "no pain in the chest"), ("yes", "no")]
    ) == pytest.approx(1 / 6)
