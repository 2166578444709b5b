"""Lists the English and Spanish words for numbers, units, temperatures and counted things. This module contains
only data and no function. The listed words are in lower case and without accents, but keep the letter `ñ`.
"""

from typing import Final


def _list(words: str) -> list[str]:
    return words.split()


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ENGLISH_DIGITS: Final = {
    word: value for value, word in enumerate(_list("zero one two three four five six seven eight nine"))
}
ENGLISH_TEENS: Final = {
    word: value
    for value, word in enumerate(
        _list("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"), start=10
    )
}
ENGLISH_TENS: Final = {
    "twenty": 20, "thirty": 30, "forty": 40, "fourty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90,
}  # fmt: skip
SPANISH_DIGITS: Final = {
    "cero": 0, "un": 1, "una": 1, "uno": 1, "dos": 2, "tres": 3, "cuatro": 4, "cinco": 5, "seis": 6, "siete": 7,
    "ocho": 8, "nueve": 9,
}  # fmt: skip
SPANISH_TEENS: Final = {
    "diez": 10, "once": 11, "doce": 12, "trece": 13, "catorce": 14, "quince": 15, "dieciseis": 16, "diecisiete": 17,
    "dieciocho": 18, "diecinueve": 19, "veintiun": 21, "veintiuna": 21, "veintiuno": 21, "veintidos": 22,
    "veintitres": 23, "veinticuatro": 24, "veinticinco": 25, "veintiseis": 26, "veintisiete": 27, "veintiocho": 28,
    "veintinueve": 29,
}  # fmt: skip
SPANISH_TENS: Final = {
    "veinte": 20, "treinta": 30, "cuarenta": 40, "cincuenta": 50, "sesenta": 60, "setenta": 70, "ochenta": 80,
    "noventa": 90,
}  # fmt: skip
SPANISH_HUNDREDS: Final = {
    "cien": 100, "ciento": 100, "doscientos": 200, "doscientas": 200, "trescientos": 300, "trescientas": 300,
    "cuatrocientos": 400, "cuatrocientas": 400, "quinientos": 500, "quinientas": 500, "seiscientos": 600,
    "seiscientas": 600, "setecientos": 700, "setecientas": 700, "ochocientos": 800, "ochocientas": 800,
    "novecientos": 900, "novecientas": 900,
}  # fmt: skip
MILLIONS: Final = frozenset({"million", "millions", "millon", "millones"})
AMBIGUOUS: Final = frozenset({"one", "un", "una", "uno", "once"})
"""Number words that are also ordinary words. They count as numbers only before something that is counted."""

OVER: Final = frozenset({"over", "sobre"})
POINT: Final = frozenset({"point", "punto", "coma"})
LEADING_POINT: Final = frozenset({"point", "punto"})
NOUN_POINT_AFTER: Final = _set(
    "a al an another any at best boiling bullet cada del each el end ese este every focal good her his main melting "
    "mi my no our pressure some starting su that the their this trigger un what which your aquel algun"
)
"""After one of these, `point` is the noun: `at this point five patients`."""
PRONOUN_ONE_AFTER: Final = frozenset({"no", "any", "every", "some"})
"""After one of these, `one` is a pronoun: `no one drinks`."""
NUMBERED: Final = _set(
    "class clase day dia dose dosis estadio etapa fase grade grado level nivel number numero paso phase stage step "
    "tipo type las la times plus minus menos mas"
)
"""After one of these, `one` and `uno` are numbers: `type one diabetes`."""
NUMBERED_IN_SPANISH: Final = _set("dia dosis estadio etapa fase grado las mas menos nivel numero paso tipo")
"""After one of these, the Spanish `once` is 11, although it is also an English word."""
SPANISH_AFTER_ONCE: Final = frozenset({"o", "y", "punto", "coma", "con"})
"""Only before one of these can `once` be 11: `once o doce`, `once y medio`, `once coma cinco`."""
CLOCK_BEFORE: Final = frozenset({"at", "by", "till", "until"})
CLOCK_AFTER: Final = frozenset({"am", "pm", "oclock"})

UNITS: Final = {
    form: unit
    for unit, forms in {
        "mg": "mg mgs milligram milligrams milligramme milligrammes miligramo miligramos",
        "mcg": "mcg mcgs μg ug microg microgram micrograms microgramme microgrammes microgramo microgramos",
        "mcl": "μl ul microliter microliters microlitre microlitres microlitro microlitros",
        "ng": "ng nanogram nanograms nanogramo nanogramos",
        "gram": "gram grams gramme grammes gramo gramos gm gms",
        "kg": "kg kgs kilogram kilograms kilogramme kilogrammes kilogramo kilogramos kilo kilos",
        "ml": "ml mls milliliter milliliters millilitre millilitres mililitro mililitros",
        "dl": "dl deciliter deciliters decilitre decilitres decilitro decilitros",
        "litre": "litre litres liter liters litro litros",
        "mm": "mm millimeter millimeters millimetre millimetres milimetro milimetros",
        "cm": "cm cms centimeter centimeters centimetre centimetres centimetro centimetros",
        "metre": "metre metres meter meters metro metros",
        "mmhg": "mmhg",
        "mmol": "mmol mmols millimole millimoles milimol milimoles",
        "meq": "meq meqs milliequivalent milliequivalents miliequivalente miliequivalentes",
        "unit": "unit units unidad unidades iu ius ui",
        "lb": "lb lbs pound pounds libra libras",
        "oz": "oz ounce ounces onza onzas",
        "hour": "hour hours hr hrs hora horas",
        "minute": "minute minutes min mins minuto minutos",
        "second": "second seconds sec secs segundo segundos",
        "day": "day days dia dias",
        "week": "week weeks wk wks semana semanas",
        "month": "month months mth mths mes meses",
        "year": "year years yr yrs año años",
        "foot": "foot feet ft",
        "inch": "inch inches pulgada pulgadas",
        "teaspoon": "teaspoon teaspoons teaspoonful teaspoonfuls tsp tsps cucharadita cucharaditas cdta cdtas",
        "tablespoon": "tablespoon tablespoons tablespoonful tablespoonfuls tbsp tbsps cucharada cucharadas cda cdas",
        "bpm": "bpm",
        "tablet": "tablet tablets tab tabs tableta tabletas",
        "capsule": "capsule capsules capsula capsulas",
        "degree": "degree degrees deg degs grado grados °",
        "percent": "percent porciento %",
    }.items()
    for form in forms.split()
}
UNITS_AFTER_NUMBERS: Final = {
    "g": "gram", "gr": "gram", "grs": "gram", "l": "litre", "lt": "litre", "lts": "litre", "m": "metre", "h": "hour",
    "hs": "hour", "mo": "month", "mos": "month", "u": "unit", "cc": "ml", "ccs": "ml", "cap": "capsule",
    "caps": "capsule",
}  # fmt: skip
"""Abbreviations that are units only after a number."""
UNIT_PHRASES: Final = {
    ("mm", "hg"): "mmhg",
    ("mm", "of", "mercury"): "mmhg",
    ("mm", "de", "mercurio"): "mmhg",
    ("international", "unit"): "unit",
    ("unit", "internacionales"): "unit",
    ("unit", "internacional"): "unit",
    ("beats", "per", "minute"): "bpm",
    ("latidos", "por", "minute"): "bpm",
    ("per", "cent"): "percent",
    ("por", "ciento"): "percent",
    ("por", "cien"): "percent",
}
DEGREES: Final = frozenset(form for form, unit in UNITS.items() if unit == "degree")
TEMPERATURE_SCALES: Final = {
    **dict.fromkeys(_list("celsius celcius centigrade centigrades centigrado centigrados"), "celsius"),
    **dict.fromkeys(_list("fahrenheit farenheit fahrenheits"), "fahrenheit"),
}
TEMPERATURE_LETTERS: Final = {"c": "celsius", "f": "fahrenheit"}
AFTER_LETTER_C: Final = _set("diff difficile section sections reactive peptide spine albicans auris collar")
"""Before one of these, `C` is the beginning of a name."""
ANGLES: Final = _set(
    "abduccion abduction aduccion adduction angle angles angulo angulos bend bends bent cobb doblar dorsiflexion "
    "elevacion elevation elevated elevado extend extended extends extension flex flexed flexes flexion flexionar "
    "kyphosis lordosis pronacion pronation raise raised rotacion rotate rotated rotation scoliosis escoliosis "
    "supinacion supination tilt tilted turn"
)
"""Near one of these, degrees measure an angle."""
FRACTION_LINKS: Final = frozenset({"and", "y"})
AFTER_FRACTION: Final = _set(
    "after al antes at before cada con daily de despues during durante each en every for from in on once para per por "
    "since twice with without"
)
"""Words before which `two tablets and a half` is complete."""
PARTS_OF_DAY: Final = _set("dia manana mañana mediodia noche tarde madrugada")
PER: Final = frozenset({"per", "por"})
COUNTED: Final = _set(
    "ampolla ampollas año años capsula capsulas comprimido comprimidos "
    "day days dia dias dosis dose doses drop drops "
    "gota gotas mes meses month months pastilla pastillas pildora pildoras pill pills puff puffs semana semanas shot "
    "shots spray sprays tablespoon tablespoons teaspoon teaspoons cucharada cucharadas cucharadita "
    "cucharaditas time times "
    "veces vez bottle bottles botella botellas box boxes caja cajas lata latas cigarette cigarettes "
    "cigarrillo "
    "cigarrillos copa copas cup cups taza tazas drink drinks glass glasses vaso vasos pack packs paquete paquetes "
    "beer beers cerveza cervezas vial vials viales sachet sachets suppository suppositories supositorio supositorios "
    "child children hijo hijos hija hijas meal meals night nights noche noches week weeks year years patch "
    "patches parche parches inyeccion inyecciones injection injections"
)
"""Things that are counted, besides units. Before one of these, `one`, `una` and `once` are numbers."""

SPELLINGS: Final = {"dr": "doctor", "drs": "doctor", "dra": "doctora", "okay": "ok", "okey": "ok"}
