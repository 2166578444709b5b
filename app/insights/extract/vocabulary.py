"""The words by which the extractive writer values and classifies clauses, in English and Spanish. Pure.

The lists are written by hand from general knowledge of clinical notes; no word is learned from the dialogues that
`make bench-insights` measures. The lists hold normalized words (`app.transcripts.search.normalization`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from app.transcripts.search.normalization import normalize


@dataclass(frozen=True)
class Vocabulary:
    """The words of one language. `note_words` maps a function word to its expected number of occurrences in a note
    of `NOTE_WORDS` words. `conversation` are words that belong to a conversation and hardly ever to a note.
    `markers` are frequent words that distinguish the language from the other one."""

    language: str
    note_words: Mapping[str, int]
    conversation: frozenset[str]
    markers: frozenset[str]


NOTE_WORDS: Final = 400
"""The number of words of the note for which `Vocabulary.note_words` counts."""


_listed: dict[str, str] = {}  # the normalized forms of the words of this module's lists, filled at import


def word_key(word: str) -> str:
    """Return the normalized form by which two spellings of a word are compared. It may be empty."""
    key = _listed.get(word)
    return "".join(normalize(word)) if key is None else key


def word_set(text: str) -> frozenset[str]:
    """Return the normalized forms of the words of the text, which are separated by spaces."""
    _listed.update((word, "".join(normalize(word))) for word in text.split())
    return frozenset(key for word in text.split() if (key := word_key(word)))


def _counts(table: Mapping[int, str]) -> Mapping[str, int]:
    return MappingProxyType(
        {word_key(word): count for count, words in table.items() for word in words.split()}
    )


ENGLISH: Final = Vocabulary(
    "en",
    _counts(
        {
            20: "the",
            14: "and",
            12: "of",
            10: "to",
            8: "with in a is for",
            5: "he she his her on has no",
            3: "was at or as not this that are will be from have by been any",
            2: "had which if there were about but when some an after it they",
        }
    ),
    word_set(
        """i you your my me we us our mine yours i'm i've i'd i'll you're you've you'll we'll we're we've ve ll re don't
        don n't uh um uhm er hm hmm mm mhm mm-hmm huh ah oh wow okay ok alright right yeah yep yes sure well so like
        just know mean gonna gon na wan wanna kinda kind sort really actually hey hi hello good great thanks thank
        please sorry let let's lets go going get got getting see look looking looks take taking come came think guess
        say said tell told talk talking want what how why where who do does did doing done thing things stuff something
        anything everything lot little bit maybe probably pretty very much too also then now here up out that's what's
        it's there's he's she's can could should would may might must am being make made sound sounds feel feels bye
        nice ask question questions put need definitely obviously basically exactly absolutely course fine awesome
        perfect cool excellent wonderful them those these us myself yourself ourselves give back ahead around over down
        through off even still again always than same different other another every all both each more most way many few
        ever enough already time times try trying work working keep start started stop help happen happened happening
        use using used call called isn't aren't didn't doesn't won't can't couldn't haven't hasn't wasn't cannot morning
        bye-bye afternoon welcome able saying wonder wondering notice noticed"""
    )
    - word_set("one two three four five six seven eight nine ten"),
    word_set(
        "the is are you your have what how it that this with does did been was i'm it's don't would please of and"
    ),
)
SPANISH: Final = Vocabulary(
    "es",
    _counts(
        {
            24: "de",
            14: "la y",
            12: "el",
            10: "en",
            8: "con a",
            5: "que los por se no las del al",
            3: "una un sin para es su ha o lo",
            2: "le desde cada refiere niega presenta como si muy más",
        }
    ),
    word_set(
        """yo tú usted ustedes me te nos mi mis tu tus nuestro nuestra mí sus suyo suya él ella ellos eh em mmm ajá aja
        este esto eso ese esa estos estas esos bueno bien vale ok okay claro sí pues entonces así ya ahí aquí allí ahora
        hola buenos buenas tardes noches días gracias favor disculpe perdón adiós ver vea vamos va voy ir mire mira oiga
        oye diga dígame cuénteme dice digo decir dijo dijeron sabe sé saber creo cree creer pienso quiero quiere querer
        quisiera gustaría puede puedo poder podría debe hay ser estar soy estoy está están estamos son era estaba fue
        hacer hace hago hizo haciendo tener tengo tiene tienes tenía tuvo he hemos han había haber cómo qué cuál cuándo
        cuánto cuánta dónde quién porque cosa cosas algo nada todo toda todos todas mucho mucha muchos muchas poco
        poquito tanto tan también tampoco solo sólo siempre otra otro otras vez veces gusta siente siento sentir parece
        parecer pasa pasado pasó verdad exacto perfecto correcto acuerdo supuesto seguro claro desde luego a lo mejor
        quizás tal momento manera forma decirle hablar pregunta preguntas alguna algún alguno empezó empezar dar doy da
        dado pone poner ponga trabajo"""
    )
    - word_set("de la el en a lo a desde"),
    word_set(
        "el los las una que por usted está tiene ha muy pero para con del sí cómo qué más me le se y de la es mi"
    ),
)
VOCABULARIES: Final = {"en": ENGLISH, "es": SPANISH}

OPENERS: Final = word_set(
    """okay ok alright so well um uh uhm er hm hmm mm mhm and like yeah right oh ah hey now great good all perfect
    but then also actually basically just anyway huh wow eh em este pues bueno vale entonces y ajá aja mire mira
    oiga claro perfecto"""
)
"""Words that a quote does not begin with."""
UNCERTAIN_OPENERS: Final = word_set("right just all good great then well like now also este claro mira mire")
"""Openers that a quote begins with if the next word is no opener and no punctuation follows: `right knee`."""
AFFIRMATIONS: Final = word_set("yeah yep right claro")
"""Openers that may be the answer to a question."""
CLOSERS: Final = word_set(
    "okay ok alright um uh uhm er hm hmm mm mhm and so but or like eh em vale y pero o ajá"
)
"""Words that a quote does not end with."""
TAG_QUESTIONS: Final = word_set("okay ok alright right verdad vale cierto sí no")
"""Words that turn a statement into a question in form only."""
LEANING: Final = word_set(
    """a an the my your his her our their this that these those of in on at to for from with by about over into and
    or but if when while where what which who how because as than like is are was were be am been do does did
    have has had can could will would should may might must not very really just also increase continue start
    take stop until i you he she they we i'm i've it's you've you're un una el la los las mi su sus de del en
    con por para a al y o pero si cuando que como donde porque es son está están era ha han he había no muy se
    le me lo"""
)
"""Words after which a clause does not end."""

BACKCHANNELS: Final = word_set(
    "okay ok mm-hmm mhm mm hmm uh-huh sure alright right yeah yes great good perfect all hm huh uh "
    "ajá vale bueno bien claro sí"
)
"""Words of turns that only show attention."""

NEGATIONS: Final = word_set(
    "no not n't don't didn't doesn't haven't hasn't isn't aren't wasn't won't can't couldn't never none without denies "
    "cannot nunca ni sin nada tampoco jamás ningún ninguna niega"
)
CONDITIONS: Final = word_set(
    "if unless think thought say said know sure believe hope whether si creo cree pienso dice sé seguro espero"
)
"""Words that change the meaning of the clause after them."""

CLINICAL: Final = word_set(
    """pain ache aches headache migraine fever chills cough sputum phlegm breath breathing breathless wheeze asthma
    copd pneumonia bronchitis infection virus viral bacterial antibiotic nausea vomiting vomit diarrhea diarrhoea
    constipation stool blood bleeding urine urinating bladder kidney stone burning rash itchy itching eczema skin
    swelling swollen edema oedema numbness tingling weakness dizzy dizziness lightheaded fatigue tired weight
    appetite sleep insomnia anxiety depression stress mood suicidal allergy allergic allergies penicillin latex
    peanut medication medicine tablet pill dose milligram mg inhaler insulin metformin lisinopril ibuprofen
    tylenol paracetamol acetaminophen aspirin statin steroid injection vaccine surgery operation fracture broken
    injury fall fell trauma sprain arthritis diabetes diabetic hypertension pressure cholesterol heart attack
    stroke cancer tumor thyroid anemia reflux heartburn ulcer gastritis gastroenteritis hepatitis hernia
    gallbladder appendix pregnant pregnancy period contraception smoke smoking cigarette alcohol drink drinking
    drug exercise diet mother father brother sister family history exam examination lung abdomen abdominal belly
    tender tenderness palpation murmur rhythm rate pulse oxygen saturation temperature reflex motion flexion
    extension gait strength sensation x-ray ct mri ultrasound echocardiogram ekg ecg scan lab labs result biopsy
    hemoglobin a1c glucose sugar creatinine count culture test diagnosis symptom acute chronic mild moderate
    severe bilateral left right knee hip shoulder elbow wrist hand ankle foot leg arm back neck chest throat ear
    nose eye head stomach joint muscle nerve therapy physical referral refer specialist prescription prescribe
    refill follow-up hospital emergency ambulance wound swallow swallowing hearing tinnitus vision sensitivity
    aura rest fluids cream ointment dolor cabeza fiebre escalofríos tos flema respirar respiración asma neumonía
    bronquitis infección antibiótico vómito vómitos vomitar diarrea estreñimiento heces sangre sangrado orina
    orinar riñón ardor sarpullido picazón piel hinchazón hinchado hinchada entumecimiento hormigueo debilidad
    mareo mareos mareado mareada fatiga cansancio cansado cansada peso apetito dormir sueño ansiedad depresión
    estrés alergia alergias alérgico alérgica penicilina medicamento medicamentos medicina pastilla pastillas
    tableta dosis miligramos inhalador insulina metformina ibuprofeno aspirina esteroide inyección vacuna cirugía
    operación operado operada fractura caída golpe artritis diabético diabética hipertensión presión tensión
    colesterol corazón infarto derrame cáncer tiroides reflujo úlcera vesícula embarazo embarazada regla fumar
    fumo fuma cigarrillos bebe ejercicio dieta madre padre hermano hermana familia antecedentes examen exploración
    pulmón pulmones soplo ritmo pulso oxígeno saturación temperatura reflejos radiografía tomografía resonancia
    ecografía electrocardiograma análisis resultado resultados biopsia hemoglobina glucosa azúcar prueba pruebas
    diagnóstico síntoma síntomas agudo aguda crónico crónica leve moderado severo grave izquierdo izquierda
    derecho derecha rodilla cadera hombro codo muñeca mano tobillo pie pierna brazo espalda cuello pecho garganta
    oído nariz ojo ojos estómago articulación músculo nervio terapia fisioterapia especialista receta recetar
    urgencias ambulancia herida tragar reposo líquidos crema throbbing cramp cramps crampy sharp dull stabbing
    tight tightness sore soreness stiff stiffness sweating sweaty sweat shivering shiver hot cold clammy dry runny
    blocked congestion congested sneezing mucus phlegmy hoarse wheezy winded palpitation palpitations faint
    fainting collapse unconscious seizure fit confusion confused drowsy lethargic lethargy weak exhausted energy
    malaise unwell sick nauseous queasy bloated bloating gas wind indigestion acid stools poo bowel bowels loose
    watery bloody wee pee peeing urinate frequency urgency incontinence discharge itch scaly flaky cracked crack
    blister lump bump spot mole bruise bruising burn bite sting hives redness red inflamed inflammation pus
    abscess infected sepsis wax deaf deafness ringing vertigo balance spinning blurred blurry blind floaters glare
    light lights bright speech slurred droop drooping facial tingle numb paralysis tremor shaking spasm twitch
    limp walking stairs lifting bend bending twist straighten mobility hayfever pollen dust intolerance intolerant
    gluten lactose celiac coeliac nut nuts shellfish psoriasis dermatitis acne shingles chickenpox measles mumps
    flu influenza covid tonsillitis sinusitis laryngitis tuberculosis malaria hiv sti chlamydia thrush cystitis
    uti pyelonephritis prostate testicular ovary ovarian uterus fibroids endometriosis menopause menstrual
    miscarriage colitis crohn ibs diverticulitis pancreatitis cirrhosis jaundice liver gallstones hemorrhoids
    piles angina arrhythmia fibrillation valve stent bypass clot thrombosis embolism dvt varicose aneurysm anaemia
    hypothyroidism hyperthyroidism underactive overactive gout lupus rheumatoid osteoarthritis osteoporosis
    bursitis tendonitis tendinitis sciatica scoliosis disc slipped carpal tunnel meniscus ligament tendon rotator
    cuff concussion epilepsy dementia parkinson sclerosis migraines panic bipolar schizophrenia adhd autism mania
    antihistamine antihistamines antidepressant sertraline fluoxetine citalopram amoxicillin doxycycline
    azithromycin clindamycin prednisone cortisone hydrocortisone albuterol ventolin salbutamol omeprazole prilosec
    amlodipine norvasc losartan atorvastatin warfarin gabapentin tramadol codeine morphine naproxen meloxicam
    diclofenac levothyroxine hrt contraceptive coil implant condom microgynon painkiller painkillers moisturiser
    moisturizer emollient lotion drops spray patch vitamin iron calcium supplement supplements bandage dressing
    stitches cast brace splint crutches boot travel abroad travelled holiday pet job work nurse occupation retired
    divorced married lives units tummy groin pelvis pelvic rib ribs spine lumbar thigh calf shin heel toe toes
    finger fingers thumb palm forearm jaw tooth teeth gum tongue lip lips mouth sinus scalp hair nail breast
    nipple genital penis vagina fasting colonoscopy endoscopy swab dialysis chemotherapy radiation transplant
    transfusion admitted rehab counselling counseling cbt low-salt obese overweight bmi thirst thirsty worsening
    worse better improved sudden intermittent constant punzante opresivo calambre calambres quemazón rigidez sudor
    sudores sudoración escalofrío frío calor seco seca congestión estornudos moco mocos ronco ronca palpitaciones
    desmayo desmayé convulsión confusión agotado agotada gases acidez indigestión deposiciones estreñido orino
    flujo grano roncha ronchas ampolla bulto lunar moretón quemadura picadura enrojecimiento rojo roja inflamación
    inflamado inflamada infectado infectada sordera zumbido vértigo borrosa luz luces hormigueos temblor espasmo
    polen intolerancia lactosa acné gripe amigdalitis cistitis próstata ovario útero menopausia menstruación
    hígado cálculos hemorroides arritmia coágulo trombosis hipotiroidismo gota artrosis ciática epilepsia
    antihistamínico antidepresivo amoxicilina omeprazol losartán enalapril amlodipino atorvastatina warfarina
    naproxeno anticonceptivo jarabe gotas pomada vitamina hierro viaje trabajo barriga ingle costilla costillas
    columna muslo pantorrilla talón dedo dedos mandíbula diente dientes muela encía lengua labio labios boca mama
    peor mejor"""
)
"""Words of symptoms, diseases, findings, tests, drugs and parts of the body."""
