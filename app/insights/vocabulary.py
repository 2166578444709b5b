"""Lists the English and Spanish words that the checker of insights knows. This module contains only data. The listed
words are in lower case and without accents, but keep the letter `ñ`.
"""

from typing import Final


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


FILLERS: Final = _set(
    "ah ahh ahm eh ehm em er erm hm hmm hmmm mhm mm mmhmm mmhm mmm oh uh uhh uhm uhhuh um umm huh"
)
"""Sounds that speakers make while they think. A quote may leave them out."""

FUNCTION_WORDS: Final = _set(
    "a about above after again all also am an and any are as at away back be because been before being below "
    "between both but by can cannot could couldnt did didnt do does doesnt doing done dont down during each "
    "either else even ever every few first for from further get gets getting go goes going gonna got had has "
    "hasnt have havent having he her here hers him his how i id if ill im in into is isnt it its ive just kind "
    "know last let like little ll lot made make makes many may maybe me might mine more most much my na need "
    "nor now nt of off ok on once one only or other our out over own please put quite re really right said "
    "same say says see seem seems she should so some something sort still stuff such sure take taken taking "
    "tell than thank that thats the their them then there these they thing think this those though through "
    "time to today together told too try under until up us use used using usually ve very want wanted was "
    "wasnt way we well went were werent what whats when where whether which while who why will with wont would "
    "wouldnt yeah yes yet you youre your al algo algun alguna algunas alguno algunos ante antes aqui asi aun "
    "bien cada como con cual cuando cuanto de del desde donde dos durante e el ella ellas ellos en entonces "
    "entre era es esa esas ese eso esos esta estaba estado estan estar estas este esto estos estoy fue fueron "
    "gracias ha hace hacer hacia han hasta hay he hemos la las le les lo los mas me mi mientras mis mucha "
    "mucho muy nada nos nosotros o otra otras otro otros para pero poco por porque pues que quien se sea ser "
    "si sido siempre sobre solo son soy su sus tal tambien tan tanto te tengo ten ti tiene tienen toda todas "
    "todo todos tras tu tus u un una unas uno unos usted ustedes va vale vamos van ver voy y ya yo"
)
"""Words that say little about the content of a line."""

NOTE_WORDS: Final = _set(
    "patient reports report reported states state stated notes note noted denies denied endorses endorse "
    "endorsed presents presented present presenting clinic evaluation visit history recommend recommended "
    "recommends discussed discuss explained advised mr ms mrs miss doctor dr female male year old pleasant "
    "medical treatment reasoning additional testing education counseling agreements understands agrees agree "
    "including regarding examination exam review continue describes mentions mentioned complains currently "
    "secondary due evidence paciente refiere niega comenta acude presenta indica señala consulta exploracion "
    "antecedentes sra sr señora señor tratamiento plan recomienda recomendado comentado hombre mujer año "
    "historia actualmente debido evaluacion varon"
)
"""Words by which a note reports what was said. The speakers themselves seldom say them."""

SYNONYMS: Final = {
    form: key
    for key, forms in {
        "pain": "ache aches aching achy hurt hurts hurting sore soreness tender tenderness discomfort painful pains "
        "pain dolor dolores duele duelen dolia dolorosa doloroso molestia molestias",
        "abdomen": "abdomen abdominal belly tummy stomach abdomen vientre tripa barriga estomago",
        "edema": "edema oedema swelling swollen swell swells effusion puffiness hinchazon hinchada hinchado hinchados "
        "hinchadas edemas inflamado inflamada",
        "hypertension": "hypertension hypertensive hipertension hipertensa hipertenso",
        "dyspnea": "dyspnea breathless breathlessness shortness breath breathing breathe winded disnea ahogo respirar "
        "respiracion ahoga",
        "vomit": "vomit vomiting vomited emesis vomito vomitos vomitar vomitado devuelto",
        "nausea": "nausea nauseous nauseated queasy nauseas",
        "stool": "stool stools bowel bowels poop poo feces heces deposiciones deposicion caca",
        "urine": "urine urinary urinate urinating urination pee peeing orina orinar",
        "medication": "medication medications medicine medicines meds drug drugs medicacion medicamento medicamentos "
        "medicina medicinas",
        "heart": "heart cardiac cardiovascular corazon cardiaco cardiaca",
        "kidney": "kidney kidneys renal riñon riñones",
        "lung": "lung lungs pulmonary respiratory pulmon pulmones pulmonar",
        "fever": "fever fevers febrile fiebre febril",
        "fatigue": "fatigue fatigued tired tiredness exhausted cansancio cansada cansado fatiga",
        "dizzy": "dizzy dizziness lightheaded lightheadedness mareo mareos mareada mareado",
        "operation": "surgery surgeries surgical operation operated cirugia operacion operado operada operaron",
        "tobacco": "smoke smokes smoking smoker smoked tobacco cigarette cigarettes tabaco fuma fumar fumador fumadora",
        "alcohol": "alcohol drink drinks drinking drank beber bebe bebo",
        "allergy": "allergy allergies allergic alergia alergias alergica alergico",
        "tingle": "tingle tingles tingling paresthesia paresthesias pins hormigueo hormigueos",
        "numb": "numb numbness numbing adormecimiento adormecida adormecido",
        "lump": "lump lumps mass masses nodule nodules bulto bultos masa",
        "bruise": "bruise bruises bruising ecchymosis hematoma moreton moretones",
        "weight": "weight pounds peso",
        "itch": "itch itches itching itchy pruritus picor prurito pica picores",
        "flex": "flexion flex bend bending flexing doblar",
        "extend": "extension extend straighten straightening estirar",
        "rash": "rash rashes erythema redness red erupcion sarpullido eritema rojo roja enrojecimiento",
        "cough": "cough coughs coughing tos tose toser",
        "walk": "walk walks walking ambulation ambulate ambulating gait caminar camino camina andar",
        "glucose": "sugar sugars glucose azucar glucosa",
        "physical therapy": "physiotherapy fisioterapia rehabilitacion",
        "sleep": "sleep sleeping sleeps slept insomnia dormir duermo duerme sueño insomnio",
        "constipation": "constipation constipated estreñimiento estreñida estreñido",
        "trauma": "trauma injury injuries injure injured injuring golpe lesion traumatismo lesiones",
        "palpate": "palpation palpate press pressing touch palpacion aprieto apretar tocar toco",
        "emergency": "emergency urgencias emergencia emergencias",
        "mother": "mother mom mum madre mama",
        "father": "father dad padre papa",
        "thyroid": "thyroid thyromegaly tiroides",
        "lymph": "lymph lymphadenopathy adenopathy ganglios ganglio adenopatias",
        "incision": "incision incisions wound wounds herida incision",
        "blood": "blood bleed bleeds bleeding sangre sangra sangrado",
        "reflux": "reflux gerd heartburn reflujo acidez",
        "depress": "depress depression depressed depressive depresion deprimida deprimido",
        "anxiety": "anxiety anxious ansiedad nervios ansiosa ansioso",
    }.items()
    for form in forms.split()
}
"""Everyday and medical words for the same thing, in both languages."""

_SAME_DRUG: Final = (
    "acetaminophen tylenol paracetamol", "ibuprofen advil motrin ibuprofeno nurofen", "naproxen aleve naproxeno",
    "amlodipine norvasc amlodipino", "omeprazole prilosec omeprazol", "pantoprazole protonix pantoprazol",
    "furosemide lasix furosemida", "metoprolol lopressor toprol", "carvedilol coreg", "lisinopril zestril prinivil",
    "losartan cozaar", "atorvastatin lipitor atorvastatina", "rosuvastatin crestor rosuvastatina",
    "simvastatin zocor simvastatina", "warfarin coumadin warfarina", "apixaban eliquis", "clopidogrel plavix",
    "metformin glucophage metformina", "insulin lantus humalog insulina", "levothyroxine synthroid levotiroxina",
    "sertraline zoloft sertralina", "fluoxetine prozac fluoxetina", "citalopram celexa", "escitalopram lexapro",
    "bupropion wellbutrin", "venlafaxine effexor venlafaxina", "trazodone desyrel trazodona",
    "alprazolam xanax", "lorazepam ativan", "gabapentin neurontin gabapentina", "pregabalin lyrica pregabalina",
    "tramadol ultram", "oxycodone percocet oxycontin", "hydrocodone vicodin norco", "cyclobenzaprine flexeril",
    "meloxicam mobic", "celecoxib celebrex", "diclofenac voltaren diclofenaco", "prednisone deltasone prednisona",
    "amoxicillin amoxil augmentin amoxicilina", "azithromycin zithromax azitromicina", "doxycycline doxiciclina",
    "cephalexin keflex", "clindamycin cleocin clindamicina", "ciprofloxacin cipro ciprofloxacino",
    "albuterol ventolin proair salbutamol", "montelukast singulair", "cetirizine zyrtec cetirizina",
    "loratadine claritin loratadina", "diphenhydramine benadryl", "fluticasone flonase", "sumatriptan imitrex",
    "topiramate topamax topiramato", "alendronate fosamax alendronato", "allopurinol zyloprim alopurinol",
    "hydrochlorothiazide hctz microzide hidroclorotiazida", "spironolactone aldactone espironolactona",
    "famotidine pepcid famotidina", "ondansetron zofran", "aspirin aspirina", "miralax", "digoxin digoxina",
    "methotrexate metotrexato", "hydroxychloroquine plaquenil", "colchicine colchicina", "clobetasol",
    "sildenafil viagra", "tamsulosin flomax tamsulosina", "enalapril", "ramipril", "bisoprolol", "atenolol",
    "penicillin penicilina", "morphine morfina", "codeine codeina", "melatonin melatonina", "metamizol nolotil",
    "enoxaparina clexane lovenox", "acenocumarol sintrom", "diazepam valium",
)  # fmt: skip
DRUG_NAMES: Final = {name: frozenset(names.split()) for names in _SAME_DRUG for name in names.split()}
"""Common drugs, each with its other names. A drug that is missing here is found by the ending of its name."""
DRUGS: Final = frozenset(DRUG_NAMES)
DRUG_ENDINGS: Final = (
    "pril", "sartan", "olol", "statin", "statina", "dipine", "dipino", "prazole", "prazol", "tidine", "tidina",
    "cillin", "cilina", "mycin", "micina", "floxacin", "floxacino", "cycline", "ciclina", "azole", "azol", "vir",
    "mab", "tinib", "gliptin", "gliptina", "gliflozin", "gliflozina", "glutide", "glutida", "oxetine", "oxetina",
    "azepam", "zolam", "triptan", "caine", "caina", "profen", "profeno", "sone", "sona", "solone", "solona",
    "terol", "lukast", "parin", "parina", "xaban", "afil", "osin", "osina", "dronate", "dronato", "thiazide",
    "tiazida", "semide", "semida", "formin", "formina", "codone", "codona", "morphone", "azine", "azina",
    "barbital", "setron", "oxicam", "coxib", "amide",
)  # fmt: skip
NOT_DRUGS: Final = _set("person persons reason season lesson comparison magazine persona razon april")
RELATIVES: Final = {
    form: key
    for key, forms in {
        "mother": "mother mothers mom moms mommy mum mama madre",
        "father": "father fathers dad dads daddy papa padre",
        "parent": "parent parents padres",
        "sister": "sister sisters hermana hermanas",
        "brother": "brother brothers hermano hermanos",
        "sibling": "sibling siblings",
        "wife": "wife esposa mujer",
        "husband": "husband esposo marido",
        "son": "son sons hijo hijos",
        "daughter": "daughter daughters hija hijas",
        "child": "child children kid kids niño niña niños",
        "grandmother": "grandmother grandma abuela",
        "grandfather": "grandfather grandpa abuelo",
        "grandparent": "grandparents abuelos",
        "aunt": "aunt tia",
        "uncle": "uncle tio",
        "cousin": "cousin primo prima",
        "partner": "partner boyfriend girlfriend pareja novio novia",
    }.items()
    for form in forms.split()
}
FAMILY: Final = _set("family familia familiar familiares parents padres twin twins spouse children hijos")
"""Words for several relatives."""
SELF: Final = _set("i im ive me my mine we us you your yo me mi mis nosotros usted")
REPORTS: Final = _set(
    "accompanied acompañada acompañado counseled counseling informed advised notes states reports denies "
    "mentions refiere niega comenta"
)
"""Words of a line about a relative who speaks for the patient or is spoken to."""
PAST: Final = _set("previously formerly anteriormente previamente")
PAST_VERBS: Final = _set(
    "was were had did been went used before ago last prior history past earlier until old previous era eran fue fueron "
    "estaba estaban tenia tuvo tenian antes hace anterior antiguo antigua"
)
"""Words of a quote about the past."""
PERIODS: Final = _set("week month year night summer winter spring fall")
LAST: Final = _set("last ago past yesterday since")
PRESENT: Final = _set("currently presently actualmente still todavia")
