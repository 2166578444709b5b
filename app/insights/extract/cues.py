"""Patterns of English and Spanish clauses that belong to a section of a note or name an action. Pure."""

import re
from typing import Final

_PARTS: Final = {
    "<GOING TO>": r"(?:(?:am|'m|are|'re|is) (?:gon ?na|going to)|will|'ll|wan ?na|want to|(?: would|'d) like to)",
    "<TREAT>": r"(?:start|continue|increase|decrease|prescribe|order|refer|send|schedule|get|give|put|keep|stop|switch"
    r"|repeat|check|see you|follow|recommend|add|taper|renew|refill|set up|have you|perform|obtain|book|arrange|call"
    r"|make)",
}


def _pattern(alternatives: str) -> re.Pattern[str]:
    """Return a pattern that finds one of the alternatives, which `;` separates, as whole words."""
    for name, part in _PARTS.items():
        alternatives = alternatives.replace(name, part)
    joined = "|".join(one.strip() for one in re.sub(r"\n\s*", "", alternatives).split(";"))
    return re.compile(rf"(?<!\w)(?:{joined})(?!\w)", re.IGNORECASE)


EXAM_BEGINS: Final = _pattern(
    r"""
    (?:physical|quick) exam(?:ination)? ;
    (?:let me|let's|going to|gon ?na|wan ?na|want to) (?:take a (?:quick )?look|examine|listen|check you) ;
    examin(?:e|ing) you ; on (?:your )?(?:physical )?exam(?:ination)? ; show me ; vital signs ;
    (?:le )?voy a (?:examinar|revisar|explorar|auscultar)(?:lo|la|le)? ;
    vamos a (?:examinar|explorar|revisar)(?:lo|la|le)? ; a la exploración ; exploración física ; examen físico ;
    signos vitales
    """
)
PLAN_BEGINS: Final = _pattern(
    r"""
    assessment and (?:my )?plan ; (?:my|your|the) (?:assessment|plan) ;
    for your (?:first|second|third|next|last) (?:problem|issue) ; here's what (?:we|i) ;
    what i(?:'d| would| want| wan)(?: ?na)? (?:like )?to do ; mi plan ; el plan es ; lo que vamos a hacer ;
    el tratamiento ; mi impresión
    """
)
OBJECTIVE: Final = _pattern(
    r"""
    on (?:your )?(?:physical |\w+ )?exam(?:ination)? ; exam(?:ination)? ; vital signs? ; vitals ;
    blood pressure (?:is|was|today|looks) ; heart rate ; oxygen(?:ation| saturation)? ; temperature is ;
    lungs? (?:is|are|sounds?) ; heart (?:is|sounds?) ; murmurs? ; palpation ; tender(?:ness)? ; range of motion ;
    flexion ; extension ; swelling (?:over|of|in) ; erythema ; edema ; bilaterally ; x-?rays? ; mri ; ct ;
    ultrasound ; echo(?:cardiogram)? ; ekg ; ecg ; labs? ; results? ; hemoglobin ; a1c ; creatinine ; crackles ;
    ronchi ; rhonchi ; wheez(?:es|ing) ; lymph nodes? ; bruits? ;
    i (?:do )?(?:appreciate|hear|see|notice|do ?n't see|do ?n't hear) ; reflexes ; gait ; strength is ;
    signos vitales ; presión (?:es|está|arterial) ; tensión (?:es|está|arterial) ; frecuencia ; saturación ;
    temperatura ; pulmones ; soplos? ; palpación ; abdomen ; radiografía ; resonancia ; ecografía ; análisis ;
    resultados? ; hemoglobina ; veo ; escucho ; observo ; reflejos
    """
)
ASSESSMENT: Final = _pattern(
    r"""
    i (?:think|believe|suspect) (?:that )?(?:you|it|this|that|your|we) ; consistent with ; most likely ; likely ;
    diagnos(?:is|ed) ; impression ; i'm (?:concerned|worried|suspecting|thinking) ; looks like you(?:'ve)? ;
    sounds like you ; you (?:do )?(?:probably |may |might )?have (?:a |an |some )? ;
    this (?:is|could be|may be|might be) ; caused by ; due to ; secondary to ; well controlled ; stable ;
    evidence of ; assessment ; creo que (?:usted|es|tiene|se) ; pienso que ; parece (?:ser|que) ;
    probable(?:mente)? ; diagnóstico ; impresión ; se trata de ; sospecho ; compatible con ;
    lo que (?:usted )?tiene ; controlad[oa] ; es un[oa]? ; debid[oa] a
    """
)
PLAN: Final = _pattern(
    r"""
    (?:i|we|you|she|they|nurse|let)(?: |(?='))\s*<GOING TO>(?: [\w,]+){0,5}? <TREAT> ;
    i (?:want|need|would like|'d like|wan ?na|recommend|suggest|advise)(?:ed)? (?:for )?you ;
    i(?:'d| would) (?:like|recommend|suggest|encourage|advise) ;
    let's (?:start|continue|get|go ahead|do|plan|try|order|have|see|check|keep) ; we(?:'ll| will| can| should) ;
    i(?:'ll| will) ;
    (?:start|continue|increase|decrease|prescribe|prescribing|prescription|order|refer|referral|recommend|refill) ;
    follow[- ]?up ; advisable ; painkillers ; come back ; call (?:me|us|the office|my office) ;
    (?:two|three|four|twice|once|1|2|3|4)(?: times)? (?:a|per) day ; let me know ; go to the (?:er|emergency) ;
    milligrams? ; mg ; physical therapy ; you (?:should|need to|can|have to|must) ; make sure ; avoid ;
    (?:le |te |lo |la )?(?:voy|vamos) a ; (?:quiero|recomiendo|sugiero|necesito) que ; le recomiendo ; debe ;
    tiene que ; tome ; tomará ; recet(?:a|o|ar|aré) ; regrese ; vuelva ; lláme(?:me|nos)? ; cita ; seguimiento ;
    continúe ; evite ; empiece ; empezar ; empezaremos ; vaya a urgencias ; cada (?:\w+ )?(?:horas?|días?) ;
    miligramos
    """
)
DOCTOR_ACTS: Final = _pattern(
    r"""
    (?:i|we)(?: |(?='))\s*<GOING TO>(?: [\w,]+){0,5}? <TREAT> ;
    (?:i|we)(?:'ll| will| can) (?:\w+ ){0,4}?<TREAT> ;
    let's (?:start|continue|get|go ahead|do|order|check|repeat|increase) ;
    i(?:'d| would) (?:recommend|suggest|advise) ; i(?:'m| am) (?:prescribing|ordering|referring|sending) ;
    (?:le |te |lo |la )?(?:voy|vamos) a (?:dar|recetar|pedir|mandar|enviar|referir|derivar|poner|empezar|
    aumentar|hacer|ordenar|solicitar|programar)(?:le)? ;
    le (?:receto|mando|pido|envío|derivo|daré|recetaré|pediré) ; recetaré ; pediré
    """
)
PATIENT_ACTS: Final = _pattern(
    r"""
    (?:i'm gon ?na|i'm going to|i'd|i would|i) (?:recommend|suggest|advise|encourage) (?:that )?you ;
    i(?:'ll| will) have you (?:come|see|follow|start|take|call) ;
    i (?:want|need|would like|'d like|wan ?na|recommend|suggest|advise|encourage)(?: for)? (?:that )?you ;
    i'd (?:like|encourage) you ; you (?:should|need to|have to|must) ; you(?:'ll| will) (?:need|have|want|take) ;
    (?:please )?(?:call|contact) (?:me|us|the office|my office) ; let (?:me|us) know ; come back ;
    go to the (?:er|emergency) ; make sure (?:that )?you ; make (?:an|a follow-?up) appointment ;
    take (?:this medicine|them|one|two|\d+) ; try to ; avoid ; follow up with ;
    (?:quiero|recomiendo|sugiero|necesito) que ; le recomiendo ; debe(?:ría)? ; tiene que ; tome ;
    lláme(?:me|nos)? ; regrese ; vuelva ; evite ; vaya a ; continúe ; empiece a ; haga ; beba ; descanse
    """
)
OWN_ACTS: Final = _pattern(
    r"""
    i(?:'ll| will| am going to|'m going to|'m gon ?na) (?:\w+ )?(?:call|take|try|make|check|do|start|stop|
    schedule|come|go|get|keep|bring|send|cut) ;
    (?:voy a|trataré de) (?:llamar|tomar|dejar|hacer|empezar|ir|traer|cuidar)(?:me|lo|la)? ; lo haré ; la tomaré
    """
)
WHEN: Final = _pattern(
    r"""
    (?:in|within|for|after) (?:about |around |the next )?(?:a|an|one|two|three|four|five|six|seven|eight|nine|
    ten|twelve|couple(?: of)?|a couple(?: of)?|a few|\d+)(?: (?:to|or) (?:\w+|\d+))? (?:more )?(?:minutes?|
    hours?|days?|weeks?|months?|years?) ;
    (?:today|tomorrow|tonight|this (?:week|afternoon|evening|morning)|next (?:week|month|year|visit|monday|
    tuesday|wednesday|thursday|friday)) ;
    (?:every|each) (?:other )?(?:day|morning|night|evening|week|month|\w+ hours) ;
    (?:once|twice|two times|three times|four times|\d times) (?:a|per) (?:day|week|month) ; daily ;
    at (?:night|bedtime) ;
    (?:en|dentro de|durante|por) (?:un|una|uno|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez|quince|
    \d+) (?:minutos?|horas?|días?|semanas?|mes(?:es)?|años?) ; hoy ; esta (?:noche|tarde|semana) ;
    la (?:próxima semana|semana que viene) ;
    el (?:próximo mes|mes que viene|lunes|martes|miércoles|jueves|viernes) ;
    cada (?:\w+ )?(?:horas?|días?|mañana|noche|semanas?) ;
    (?:una vez|dos veces|tres veces) (?:al día|a la semana|por día) ; todos los días ; antes de dormir ; mañana
    """
)
TOUCH: Final = _pattern(
    r"""
    hurts? ; tender ; press(?:ing)? ; push(?:ing)? ; touch ; feel this ; when i ; squeeze ; move ; bend ; duele ;
    aprieto ; presiono ; toco ; molesta
    """
)
ALLERGY: Final = _pattern(
    r"""
    allerg\w* ; anaphyla\w* ; alérgic\w* ; alergia\w* ; anafil\w*
    """
)
MEDICATION: Final = _pattern(
    r"""
    medications? ; medicines? ; tablets? ; pills? ; inhalers? ; milligrams? ; mg ; insulin ; antibiotics? ;
    cream ; ibuprofen ; paracetamol ; tylenol ; aspirin ; steroids? ; antihistamines? ; prescri\w+ ; the pill ;
    over the counter ; taking (?:any|anything) ; medicamentos? ; medicinas? ; pastillas? ; miligramos ;
    ibuprofeno ; aspirina ; antibióticos? ; inhalador ; insulina ; crema ; recet\w+
    """
)
HISTORY: Final = _pattern(
    r"""
    history ; (?:mother|father|mum|mom|dad|brother|sister|parents?|family)(?:'s)? ; surger\w+ ; operations? ;
    smok\w+ ; alcohol ; drinks? ; medical conditions? ; other (?:medical )?(?:problems|conditions|illness\w*) ;
    diagnosed ; diabet\w+ ; asthma ; eczema ; hypertension ; thyroid ; cancer ; occupation ;
    (?:for a living|your job|work as) ; antecedentes ; madre ; padre ; herman[oa]s? ; familia\w* ; cirugías? ;
    operad[oa] ; fum\w+ ; asma ; hipertensión ; tiroides ; cáncer
    """
)
