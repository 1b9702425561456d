"""What a question says before any model answers it: red flags of an emergency, and what could identify a person.

Both are fixed patterns over English text: no model, no network, the same result every time. They err towards showing.
A description of symptoms always brings a notice; only how urgently it speaks depends on whether somebody seems to ask
for a person at hand or as an exam question does. A disease that is merely named in a textbook question brings none.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Literal

from medcot.red_flags import RED_FLAGS, RedFlag

Urgency = Literal["now", "if real"]
EMERGENCY_NUMBERS = "112, 911 or 999"


@dataclass(frozen=True, slots=True)
class Emergency:
    """What a question brings above both panels. `now`: it seems to be told of a person at hand."""

    urgency: Urgency
    flags: tuple[RedFlag, ...]

    @property
    def headline(self) -> str:
        if self.urgency == "now":
            return f"If this is happening now, seek emergency care: call {EMERGENCY_NUMBERS}."
        return f"If this is about a real person, now: call {EMERGENCY_NUMBERS}."

    @property
    def words(self) -> tuple[str, ...]:
        """What stands under the headline."""
        named = ", ".join(flag.what for flag in self.flags)
        return (
            f"The question speaks of signs of {named}. Do not wait for the answers below, and do not act on them: "
            "they are a language model's, and nobody has checked them.",
            *dict.fromkeys(flag.also for flag in self.flags if flag.also),
        )

    @property
    def sources(self) -> str:
        """Whose warning signs these are, in a sentence."""
        return f"After {'; '.join(dict.fromkeys(source for flag in self.flags for source in flag.sources))}."


# Said of oneself or of somebody near; asked as one asks for help.
_AT_HAND = re.compile(
    r"\b(?:i|i'm|i've|i'd|me|my|myself|we|our|us)\b|\bright now\b|\bplease help\b|\bhelp!|\bambulance\b.{0,20}\?"
    r"|\bcall (?:911|999|112)\b"
)
# First persons who ask to be taught, and what a person in a case says.
_TAUGHT = re.compile(
    r"\b(?:tell|teach|show|give|remind|explain to|help) (?:me|us)\b|\bi(?:'m| am) an? [\w ]{0,25}(?:student|nurse|doctor|resident|"
    r"physician|teacher|paramedic)\b|\bmy (?:exams?|notes?|textbook|lectures?|students?|class|course)\b|"
    r"\b(?:can|could|should|would|do|how do|how would|how can) (?:i|we) (?:diagnose|differentiate|distinguish|interpret|explain|remember|manage)\b|"
    r"[\"“][^\"”]{0,300}[\"”]"
)
_CASE = re.compile(
    r"\b(?:\w+|\d{1,3})[- ](?:year|month|week|day)s?[- ]old\b|"
    r"\b(?:an?|the|this|which|in) (?:\w+[- ]){0,3}(?:man|woman|boy|girl|patients?|child|infant|neonate|newborn|male|female|adult|person)\b|"
    r"\b(?:patients?|someone|somebody|people)\b"
)
_EXAM = re.compile(
    r"\b(?:which|what|how|why)\b.{0,60}\b(?:diagnos|likely|cause|test|investigat|manage|treat|first[- ]line|step|mechanism|drug|"
    r"finding|follow|differ|confirm|explain|should be|would|is|are)|\bmost likely\b|\bof the following\b|\bdifferential\b"
)
_TEXTBOOK = re.compile(
    r"^\W*(?:what (?:is|are|was|does|do|causes?)|which|how (?:is|are|does|do|should|can)|why|when (?:is|are|should)|explain|describe|"
    r"define|compare|list|name|discuss|outline|summari[sz]e|state|tell|teach|differen)"
)
_THIRD = re.compile(r"\b(?:he|she|they)(?:'s|'re| is| are| has| have| can'?t| cannot| won'?t| took| just| isn'?t)\b")
# "denies chest pain", "no fever or chest pain", "without any chest pain"; never "no, I have chest pain".
_DENIED = re.compile(
    r"\b(?:no|denie[sd]|denying|without|negative for|absence of|never had|ruled out|rather than)"
    r"(?: (?!i\b|have\b|has\b|is\b|doubt\b|but\b|longer\b|one\b|idea\b|help\b)\w+){0,3} ?$"
)


def emergency(question: str) -> Emergency | None:
    """The notice that this question brings, or None."""
    text = _normal(question)
    told = [flag for flag in RED_FLAGS if _found(flag.told, text)]
    named = [flag for flag in RED_FLAGS if _found(flag.named, text)]
    flags = tuple(flag for flag in RED_FLAGS if flag in told or flag in named)
    if not flags:
        return None
    if _AT_HAND.search(_TAUGHT.sub(" ", text)):
        return Emergency("now", flags)
    case, textbook = bool(_CASE.search(text)), bool(_TEXTBOOK.search(text))
    if told:
        asked = (case and _EXAM.search(text)) or (textbook and not _THIRD.search(text))
        return Emergency("if real" if asked else "now", flags)
    return None if textbook and not case else Emergency("if real", flags)


def told(question: str) -> list[str]:
    """The notice in lines, its headline first; none where the question brings none."""
    found = emergency(question)
    return [found.headline, *found.words, found.sources] if found else []


def _normal(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").lower()
    return re.sub(r"\s+", " ", plain)


def _found(patterns: tuple[str, ...], text: str) -> bool:
    return any(not _DENIED.search(text[: match.start()]) for p in patterns for match in _compiled(p).finditer(text))


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


# ---- identifiers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identifier:
    """Something in a question that could tell who a person is."""

    kind: str
    text: str


_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec)[a-z]*\.?"
_DATE = (
    r"(?:\d{1,2}[./-]\d{1,2}[./-](?:19|20)?\d{2}|(?:19|20)\d{2}[./-]\d{1,2}[./-]\d{1,2}|"
    rf"\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH},? (?:19|20)\d{{2}}|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)\d{{2}})"
)
_WORD = r"[A-Z][A-Za-z'’-]*[a-z]\b"
_NAME = rf"{_WORD}(?:\s+[A-Z]\.?(?=\s))?(?:\s+{_WORD})?"
_EPONYM = r"(?!['’]?s?\s+(?:disease|syndrome|sign|test|score|criteria|palsy|phenomenon|thyroiditis|tumou?r|cell|fever))"
_NOT_A_NAME = (
    r"(?!(?:With|Has|Had|Have|Is|Was|Were|Who|Presents?|Presented|Reports?|Reported|Denies|Complains?|The|A|An|In|On|Of|And|Or|"
    r"Should|Can|Could|May|Will|Not|Does|Did|Type|History|Case|Information|Safety|Care|Education)\b)"
)
_IDENTIFIERS = (
    ("a name", rf"\b[Pp]atient(?:'s name)?(?: is| was| named| called|:|,)?\s+{_NOT_A_NAME}(?P<it>{_NAME}){_EPONYM}"),
    (
        "a name",
        r"\b(?i:patient (?:named|called)|name(?:d)?(?: is)?:|my name is)\s+(?P<it>[A-Za-z'’-]+(?: [A-Z][a-z'’-]+)?)",
    ),
    ("a name", rf"\b(?:Mr|Mrs|Ms|Miss|Mx)\.?\s+(?P<it>{_NAME}){_EPONYM}"),
    (
        "a date of birth",
        rf"\b(?i:dob|d\.o\.b\.?|date of birth|born(?: on)?|birthday)\b[\s:]*(?:is |was )?(?P<it>{_DATE})",
    ),
    ("a full date", rf"\b(?P<it>{_DATE})\b"),
    (
        "a record number",
        r"\b(?i:mrn|medical record(?: (?:no|number))?|(?:hospital|patient|record|chart|case|nhs|insurance|member|policy|health card)"
        r" ?(?:no|number|nr|id|#))\b\.?[\s:#]*(?:is )?(?P<it>[A-Z]{0,3}[\d-]*\d[\d -]{3,}\d)",
    ),
    ("a social security number", r"\b(?P<it>(?!000|666|9\d\d)\d{3}-\d{2}-\d{4})\b"),
    ("an e-mail address", r"(?P<it>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"),
)


def identifiers(question: str) -> tuple[Identifier, ...]:
    """What in the question could identify a person, each once, in the order of the text.

    Patterns of this project for names, dates and numbers: recognisers of names in running text need a language model
    of hundreds of MB. Phone numbers are libphonenumber's (the package phonenumbers), read as international, US or UK.
    """
    text = unicodedata.normalize("NFKC", question)
    found: list[tuple[int, int, Identifier]] = []
    for kind, pattern in _IDENTIFIERS:
        for match in _compiled(pattern).finditer(text):
            _add(found, *match.span("it"), kind, match["it"])
    for start, end, raw in _phones(text):
        _add(found, start, end, "a phone number", raw)
    return tuple(dict.fromkeys(identifier for _start, _end, identifier in sorted(found, key=lambda f: f[0])))


def _add(found: list[tuple[int, int, Identifier]], start: int, end: int, kind: str, text: str) -> None:
    """The first reading of a stretch of text is kept: a date of birth is not also a date."""
    if all(end <= other_start or start >= other_end for other_start, other_end, _identifier in found):
        found.append((start, end, Identifier(kind, text.strip())))


def _phones(text: str) -> list[tuple[int, int, str]]:
    if sum(character.isdigit() for character in text) < 7:
        return []
    from phonenumbers import Leniency, PhoneNumberMatcher

    matches = [m for region in ("US", "GB") for m in PhoneNumberMatcher(text, region, leniency=Leniency.VALID)]
    return [(m.start, m.end, m.raw_string) for m in matches]
