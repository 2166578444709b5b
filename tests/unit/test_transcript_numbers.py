"""Tests of searches for numbers, units and titles. A search for one notation must find all notations of the same
value, and never a different number.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.transcripts.search.matches import cut_snippet, find_turns, match_transcript
from app.transcripts.search.normalization import normalize, normalize_text, normalize_to_words
from app.transcripts.search.query_terms import parse_query
from app.transcripts.search.word_index import IndexKey, hash_query, hash_transcript
from app.transcripts.transcript_format import format_transcript, read_normalized_words
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
    ("98.6 F", "98.6 degrees Fahrenheit", "98.6°F", "98.6 ° F", "98.6 deg F", "98.6 ºF", "98.6 Fahrenheit",
     "98.6 \u2109", "98.6 degrees", "98,6 grados Fahrenheit", "ninety-eight point six F", "98.6f"),
    ("37 C", "37 degrees Celsius", "37 °C", "37°C", "37 grados", "37 º C", "37ºC", "37°", "37º",
     "37 \u2103", "37\u02daC", "treinta y siete grados centígrados", "thirty seven degrees",
     "37 grados C", "37 centigrade", "37.0 °C"),
    ("38.5 °C", "38,5 grados", "treinta y ocho y medio grados", "treinta y ocho con cinco grados", "38 con 5 grados",
     "38 grados y medio", "thirty-eight and a half degrees", "38,5º"),
    ("102.5 F", "one oh two point five degrees", "a hundred and two point five Fahrenheit", "102½ °F"),
    ("101 degrees", "one oh one degrees", "101 F", "ciento un grados Fahrenheit"),
    ("15 °C", "fifteen degrees Celsius", "15 grados centígrados"),
    ("12.5", "doce y medio", "12,5", "doce coma cinco", "twelve and a half", "12 y medio", "12½", "doce y media",
     "twelve and one half", "twelve point five"),
    ("11.5", "once y medio", "11,5", "once coma cinco", "once punto cinco", "eleven and a half", "once y media"),
    ("11.05 mg", "once coma cero cinco mg", "once punto cero cinco miligramos"),
    ("11.25", "once y cuarto", "once y un cuarto", "once coma veinticinco"),
    ("11.5 grados", "once con cinco grados", "once y medio grados", "11,5 grados"),
    ("12.25 ml", "twelve and a quarter ml", "doce y un cuarto mililitros", "doce y cuarto mililitros"),
    ("3.75 ml", "three and three quarters ml", "tres y tres cuartos mililitros"),
    ("2.5 tablets", "two tablets and a half", "dos tabletas y media", "dos y media tabletas", "2 tabs and a half"),
    ("1.5 months", "un mes y medio", "one month and a half", "uno y medio meses"),
    ("1.5 hours", "una hora y media", "una y media horas", "one and a half hours", "one hour and a half"),
    ("2.5 million", "two and a half million", "dos millones quinientos mil", "dos y medio millones"),
    ("160/100", "160 over 100", "one sixty over a hundred", "ciento sesenta sobre cien", "one sixty over one hundred",
     "a hundred and sixty over a hundred", "1.60 over a hundred"),
    ("100/60", "a hundred over sixty", "cien sobre sesenta", "one hundred over sixty"),
    ("3 days", "3 días", "tres dias", "three day"), ("1 day", "un día", "one day"),
    ("2 weeks", "2 semanas", "2 wk", "dos semanas"), ("1 week", "una semana", "1 wk"),
    ("6 months", "seis meses", "6 mo", "6 mos", "6 mths"), ("3 years", "3 años", "tres años", "3 yr"),
    ("10 seconds", "10 segundos", "10 secs"), ("8 hr", "8 hrs", "8 hours", "8 h", "ocho horas"),
    ("100 IU", "100 units", "100 unidades", "100 U", "100 UI", "cien unidades internacionales"),
    ("5 cc", "5 mL", "cinco mililitros", "5 ccs"), ("1 tsp", "one teaspoonful", "una cucharadita"),
    ("2 tbsp", "two tablespoons", "dos cucharadas"), ("150 lb", "150 lbs", "150 pounds", "150 libras"),
    ("100%", "cien por ciento", "cien por cien", "a hundred percent"),
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
    ("11", "once a day"), ("11", "once con dos"), ("11", "once y otra vez"), ("11.5", "once and a half the dose"),
    ("11.5", "a las once y media"), ("2", "the second one"), ("1", "un poco"),
    ("one", "no"), ("42", "142 over 90"), ("42", "one forty two over ninety"), ("42", "1.42 over 90"),
    ("40", "one forty over ninety"), ("5", "twenty five"), ("20", "twenty five"), ("5", "treinta y cinco"),
    ("100", "five hundred"), ("5", "five hundred"), ("5 people", "five hundred people"), ("0.5", "at this point five"),
    ("142", "1.42 mg"), ("142", "it was 1.42"), ("1.42", "142 mg"),
    ("14", "1.4"), ("1.4", "140 over 90"), ("50", "five"), ("15", "fifty"), ("mg", "mcg"), ("500 mg", "500 mcg"),
    ("1", "1,000"),
    ("37 C", "vitamin C 37"), ("37 C", "37 F"), ("98.6 F", "98.6 C"), ("37 F", "37 degrees"), ("37 C", "98.6 F"),
    ("3 degrees Celsius", "stage 3C"), ("35 degrees Celsius", "35 C-sections"), ("40 °C", "40 C diff infections"),
    ("37 °C", "3.7 °C"), ("40 °C", "flexion to 40 degrees"), ("40 °C", "40 grados de abducción"),
    ("95 degrees Fahrenheit", "95 John F Smith"), ("65 degrees Fahrenheit", "65 F"), ("37 °C", "37 vitamin C"),
    ("37 degrees", "el 37º paciente"), ("1 degree", "1º de mayo"), ("C", "37 degrees of flexion"),
    ("12.5", "a las doce y media"), ("12.5", "12 y media de la noche"), ("1.5", "la una y media"),
    ("3.25", "son las 3 y cuarto"),
    ("12.5", "twelve, and a half"), ("12 tablets", "12 tablets and a half"), ("0.5", "a half"),
    ("0.5", "half a tablet"),
    ("2.5 tablets", "two tablets and a half glass"), ("2.5 pastillas", "2 pastillas y media manzana"),
    ("5.25", "five and a quarter of an hour"), ("12", "doce y medio"), ("2", "dos pastillas y media"),
    ("38.2", "38 con 2 hijos"), ("38.5", "38 con 5"), ("2", "one oh two point five"), ("2.5", "one oh two point five"),
    ("160/100", "160 over 100 days"), ("160/100", "160 over a hundred weeks"), ("100", "5 por ciento"),
    ("20 percent", "por ciento veinte pesos"), ("5 percent", "5 por cien días"), ("3 months", "3 mg"),
    ("3 days", "3 months"), ("1 unit", "100 units"), ("50", "5,0"), ("5000", "5,0"), ("5", "5,000"), ("10", "1.0"),
    ("100", "1.00"), ("1.25", "12.5"), ("12.5", "1,25"), ("3 degrees", "37 degrees"),
)  # fmt: skip


def _finds(query: str, text: str) -> bool:
    """Return whether the query finds a transcript with the given text. The word index, the normalized words and the
    text itself must all match the query.
    """
    made, parsed = transcript("before", text, "after"), parse_query(query)
    stored = read_normalized_words(format_transcript(made))
    found = match_transcript(stored, parsed)
    if found is None:
        return False
    assert hash_query(KEY, parsed) <= hash_transcript(KEY, made)
    assert found.turn_number == 1
    assert find_turns(stored, parsed) == (1,)
    shown = cut_snippet(turn(1, text), parsed)
    assert any(part.is_match for part in shown.parts)
    return True


@pytest.mark.parametrize("ways", ALIKE, ids=lambda ways: ways[0])
def test_each_notation_finds_every_other(ways: tuple[str, ...]) -> None:
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
        ("1", "1.0"), ("C", "37 C"), ("celsius", "37 grados"), ("degrees", "37 °C"), ('"15 grados"', "15 °C"),
        ("g", "5 g"),
        ("beats", "70 beats per minute"), ("mercury", "90 millimeters of mercury"), ("half", "two and a half tablets"),
        ("half", "two tablets and a half"), ("media", "dos pastillas y media"),
        ("centígrados", "37 grados centígrados"),
        ('"over a hundred times"', "over a hundred times"), ("las doce y media", "a las doce y media"),
        ("100", "over a hundred times"), ("over", "it is over. 100 people"), ("vitamin C", "vitamin C"),
        ('"international units"', "100 IU"), ("grado 2", "tumor grado dos"), ("día", "todos los días"),
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
def test_number_in_words_and_in_digits_are_normalized_alike(number: int, unit: str) -> None:
    written = normalize(f"{number} {unit}")
    assert normalize(f"{_english(number)} {unit}") == written
    assert normalize(f"{_spanish(number)} {unit}") == written
    assert normalize(f"{number:,} {unit}") == written


@given(numbers, numbers)
def test_number_finds_only_its_own_value(number: int, other: int) -> None:
    for spoken in (_english, _spanish):
        is_found = _finds(f'"{number} mg"', f"take {spoken(other)} mg now")
        assert is_found == (number == other)


def _spoken_decimals(whole: int, decimals: str) -> list[str]:
    zeros = len(decimals) - len(decimals.lstrip("0"))
    ways = [
        f"{_english(whole)} point {' '.join(_ENGLISH[int(digit)] for digit in decimals)}",
        *(
            f"{_spanish(whole)} {point} {'cero ' * zeros}{_spanish(int(decimals))}"
            for point in ("coma", "punto")
        ),
    ]
    if decimals == "5":
        ways += [f"{_english(whole)} and a half", f"{_spanish(whole)} y medio"]
    return ways


@given(
    st.one_of(st.sampled_from([*range(2, 31), 100, 101, 111, 121]), st.integers(2, 999)),
    st.sampled_from(["5", "25", "05", "75", "1", "8", "42"]),
    st.sampled_from(["", " mg", " tablets", " horas"]),
)
def test_decimal_in_words_finds_its_digits_and_no_other_number(whole: int, decimals: str, unit: str) -> None:
    value = f"{whole}.{decimals}"
    others = {
        str(whole), str(whole + 1), str(int(decimals)), f"0.{decimals}", f"{whole}{decimals}", f"{whole}0.{decimals}",
        f"{whole}.0{decimals}", f"{whole}.{decimals}1", f"{whole + 1}.{decimals}", f"{whole * 10}",
        f"{whole // 10}.{whole % 10}{decimals}", f"{whole % 10}.{decimals}", f"{whole * 100}",
    } - {value}  # fmt: skip
    for said in _spoken_decimals(whole, decimals):
        for text in (f"{said}{unit}", f"so it is {said}{unit} now"):
            assert _finds(value, text)
            assert _finds(f'"{said}{unit}"', f"take {value}{unit} today")
            assert not [other for other in others if _finds(other, text)], text


@given(numbers.filter(lambda number: number not in (0, 1, 11)), numbers)
def test_number_in_words_without_a_unit_finds_its_digits_and_no_other_number(number: int, other: int) -> None:
    others = {str(other), f"{number}0", f"{number}.5", f"0.{number}", str(number + 1), str(number)[:-1]} - {
        str(number),
        "",
    }
    for spoken in (_english, _spanish):
        text = f"so, {spoken(number)}, then"
        assert _finds(str(number), text)
        assert _finds(spoken(number), f"so, {number}, then")
        assert not [one for one in others if _finds(one, text)], text


@given(st.integers(0, 999), st.integers(1, 99), st.sampled_from(".,·"))
def test_decimal_point_is_never_lost(whole: int, hundredths: int, point: str) -> None:
    text = f"{whole}{point}{hundredths:02} mg"
    assert normalize(text) == [f"{whole}.{hundredths:02}".rstrip("0"), "mg"]
    assert not _finds(f'"{hundredths} mg"', text)
    assert not _finds(f'"{whole}{hundredths:02} mg"', text)


@given(st.integers(50, 299), st.integers(30, 199))
def test_spoken_and_written_blood_pressure_are_equal(systolic: int, diastolic: int) -> None:
    ways = [f"{systolic}/{diastolic}", f"{_english(systolic)} over {_english(diastolic)}"]
    ways += [f"{_spanish(systolic)} sobre {_spanish(diastolic)}", f"{systolic} over {_english(diastolic)}"]
    if systolic >= 110:
        hundreds, rest = divmod(systolic, 100)
        if rest >= 10:
            ways += [f"{_ENGLISH[hundreds]} {_english(rest)} over {diastolic}"]
            ways += [f"{hundreds}{mark}{rest} over {diastolic}" for mark in ".-,: "]
    assert {tuple(normalize(way)) for way in ways} == {(str(systolic), str(diastolic))}


_VOCABULARY = _list(
    "one two five ten twenty forty hundred thousand million mil once un una uno dos cien ciento y treinta point "
    "coma and a half over sobre mg g l h mm hg of de mercury per por cent 5 .5 1.42 42 90 1/2 ½ 8:30 % , . - / : no "
    "type o.k. dr oh pain at to or c f ° º degrees grados celsius y medio media quarter tablets con las "
    "me\u0301dio 10² \u200b"
)
spoken_text = st.lists(st.sampled_from([*_VOCABULARY, " ", " ", " ", "\n"]), max_size=40).map(
    "".join
) | st.lists(st.sampled_from(_VOCABULARY), max_size=30).map(" ".join)


@given(spoken_text)
def test_offsets_of_numbers_are_ordered_and_within_the_text(text: str) -> None:
    before = 0
    for word in normalize_to_words(text):
        assert before <= word.start < word.end <= len(text)
        before = word.start
    for word in normalize_text(text).aliases:
        assert 0 <= word.start < word.end <= len(text)
        assert word.normalized.replace(" ", "").replace(".", "").isalnum()


@given(spoken_text)
def test_text_is_found_by_each_of_its_aliases(text: str) -> None:
    made = transcript(text)
    stored = read_normalized_words(format_transcript(made))
    for word in set(normalize(text)):
        assert f" {word} ".encode() in stored
        assert KEY.numbers([word]) <= hash_transcript(KEY, made)


@given(spoken_text.filter(str.strip))
def test_text_finds_itself_in_quotes(text: str) -> None:
    try:
        query = parse_query(f'"{text}"')
    except InvalidInput:
        return
    assert match_transcript(read_normalized_words(format_transcript(transcript(text))), query) is not None
    assert any(part.is_match for part in cut_snippet(turn(0, text), query).parts)


def test_highlights_are_the_characters_of_the_number() -> None:
    text = "So it was one forty two over ninety, and .5 mg, 250 micrograms; O.K., Dr. Gil?"
    for query, shown in (
        ("142", ["one forty two"]), ('"142/90"', ["one forty two over ninety"]), ("0.5", [".5"]),
        ('"250 mcg"', ["250 micrograms"]), ("okay", ["O.K"]), ("doctor", ["Dr"]), ("over", ["over"]),
    ):  # fmt: skip
        found = cut_snippet(turn(0, text), parse_query(query))
        assert [part.text for part in found.parts if part.is_match] == shown
    joined = cut_snippet(turn(0, "take 0\u200b.5 mg"), parse_query("0.5"))
    assert [part.text for part in joined.parts if part.is_match] == ["0\u200b.5"]


@pytest.mark.parametrize(
    "part", ["one ", "twenty ", "a.", "1.", ".5", "hundred ", "point ", "1,", "mil ", "1/", "over ", "\u200b",
             "1\u200b", "½", "1-42 over ", "o", "9", "%", " "],
)  # fmt: skip
def test_hostile_repetition_is_normalized_within_bounds(part: str) -> None:
    text = part * 20_000
    found = normalize_text(text)
    assert len(found.words) + len(found.aliases) <= 9 * len(text)
    assert all(len(word.normalized) <= 64 for word in (*found.words, *found.aliases))
