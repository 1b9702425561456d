"""Red flags: the signs by which people describe an emergency in English, as lower-case patterns, with their sources.

The patterns paraphrase the public warning signs that each flag names. They are no triage: what they do not know, they
miss. `medcot.safety` reads them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RedFlag:
    """`told` are signs as people describe them; `named` is the emergency by its name. Patterns are over lower case."""

    what: str
    told: tuple[str, ...]
    named: tuple[str, ...]
    sources: tuple[str, ...]
    also: str = ""  # where to turn, beside the emergency number


_ = r"[^.?!;]"  # a gap stays within its sentence
_BODY = r"(?:arm|leg|hand|foot|side|half)"
_FEMALE_BLEED = r"(?!\s+(?:menstrual|period))"
_PILLS = (
    r"(?:pills?|tablets?|capsules?|doses?|paracetamol|acetaminophen|tylenol|ibuprofen|aspirin|insulin|opioids?|meds)"
)

RED_FLAGS = (
    RedFlag(
        "a possible heart attack",
        (
            rf"\b(?:chest|breastbone|sternum)\b{_}{{0,30}}\b(?:pain|pressure|tight|crush|squeez|heav|ach|hurt|discomfort|burn)",
            rf"\b(?:pain|pressure|tightness|heaviness|discomfort|squeezing|elephant){_}{{0,30}}\b(?:chest|breastbone|sternum)\b",
            r"\b(?:retro|sub)sternal (?:chest )?pain",
            r"\b(?:pulseless|no pulse)\b",
        ),
        (r"\bheart attacks?\b", r"\bmyocardial infarction\b", r"\b(?:n?stemi|acs)\b", r"\bcardiac arrest\b"),
        (
            "American Heart Association, Warning Signs of a Heart Attack",
            "NHS, Heart attack",
        ),
    ),
    RedFlag(
        "a possible stroke",
        (
            rf"\b(?:face|mouth|smile|eyelid)\b{_}{{0,20}}\b(?:droop|numb|crooked|lopsided|one side)",
            r"\bdroop\w* (?:of )?(?:the |my |his |her )?(?:face|mouth|smile)\b|\bfacial (?:droop|weakness|palsy)",
            r"\bslurr(?:ed|ing|s)\b|\bslurred speech\b",
            r"\b(?:can'?t|cannot|unable to|trouble|difficulty|struggl\w+ to|suddenly) (?:speak|talk)(?:ing)?\b",
            rf"\b{_BODY}\b{_}{{0,15}}\b(?:weak|numb|limp|paraly[sz]ed)",
            rf"\b(?:weakness|numbness|paralysis)\b{_}{{0,25}}\b{_BODY}\b",
            rf"\b(?:can'?t|cannot|unable to) (?:lift|move|raise|feel)\b{_}{{0,20}}\b{_BODY}\b",
            r"\bsudden(?:ly)? (?:\w+ ){0,3}(?:confus|blind|loss of vision|vision loss|lost vision)",
            r"\bthunderclap\b|\bworst headache\b",
            r"\bhemi(?:paresis|plegia)\b",
        ),
        (r"\b(?:having|had|has|a) (?:a )?stroke\b",),
        ("American Stroke Association, Stroke Symptoms (F.A.S.T.)", "NHS, Stroke"),
    ),
    RedFlag(
        "a possible severe allergic reaction",
        (
            rf"\b(?:throat|tongue|lips?|face)\b{_}{{0,20}}\b(?:swell|swollen|clos(?:ing|ed)|tighten)",
            r"\bswe?ll(?:ing|ed|en) (?:of |in )?(?:the |my |his |her |their )?(?:throat|tongue|lips?|face)\b|"
            r"\bswollen (?:throat|tongue|lips?|face)\b",
            rf"\b(?:hives|urticaria|allerg\w+|stung|sting|peanuts?)\b{_}{{0,80}}\b(?:breath|wheez|faint|collaps|throat|swell)",
            rf"\b(?:wheez|faint|breath|collaps)\w*{_}{{0,80}}\b(?:hives|urticaria|allergic reaction|stung|sting|peanuts?)\b",
        ),
        (r"\banaphyla\w+",),
        ("NHS, Anaphylaxis", "World Allergy Organization, Anaphylaxis Guidance 2020"),
    ),
    RedFlag(
        "trouble breathing",
        (
            rf"\b(?:can'?t|can not|cannot|couldn'?t|unable to|struggl\w+ to|hard to|fight\w* to)\b{_}{{0,12}}\bbreath",
            r"\b(?:trouble|difficulty|struggling|problems?) (?:in |with )?breathing\b",
            r"\b(?:stopped|not|isn'?t|barely|no longer) breathing\b|\bgasping\b",
            rf"\b(?:sudden|severe|extreme|acute)(?:ly)?\b{_}{{0,15}}\b(?:breathless|short(?:ness)? of breath|dyspno?ea)",
            r"\b(?:breathless|short of breath)\b.{0,15}\b(?:at rest|now|to speak|to talk)",
            r"\b(?:is|am|are|'m|'s|started|she|he) choking\b|\bchok(?:ed|ing) on\b",
            rf"\b(?:lips?|face|fingertips|skin|baby|child)\b{_}{{0,20}}\b(?:blue|bluish|gr[ea]y)\b|\bturn\w* blue\b",
        ),
        (r"\brespiratory (?:arrest|failure)\b", r"\bpulmonary embol\w+", r"\bstatus asthmaticus\b"),
        ("NHS, Shortness of breath", "American Red Cross, First Aid: Breathing Emergencies"),
    ),
    RedFlag(
        "thoughts of suicide or self-harm",
        (
            r"\b(?:kill(?:ing)?|hang(?:ing)?|hurt(?:ing)?|harm(?:ing)?|cut(?:ting)?) (?:my|him|her|them|your)sel(?:f|ves)\b",
            r"\bend(?:ing)? (?:my|his|her|their|it) (?:own )?(?:life|lives|all)\b|\btak\w+ (?:my|his|her|their) own li(?:fe|ves)\b",
            r"\b(?:want\w*|wish\w*|going|ready|plan\w*) (?:to die|to be dead|(?:i|he|she|they) (?:was|were) dead)\b|\bbetter off dead\b",
            r"\b(?:don'?t|do not|doesn'?t) want to (?:live|be alive|be here|wake up|go on)\b|\bno reason to live\b",
            rf"\bhow (?:many|much)\b{_}{{0,60}}\b(?:kill|lethal|fatal|to die|overdose)\b|\blethal dose\b",
        ),
        (r"\bsuicid\w+", r"\bself[- ]harm\w*"),
        ("World Health Organization, Suicide (fact sheet)", "988 Suicide & Crisis Lifeline, Warning signs", "NHS"),
        "A crisis line answers day and night: 988 in the USA and Canada, 116 123 in the UK and Ireland, "
        "findahelpline.com elsewhere.",
    ),
    RedFlag(
        "possible diabetic ketoacidosis or very high blood sugar",
        (
            rf"\b(?:fruity|acetone|pear[- ]drops?|nail[- ](?:polish|varnish))\b{_}{{0,30}}\b(?:breath|smell)|"
            rf"\bbreath\b{_}{{0,25}}\b(?:fruit|acetone|pear|nail)",
            rf"\bketones?\b{_}{{0,20}}\b(?:high|large|positive|moderate|[3-9](?:\.\d)?)\b|\b(?:high|large|positive) ketones?\b",
            rf"\b(?:diabet\w+|insulin|blood sugar|glucose)\b{_}{{0,90}}\b(?:vomit|throwing up|confus|drows|breathing (?:fast|deep|hard))",
            rf"\b(?:vomit\w*|confus\w*|drows\w*)\b{_}{{0,90}}\b(?:diabet\w+|insulin|blood sugar)\b",
            rf"\b(?:sugars?|glucose)\b{_}{{0,25}}?\b(?:[3-9]\d\d|1\d{{3}})\b|\b(?:sugars?|glucose)\b{_}{{0,25}}?\b(?:2\d|3\d)(?:\.\d)? ?mmol",
        ),
        (r"\bketoacidosis\b", r"\bdka\b", r"\bhyperosmolar\b"),
        ("NHS, Diabetic ketoacidosis", "American Diabetes Association, Standards of Care in Diabetes"),
    ),
    RedFlag(
        "possible very low blood sugar",
        (
            rf"\b(?:sugars?|glucose)\b{_}{{0,25}}?\b(?:[1-5]\d(?![\d.])(?! ?mmol)|[0-3]\.\d)",
            rf"\binsulin\b{_}{{0,80}}\b(?:shak|sweat|trembl|unconscious|pass(?:ed|ing) out|unresponsive)",
            r"\bvery low (?:blood )?(?:sugar|glucose)\b",
        ),
        (r"\bhypoglyc\w+", r"\b(?:having|had|a) (?:a )?hypo\b"),
        (
            "NHS, Low blood sugar (hypoglycaemia)",
            "American Diabetes Association, Standards of Care in Diabetes",
        ),
    ),
    RedFlag(
        "possible sepsis or meningitis",
        (
            rf"\b(?:rash|spots|bruis\w+)\b{_}{{0,40}}\b(?:not|n'?t|never|won'?t) (?:fade|fading|blanch|disappear)|\bnon-?blanching\b",
            rf"\bstiff neck\b{_}{{0,80}}\b(?:fever|headache|light|vomit)|\b(?:fever|headache)\b{_}{{0,80}}\bstiff neck\b",
            rf"\b(?:fever\w*|infect\w+|temperature)\b{_}{{0,60}}\b(?:confus|drows|slurr|mottled|delirious|breathing fast|rigors)",
            r"\bmottled\b",
            rf"\b(?:baby|infant|child|newborn|toddler)\b{_}{{0,40}}\b(?:floppy|limp|unresponsive|won'?t wake|(?:hard|difficult) to wake)",
            r"\bfloppy (?:baby|infant|child|newborn|toddler)\b",
        ),
        (r"\bseps(?:is|es)\b", r"\bseptic (?:shock)?", r"\bmeningitis\b"),
        ("NHS, Sepsis", "UK Sepsis Trust, Spotting the signs", "NHS, Meningitis"),
    ),
    RedFlag(
        "severe bleeding",
        (
            rf"\b(?:bleed\w*|blood)\b{_}{{0,25}}\b(?:won'?t|not|n'?t|cannot|can'?t|keeps?) (?:be )?(?:stop|control|clot|com|pour|gush)",
            rf"\b(?:heavy|severe|uncontroll\w+|profuse|massive|spurting|gushing|pouring|lots of){_FEMALE_BLEED}\b{_}{{0,12}}\b(?:bleed|blood|ha?emorrhag)",
            r"\b(?:bleed\w*|blood)\b (?:\w+ ){0,3}(?:heavily|profusely|spurting|gushing|pouring|everywhere)\b",
            r"\b(?:vomit\w*|throw\w* up|cough\w*(?: up)?|spitting up)\b (?:\w+ ){0,3}blood\b|\bcoffee[- ]grounds?\b",
            r"\bblack,? tarry\b|\bha?ematemesis\b|\bha?emoptysis\b|\bmela?ena\b",
            r"\b(?:stabbed|gunshot|been shot|severed|amputated)\b",
        ),
        (r"\b(?:ha?emorrhagic|hypovola?emic) shock\b",),
        ("American Red Cross, Life-Threatening External Bleeding", "NHS, First aid: heavy bleeding"),
    ),
    RedFlag(
        "a possible emergency in pregnancy",
        (
            rf"\bpregnan\w+\b{_}{{0,90}}\b(?:bleed|blood|spotting|severe (?:abdominal|stomach|tummy|belly|pelvic) pain|severe headache|"
            r"shoulder[- ]tip|waters? br|seiz|fit\b|convuls|faint|not mov|stopped mov|moving less|blurred vision)",
            rf"\b(?:bleeding|blood|severe headache|seizure|faint\w*)\b{_}{{0,90}}\b(?:pregnan\w+|weeks? gestation|trimester)\b",
            rf"\b(?:baby|fetus|foetus)\b{_}{{0,25}}\b(?:stopped moving|not moving|n'?t mov\w+|moving less|no movements?)\b",
            r"\bpost-?partum (?:bleeding|ha?emorrhage)\b",
        ),
        (r"\bectopic pregnancy\b", r"\b(?:pre-?)?eclampsia\b", r"\bplacental abruption\b"),
        (
            "NHS, Vaginal bleeding in pregnancy",
            "NHS, Ectopic pregnancy",
            "CDC, Hear Her: Urgent Maternal Warning Signs",
        ),
    ),
    RedFlag(
        "a possible overdose or poisoning",
        (
            rf"\b(?:took|taken|tak(?:e|ing)|swallow\w*|ingest\w*|ate|eaten|gave|injected)\b{_}{{0,40}}"
            rf"\b(?:too (?:many|much)|whole (?:bottle|pack|box)|(?:[2-9]\d|\d{{3}}) (?:\w+ )?(?={_PILLS}))",
            rf"\b(?:swallow\w*|drank|drunk|ingest\w*|ate|eaten|drinking)\b{_}{{0,30}}"
            r"\b(?:bleach|antifreeze|batter(?:y|ies)|poison|pesticide|magnets?|cleaner|detergent|weed ?killer|methanol)\b",
            rf"\b(?:snake|viper|cobra|scorpion)\b{_}{{0,10}}\b(?:bit|bite|bitten|sting|stung)\b",
            rf"\b(?:carbon monoxide|gas leak)\b{_}{{0,60}}\b(?:alarm|headache|dizz|faint|unconscious|nausea)",
        ),
        (r"\boverdos\w+", r"\bpoison(?:ed|ing)\b"),
        ("World Health Organization, Poison control", "NHS, Poisoning", "CDC, Drug overdose"),
        "A poison centre helps by phone: 1-800-222-1222 in the USA; who.int lists those of other countries.",
    ),
    RedFlag(
        "loss of consciousness or a seizure",
        (
            r"\b(?:unconscious|unresponsive|not respond\w*|pass(?:ed|ing) out|black(?:ed|ing) out|collaps(?:ed|ing))\b",
            r"\b(?:won'?t|can'?t|cannot|does ?n'?t|not) wake\b|\bcan'?t be woken\b",
            rf"\b(?:seizures?|convuls\w+|fitting|fits?)\b{_}{{0,30}}\b(?:now|won'?t stop|not stop\w*|still|minutes?|another|again|first)\b",
            r"\b(?:having|has|had) (?:a |another |his |her |my )?(?:first )?(?:seizure|fit|convulsion)\b|\bis (?:fitting|seizing|convulsing)\b",
            rf"\bhead\b{_}{{0,60}}\b(?:injur\w+|hit|bang\w*|blow|knock\w*)\b{_}{{0,60}}\b(?:vomit|confus|drows|sleepy|seiz)|"
            rf"\b(?:hit|bang\w*|knock\w*|injur\w+)\b{_}{{0,20}}\bhead\b{_}{{0,60}}\b(?:vomit|confus|drows|sleepy|seiz)",
            r"\b(?:electrocuted|drown(?:ed|ing))\b",
        ),
        (r"\bstatus epilepticus\b",),
        (
            "NHS, What to do if someone has a seizure",
            "NHS, Head injury and concussion",
            "American Red Cross, First Aid",
        ),
    ),
)
