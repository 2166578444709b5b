"""Tests of numbers, units and titles in a search: every notation finds all other notations, and no number finds
another number.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.transcripts.blind import IndexKey, blind_query, blind_transcript
from app.transcripts.folding import fold, fold_text, words
from app.transcripts.matching import match, snippet, turns_with
from app.transcripts.query import parse_query
from app.transcripts.stored import transcript_bytes, words_of
from tests.unit.transcripts import transcript, turn


def _list(words: str) -> list[str]:
    return words.split(" ")


KEY = IndexKey(bytes(range(32)))

ALIKE = (
    (".5 mg", "0.5 mg", "0,5 mg", "0·5 mg", "zero point five milligrams", "point five milligrams", "½ mg",
     "0'5 mg", "0\u20195 mg", "0.50mg",
     "cero coma cinco miligramos", "cero punto cinco mg", "\uff10\uff0e\uff15 mg", ",5 mg", "0 point 5 mg"),
    ("1.5 mg", "1,5 mg", "one point five milligrams", "uno coma cinco miligramos", "1½ mg", "1 ½ mg",
     "one and a half milligrams", "1.50 mg"),
    ("2.25 ml", "two point two five milliliters", "dos coma veinticinco mililitros", "2,25 mL"),
    ("1.05 g", "one point oh five grams", "one point zero five g", "uno coma cero cinco gramos"),
    ("1,000 mg", "1000 milligrams", "a thousand mg", "one thousand milligrams", "mil miligramos", "1 thousand mg"),
    ("142 over 90", "142/90", "142 / 90", "1.42 over 90", "1.42, over 90", "one forty two, over 90",
     "1-42 over 90", "1:42 over 90", "one forty two over ninety",
     "one forty-two over ninety", "one hundred forty two over ninety", "one hundred and forty-two over 90",
     "142 sobre 90", "ciento cuarenta y dos sobre noventa", "1,42 sobre 90", "1 42 over 90"),
    ("102 over 64", "one oh two over sixty four", "1.02/64", "ciento dos sobre sesenta y cuatro"),
    ("140/85", "one forty over eighty five", "1.40 over 85", "1-40 over 85", "hundred forty over eighty five"),
    ("190/110", "one ninety over one ten", "1.90 over 1.10", "ciento noventa sobre ciento diez"),
    ("35 pastillas", "treinta y cinco pastillas"),
    ("21 years", "twenty-one years", "twenty one years"),
    ("veintidós miligramos", "22 mg", "twenty two milligrams"),
    ("500 mg", "five hundred milligrams", "quinientos miligramos", "500 milligrammes", "500mg", "500-mg"),
    ("250 mcg", "250 µg", "250 micrograms", "two fifty micrograms", "250 microgramos", "250 ug", "250 μg"),
    ("70 kg", "70 kilos", "seventy kilograms", "setenta kilogramos"),
    ("5 g", "five grams", "cinco gramos", "5 gr", "5 gm"),
    ("2 l", "two liters", "2 litres", "dos litros", "2L"),
    ("10 ml", "ten milliliters", "10 millilitres", "diez mililitros", "10 cc"),
    ("90 mmHg", "90 mm Hg", "ninety millimeters of mercury", "noventa milímetros de mercurio"),
    ("1 tablet", "one tablet", "1 tab", "una tableta"),
    ("11 tablets", "once tabletas", "eleven tabs"),
    ("8 h", "8 hours", "eight hrs", "ocho horas"),
    ("10 min", "ten minutes", "diez minutos", "10 mins"),
    ("5%", "5 percent", "five per cent", "cinco por ciento", "5 %"),
    ("100 IU", "100 UI", "a hundred international units", "cien unidades internacionales"),
    ("90 mg/dl", "ninety milligrams per deciliter", "noventa miligramos por decilitro"),
    ("type 1 diabetes", "type one diabetes"),
    ("2,500,000", "2.5 million", "2.500.000"),
    ("2 wks", "two weeks", "2 weeks"), ("3 yrs", "three years"), ("6 ft", "six feet", "6 foot"),
    ("70 bpm", "seventy beats per minute", "70 latidos por minuto"), ("1 tsp", "one teaspoon"),
    ("105 over 60", "one zero five over sixty", "one o five over 60", "105/60"),
    ("5 mmol/L", "five millimoles per liter", "5 milimoles por litro"), ("10 ml/h", "ten milliliters per hour"),
    ("5 mg/day", "5 mg per day", "five milligrams per day"), ("5 mg/día", "cinco miligramos por día"),
    ("1 cigarette", "one cigarette"), ("un vaso", "1 vaso"), ("8 a. m.", "8 a.m.", "8 AM"),
    ("3 µl", "three microliters"),
    ("OK", "O. K.", "okay", "O.K.", "ok", "Okay!", "O.k"),
    ("Dr. Smith", "doctor Smith", "dr smith", "Doctor Smith"),
    ("Dra. Gil", "doctora Gil"),
    ("1 or 2 tablets", "one or two tablets"),
    ("at 8:30", "at eight thirty"),
    ("8 a.m.", "8 am", "eight AM"),
)  # fmt: skip

APART = (
    ("5 mg", ".5 mg"), ("5 mg", "0.5 mg"), ("5 mg", "zero point five mg"), ("5 mg", "point five milligrams"),
    ("5 mg", "(.5 mg)"), ("5 mg", "-.5 mg"), ("5 mg", "dose:.5mg"), ("5 mg", "take.5 mg"), ("5 mg", "0\u200b.5 mg"),
    ("5 mg", "0.\u200b5 mg"), ("5 mg", "½ mg"), ("2 mg", "½ mg"), ("5", "1.5"), ("15", "1.5"), ("15", "1,5"),
    ("15", "one point five"), ("11 tablets", "1½ tablets"), ("11", "1½"), ("510", "5'10"), ("5 mg", "0'5 mg"),
     ("5 mg", "\"0'5\" mg"),
    ("125", "1.25 over 30 minutes"), ("125", "give 1.25 over 10"),
    ("125", "1.25 over thirty minutes"), ("150", "1.50 over 60 days"), ("125", "2 over 1.25"),
    ("125", "levodopa 1.25/50 mg"),
     ("100", "%"),
    ("102", "10²"), ("109", "10⁹/L"),
    ("5", "0·5"), ("5", "cero coma cinco"), ("25", "0.25"), ("1000", "1.000"), ("1", "1.000"), ("0.5", "5"),
    ("2 tablets", "1/2 tablet"), ("1", "one of them"), ("1", "no one"), ("1", "no one drinks"), ("1", "one can say"),
    ("1", "nobody said one thing"),
    ("11", "once a day"), ("2", "the second one"), ("1", "un poco"),
    ("one", "no"), ("42", "142 over 90"), ("42", "one forty two over ninety"), ("42", "1.42 over 90"),
    ("40", "one forty over ninety"), ("5", "twenty five"), ("20", "twenty five"), ("5", "treinta y cinco"),
    ("100", "five hundred"), ("5", "five hundred"), ("5 people", "five hundred people"), ("0.5", "at this point five"),
    ("142", "1.42 mg"), ("142", "it was 1.42"), ("1.42", "142 mg"),
    ("14", "1.4"), ("1.4", "140 over 90"), ("50", "five"), ("15", "fifty"), ("mg", "mcg"), ("500 mg", "500 mcg"),
    ("1", "1,000"),
)  # fmt: skip


def _finds(query: str, text: str) -> bool:
    """Return whether the query finds a transcript with this text: in the index, in the folded words, and in the
    text itself.
    """
    made, parsed = transcript("before", text, "after"), parse_query(query)
    stored = words_of(transcript_bytes(made))
    found = match(stored, parsed)
    if found is None:
        return False
    assert blind_query(KEY, parsed) <= blind_transcript(KEY, made)
    assert found.turn_number == 1
    assert turns_with(stored, parsed) == (1,)
    shown = snippet(turn(1, text), parsed)
    assert shown.highlights
    return True


@pytest.mark.parametrize("ways", ALIKE, ids=lambda ways: ways[0])
def test_each_way_of_writing_finds_each_other(ways: tuple[str, ...]) -> None:
    missed = [
        f"{query!r} does not find {text!r}"
        for asked in ways
        for query in (asked, f'"{asked}"')
        for said in ways
        for text in (said, f"So, {said}, and then.")
        if not _finds(query, text)
    ]
    assert not missed, missed


@pytest.mark.parametrize("pair", APART, ids=lambda pair: f"{pair[0]} in {pair[1]}")
def test_number_does_not_find_another_number(pair: tuple[str, str]) -> None:
    query, text = pair
    assert not _finds(f'"{query}"', text)
    assert not _finds(f'"{query}"', f"Well, {text}, then")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("142", "one forty two over ninety"), ("142", "it was 1-42 over 90"), ("142", "1.42 over 90"),
        ("one hundred forty two", "142 over 90"), ('"one hundred forty two"', "142 over 90"), ("over 90", "142/90"),
        ('"over ninety"', "142 over 90"), ("over", "142 over 90"), ("500 mg", "500 milligrams"),
        ("142", "one forty two"),
        ("one", "one of them"), ("one", "1 tablet"), ("one", "one tablet"), ("once", "once a day"), ("uno", "1 tablet"),
        ("once", "tengo once años"), ("11", "tengo once años"), ("once", "11 pastillas"), ("1", "One."),
        ("eight thirty", "8:30"), ("8:30", "at eight thirty"), ("no one", "no one came"), ("milligrams", "5 mg"),
        ("mg", "five milligrams"), ("two fifty milligrams", "250 mg"), ("una", "una tableta"), ("5", "5-10 mg"),
        ("10", "5-10 mg"), ('"5 10"', "5-10"), ("second", "the second time"), ("third", "one third"),
        ("1.42", "1.42 over 90"), ("1.42", "142/90"), ("1-42", "142 over 90"), ("1-42", "1.42 over 90"),
        ("1-42", "1-42"),
        ('"1-42"', "it was 1-42"), ("142", "it was 1-42"), ('"please take one"', "please take one tablet"),
        ('"take one"', "please take one tablet"), ('"toma una"', "toma una tableta"), ("2-10 mg", "2-10 mg"),
        ('"it was one forty two"', "it was one forty two"), ("pressure one forty two", "pressure 142/90"),
        ("1.30", "1,30 sobre 85"), ("5", "5'10\""), ("10", "5'10\""),
        ("B12", "vitamin B twelve"), ("mil", "1000"), ("12.05.2026", "12.05.2026"), ("five", "I have 5."),
    ],
)  # fmt: skip
def test_query_finds_text(query: str, text: str) -> None:
    assert _finds(query, text)


_ENGLISH = _list(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_SPANISH = _list(
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete "
    "veintiocho veintinueve"
)
_TENS = _list("twenty thirty forty fifty sixty seventy eighty ninety")
_DECENAS = _list("treinta cuarenta cincuenta sesenta setenta ochenta noventa")
_CENTENAS = _list(
    "ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos"
)


def _english(number: int) -> str:
    if number >= 1000:
        rest = number % 1000
        return f"{_english(number // 1000)} thousand" + (f" {_english(rest)}" if rest else "")
    if number >= 100:
        rest = number % 100
        return f"{_ENGLISH[number // 100]} hundred" + (f" and {_english(rest)}" if rest else "")
    if number >= 20:
        return _TENS[number // 10 - 2] + (f"-{_ENGLISH[number % 10]}" if number % 10 else "")
    return _ENGLISH[number]


def _spanish(number: int) -> str:
    if number >= 1000:
        before = "" if number < 2000 else _spanish(number // 1000) + " "
        return f"{before}mil" + (f" {_spanish(number % 1000)}" if number % 1000 else "")
    if number == 100:
        return "cien"
    if number >= 100:
        return _CENTENAS[number // 100 - 1] + (f" {_spanish(number % 100)}" if number % 100 else "")
    if number >= 30:
        return _DECENAS[number // 10 - 3] + (f" y {_SPANISH[number % 10]}" if number % 10 else "")
    return _SPANISH[number]


numbers = st.integers(0, 40) | st.integers(0, 999_999)


@given(numbers, st.sampled_from(["mg", "milligrams", "tablets", "pastillas", "horas"]))
def test_number_in_words_and_in_digits_fold_alike(number: int, unit: str) -> None:
    written = fold(f"{number} {unit}")
    assert fold(f"{_english(number)} {unit}") == written
    assert fold(f"{_spanish(number)} {unit}") == written
    assert fold(f"{number:,} {unit}") == written


@given(numbers, numbers)
def test_number_finds_its_own_value_alone(number: int, other: int) -> None:
    for spoken in (_english, _spanish):
        is_found = _finds(f'"{number} mg"', f"take {spoken(other)} mg now")
        assert is_found == (number == other)


@given(st.integers(0, 999), st.integers(1, 99), st.sampled_from(".,·"))
def test_decimal_point_is_never_lost(whole: int, hundredths: int, point: str) -> None:
    text = f"{whole}{point}{hundredths:02} mg"
    assert fold(text) == [f"{whole}.{hundredths:02}".rstrip("0"), "mg"]
    assert not _finds(f'"{hundredths} mg"', text)
    assert not _finds(f'"{whole}{hundredths:02} mg"', text)


@given(st.integers(50, 299), st.integers(30, 199))
def test_blood_pressure_folds_alike_as_it_is_said_and_written(systolic: int, diastolic: int) -> None:
    ways = [f"{systolic}/{diastolic}", f"{_english(systolic)} over {_english(diastolic)}"]
    ways += [f"{_spanish(systolic)} sobre {_spanish(diastolic)}", f"{systolic} over {_english(diastolic)}"]
    if systolic >= 110:
        hundreds, rest = divmod(systolic, 100)
        if rest >= 10:
            ways += [f"{_ENGLISH[hundreds]} {_english(rest)} over {diastolic}"]
            ways += [f"{hundreds}{mark}{rest} over {diastolic}" for mark in ".-,: "]
    assert {tuple(fold(way)) for way in ways} == {(str(systolic), str(diastolic))}


_VOCABULARY = _list(
    "one two five ten twenty forty hundred thousand million mil once un una uno dos cien ciento y treinta point "
    "coma and a half over sobre mg g l h mm hg of de mercury per por cent 5 .5 1.42 42 90 1/2 ½ 8:30 % , . - / : no "
    "type o.k. dr oh pain at to or me\u0301dio 10² \u200b"
)
spoken_text = st.lists(st.sampled_from([*_VOCABULARY, " ", " ", " ", "\n"]), max_size=40).map(
    "".join
) | st.lists(st.sampled_from(_VOCABULARY), max_size=30).map(" ".join)


@given(spoken_text)
def test_offsets_of_numbers_lie_in_the_text_in_order(text: str) -> None:
    before = 0
    for word in words(text):
        assert before <= word.start < word.end <= len(text)
        before = word.start
    for word in fold_text(text).aliases:
        assert 0 <= word.start < word.end <= len(text)
        assert word.folded.replace(" ", "").replace(".", "").isalnum()


@given(spoken_text)
def test_text_is_found_by_each_word_that_stands_for_it(text: str) -> None:
    made = transcript(text)
    stored = words_of(transcript_bytes(made))
    for word in set(fold(text)):
        assert f" {word} ".encode() in stored
        assert KEY.numbers([word]) <= blind_transcript(KEY, made)


@given(spoken_text.filter(str.strip))
def test_text_finds_itself_in_quotes(text: str) -> None:
    try:
        query = parse_query(f'"{text}"')
    except InvalidInput:
        return
    assert match(words_of(transcript_bytes(transcript(text))), query) is not None
    assert snippet(turn(0, text), query).highlights


def test_highlights_are_the_characters_of_the_number() -> None:
    text = "So it was one forty two over ninety, and .5 mg, 250 micrograms; O.K., Dr. Gil?"
    for query, shown in (
        ("142", ["one forty two"]), ('"142/90"', ["one forty two over ninety"]), ("0.5", [".5"]),
        ('"250 mcg"', ["250 micrograms"]), ("okay", ["O.K"]), ("doctor", ["Dr"]), ("over", ["over"]),
    ):  # fmt: skip
        found = snippet(turn(0, text), parse_query(query))
        assert [found.text[start:end] for start, end in found.highlights] == shown
    joined = snippet(turn(0, "take 0\u200b.5 mg"), parse_query("0.5"))
    assert [joined.text[start:end] for start, end in joined.highlights] == ["0\u200b.5"]


@pytest.mark.parametrize(
    "part", ["one ", "twenty ", "a.", "1.", ".5", "hundred ", "point ", "1,", "mil ", "1/", "over ", "\u200b",
             "1\u200b", "½", "1-42 over ", "o", "9", "%", " "],
)  # fmt: skip
def test_hostile_repetition_is_folded_within_bounds(part: str) -> None:
    text = part * 20_000
    found = fold_text(text)
    assert len(found.words) + len(found.aliases) <= 9 * len(text)
    assert all(len(word.folded) <= 64 for word in (*found.words, *found.aliases))
