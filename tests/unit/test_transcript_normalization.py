"""Tests that normalization turns all spellings of a word into the same key, and that no text makes it raise an
error.
"""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transcripts.search.normalization import (
    MAX_WORD_CHARACTERS,
    normalize,
    normalize_query,
    normalize_text,
    normalize_to_words,
)
from tests.unit.transcripts import any_text

PLURALS = (
    "headache headaches", "dolor dolores", "pastilla pastillas", "allergy allergies", "calorie calories", "sky skies",
    "mes meses", "vez veces", "nariz narices", "pulmón pulmones", "inyección inyecciones", "pared paredes",
    "mass masses", "box boxes", "rash rashes", "patch patches", "virus viruses", "dose doses", "nurse nurses",
    "foot feet", "toe toes",
    "disease diseases", "tomato tomatoes", "riñón riñones", "hospital hospitales", "diagnosis diagnoses", "pie pies",
    "muscle muscles", "vaccine vaccines", "ojo ojos", "noche noches", "diente dientes", "biopsy biopsies", "knee knees",
    "day days", "child children", "serie series", "medicine medicines", "flor flores", "señor señores", "eye eyes",
)  # fmt: skip
APART = ("care car", "note not", "here her", "uña una", "año ano", "dose dos", "plane plan", "niño nino", "fate fat",
         "pus pu", "illness illnes", "2.5 25", "0.125 125", "ss s", "bone bon")  # fmt: skip


@pytest.mark.parametrize("pair", PLURALS)
def test_plural_normalizes_to_its_singular(pair: str) -> None:
    one, many = normalize(pair)
    assert one == many


@pytest.mark.parametrize("pair", APART)
def test_different_words_stay_different(pair: str) -> None:
    one, other = normalize(pair)
    assert one != other


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("Jaqueca CRÓNICA", ["jaqueca", "cronica"]),
        ("PINGÜINO", ["pinguino"]),
        ("nin\u0303o niño NIÑO", ["niño", "niño", "niño"]),
        ("500 mg", ["500", "mg"]),
        ("500mg", ["500", "mg"]),
        ("\uff15\uff10\uff10\uff4d\uff47", ["500", "mg"]),
        ("2,5 y 2.5", ["2.5", "y", "2.5"]),
        ("1,000 or 1000, 0,125.", ["1000", "or", "1000", "0.125"]),
        ("120/80 at 10:30", ["120", "80", "at", "10", "30"]),
        ("covid-19 COVID19", ["covid", "19", "covid", "19"]),
        ("follow-up", ["follow", "up"]),
        ("don't don\u2019t o'clock", ["dont", "dont", "oclock"]),
        ("the patient's, the patient\u2019s", ["the", "patient", "the", "patient"]),
        ("the boys' room", ["the", "boy", "room"]),
        ("\ufb01brosis fib\u00adrosis fi\u200bbrosis", ["fibrosis", "fibrosis", "fibrosis"]),
        ("5 µg, 5 μg", ["5", "mcg", "5", "mcg"]),
        ("\u210c m² ½ ⅓", ["h", "m", "2.5", "1", "3"]),
        ("snake_case", ["snake", "case"]),
        ("... !? \ud83d \x00", []),
    ],
)
def test_text_is_normalized_to_these_words(text: str, normalized: list[str]) -> None:
    assert normalize(text) == normalized


@given(any_text)
def test_each_normalized_word_is_found_by_typing_it(text: str) -> None:
    for word in normalize(text):
        for is_phrase in (False, True):
            assert [typed.normalized for typed in normalize_query(word, is_phrase=is_phrase)] == [word]


@given(any_text)
def test_normalized_words_are_those_that_have_offsets(text: str) -> None:
    assert normalize(text) == [word.normalized for word in normalize_to_words(text)]


@given(any_text)
def test_normalized_words_are_bounded_letters_and_digits(text: str) -> None:
    for word in normalize(text):
        assert 1 <= len(word) <= MAX_WORD_CHARACTERS
        assert word.replace(".", "").isalnum()


@given(any_text)
def test_composition_and_case_do_not_matter(text: str) -> None:
    spoken = [word for word in normalize(unicodedata.normalize("NFD", text)) if word.isascii()]
    assert spoken == [word for word in normalize(unicodedata.normalize("NFC", text)) if word.isascii()]


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("°Ç", ["c"]), ("°Ḟ", ["f"]), ("° Ć", ["c"]), ("°F\u0327", ["f"]), ("x °c\u0301", ["x", "c"]),
        ("37 °C", ["37", "degree", "celsius"]), ("98.6°F", ["98.6", "degree", "fahrenheit"]),
        ("37 °Ç", ["37", "degree", "celsius"]), ("°C", ["degree", "celsius"]), ("°F.", ["degree", "fahrenheit"]),
        ("take.5 mg", ["take", "0.5", "mg"]), ("take.5 ḿg", ["take", "5", "mg"]), ("take.5 ǵ", ["take", "5", "gram"]),
        ("5 mǵ", ["5", "mg"]), ("7 ḱg", ["7", "kg"]), ("at 3 p. m", ["at", "3", "pm"]),
        ("3 p. ḿ", ["3", "p", "m"]), ("o. ḱ", ["o", "k"]), ("≠.5 mg", ["0.5", "mg"]), ("≮.25", ["0.25"]),
        ("é.5", ["e", "5"]), ("50 %\u0301", ["50", "percent"]), ("5\u0338%", ["5"]), ("O.Ḱ.", ["o", "k"]),
    ],
)  # fmt: skip
def test_mark_after_a_letter_or_number_does_not_matter_in_any_form(text: str, normalized: list[str]) -> None:
    assert normalize(text) == normalized
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        written = unicodedata.normalize(form, text)
        assert [normalize(each) for each in (written, written.lower(), written.upper())] == [
            normalized
        ] * 3, form


@given(st.text(alphabet="°CFcfmgkpo0123456789.,%≠éçÇḞǵñ-/' \u0327\u0301\u0303\u0307\u0338\u200d"))
def test_numbers_units_and_marks_are_equal_in_every_form_and_case(text: str) -> None:
    expected = normalize(unicodedata.normalize("NFC", text))
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        written = unicodedata.normalize(form, text)
        assert normalize(written) == normalize(written.lower()) == normalize(written.upper()) == expected


@given(st.text(alphabet="°º˚℃℉CF0123456789½²٣ \u0327\u0301\u0338"))
def test_signs_of_degrees_and_fractions_are_equal_composed_and_decomposed(text: str) -> None:
    composed, decomposed = (normalize(unicodedata.normalize(form, text)) for form in ("NFC", "NFD"))
    assert composed == decomposed


@given(any_text)
def test_offsets_lie_in_the_text_in_order_and_give_the_word(text: str) -> None:
    before = 0
    for word in normalize_to_words(text):
        assert before <= word.start < word.end <= len(text)
        cut = text[word.start : word.end]
        alone = normalize_text(cut)
        is_sign = cut in "%\uff05\u00b0\u00ba\u02da"  # a percent or degree sign is a word only after a digit
        assert is_sign or word.normalized in {each.normalized for each in (*alone.words, *alone.aliases)}
        before = word.start


def test_normalization_of_every_character_is_idempotent() -> None:
    everything = " ".join(f"a{chr(point)}s {chr(point)}" for point in range(0x10000))
    normalized = normalize(everything)
    assert normalize(" ".join(normalized)) == normalized
