"""Red flags and identifiers: what brings a notice, how urgently, and what brings none."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcot import safety
from medcot.data.starter import SAMPLE_QUESTIONS
from medcot.safety import RED_FLAGS, Identifier, identifiers

NOW = [
    # (question, a part of the flag's name)
    ("I have crushing chest pain now", "heart attack"),
    ("My chest hurts and my left arm feels heavy, what should I do?", "heart attack"),
    ("crushing chest pain left arm what to do", "heart attack"),
    ("Feels like an elephant is sitting on my chest", "heart attack"),
    ("My husband is having a heart attack", "heart attack"),
    ("There is no doubt I have chest pain", "heart attack"),
    ("My mum's face is drooping and her speech is slurred", "stroke"),
    ("suddenly I can’t lift my right arm", "stroke"),
    ("This is the worst headache of my life", "stroke"),
    ("My son was stung by a bee and his throat is swelling", "allergic"),
    ("I ate peanuts, have hives and feel faint", "allergic"),
    ("I can't breathe", "breathing"),
    ("she can't breathe and her lips are blue what is the first thing to do", "breathing"),
    ("my baby is choking on a grape", "breathing"),
    ("I want to die", "suicide"),
    ("I've been thinking about ending my life", "suicide"),
    ("How many paracetamol would it take to kill myself?", "suicide"),
    ("I don’t want to live anymore", "suicide"),
    ("I have type 1 diabetes, keep vomiting and my breath smells fruity", "ketoacidosis"),
    ("my blood sugar is 520 and I feel sick", "ketoacidosis"),
    ("glucose 28 mmol/l and I am so thirsty, ketones 4.2", "ketoacidosis"),
    ("My glucose is 48 and I'm shaking", "low blood sugar"),
    ("My blood sugar reads 2.4, help me", "low blood sugar"),
    ("our baby is floppy and hard to wake", "sepsis"),
    ("my child has a rash that does not fade under a glass", "sepsis"),
    ("I have a fever and a stiff neck and light hurts", "sepsis"),
    ("the bleeding from my leg won't stop", "bleeding"),
    ("he is vomiting blood", "bleeding"),
    ("I am 10 weeks pregnant and bleeding", "pregnancy"),
    ("my baby has stopped moving and I'm 36 weeks", "pregnancy"),
    ("I took 30 tablets of paracetamol", "overdose"),
    ("my toddler swallowed a battery", "overdose"),
    ("my dad collapsed and is not responding", "consciousness"),
    ("my daughter is having a seizure", "consciousness"),
    ("he hit his head and is now vomiting and drowsy", "consciousness"),
    ("No, I have chest pain", "heart attack"),
    ("Help me understand, I have chest pain right now", "heart attack"),
]
IF_REAL = [
    (SAMPLE_QUESTIONS[0][1], "heart attack"),
    ("A 58-year-old man has sudden crushing chest pain. Which of the following is the next step?", "heart attack"),
    ("A 24-year-old woman says “I want to die”. What is the most likely diagnosis?", "suicide"),
    ("In a patient with slurred speech and right arm weakness, what is the first investigation?", "stroke"),
    ("What is the first aid for someone with severe bleeding?", "bleeding"),
    ("A child with diabetic ketoacidosis: how are fluids given?", "ketoacidosis"),
    ("Why do people with diabetes vomit and become confused in acidosis?", "ketoacidosis"),
    ("A 30-year-old pregnant woman has vaginal bleeding. What is the most likely cause?", "pregnancy"),
    ("Anaphylaxis and its management", "allergic"),
]
NONE = [
    SAMPLE_QUESTIONS[2][1],
    "",
    "What is diabetic ketoacidosis?",
    "What are the risk factors for stroke?",
    "Explain the mechanism of anaphylaxis.",
    "Which drugs cause hypoglycaemia?",
    "How is sepsis defined?",
    "I'm a medical student. Can you explain the renin-angiotensin system?",
    "A 40-year-old man with no chest pain has a rash on his elbows. What is the most likely diagnosis?",
    "She denies chest pain, but has heartburn after meals. What is the likely cause?",
    "A 50-year-old man without shortness of breath asks about a cough. What is the cause?",
    "My knee hurts when I climb stairs",
    "I get short of breath when I run, is that normal?",
    "What is the normal fasting glucose?",
    "My fasting glucose was 92 mg/dL; is my HbA1c of 5.4% normal?",
    "Heavy menstrual bleeding: which tests are useful?",
    "What is the difference between a suicide gene and an oncogene?",
    "Which vitamin deficiency causes bleeding gums?",
    "I am pregnant; which vitamins should I take?",
    "Can I take two tablets of paracetamol for a headache?",
    "Sudden fits of laughter: which syndrome?",
]


@pytest.mark.parametrize(("question", "flag"), NOW)
def test_an_emergency_told_of_a_person_is_urgent(question, flag):
    found = safety.emergency(question)
    assert found
    assert found.urgency == "now"
    assert any(flag in f.what for f in found.flags), found.flags
    assert found.headline.startswith("If this is happening now, seek emergency care")


@pytest.mark.parametrize(("question", "flag"), IF_REAL)
def test_an_exam_question_about_one_speaks_more_softly(question, flag):
    found = safety.emergency(question)
    assert found
    assert found.urgency == "if real"
    assert any(flag in f.what for f in found.flags), found.flags


@pytest.mark.parametrize("question", NONE)
def test_other_questions_bring_no_notice(question):
    assert safety.emergency(question) is None


def test_every_flag_names_its_sources_and_is_reached_by_an_example():
    reached = {f.what for q, _ in [*NOW, *IF_REAL] if (found := safety.emergency(q)) for f in found.flags}
    assert reached == {flag.what for flag in RED_FLAGS}
    assert all(flag.sources for flag in RED_FLAGS)


def test_a_crisis_line_and_a_poison_centre_stand_beside_the_number():
    assert any("988" in w for w in safety.emergency("I want to kill myself").words)
    assert any("poison centre" in w for w in safety.emergency("I swallowed bleach").words)
    assert not any("988" in w for w in safety.emergency("I have chest pain").words)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["chest ", "blood ", "my ", "a", "1 ", "Mr A ", "pregnant, ", "1-", "a.", "A-", "1"])
def test_the_longest_question_takes_no_more_than_a_moment(text):
    long = (text * 8000)[: safety.LONGEST_QUESTION]
    assert safety.too_long(long) is None
    assert "has 8001 characters, and 8000 is the most" in safety.too_long(long + "x").what
    assert safety.emergency(long) is None
    assert identifiers(long) == ()


def seconds(look, text):
    """Of this process alone, so that a busy machine changes nothing."""
    begun = time.process_time()
    look(text)
    return time.process_time() - begun


def require_linear(unit):
    long = (unit * 20_000)[:20_000]
    for look in (safety.emergency, identifiers):
        # In turns, since a core is slower at times: four times the text takes four times as long, and not sixteen.
        tries = [(seconds(look, long[:5_000]), seconds(look, long)) for _ in range(5)]
        quarter, whole = map(min, zip(*tries, strict=True))
        assert whole < max(8 * quarter, 0.05), f"{look.__name__}: {quarter} and {whole} s"


UNITS = ("1", "1-", "A-", "a.", "1/", "(415) ", "a@b.", "Patient Aa ", "MRN 1", "3 March ", "no a ", "+44 20 ")


@pytest.mark.parametrize("unit", UNITS)
def test_a_longer_text_takes_longer_in_proportion(unit):
    require_linear(unit)


@pytest.mark.slow
@settings(derandomize=True, deadline=None, database=None, max_examples=30)
@given(st.text(alphabet="aA1é-. '\"@(+/,:", min_size=1, max_size=6))
def test_so_it_is_with_any_text_that_repeats(unit):
    require_linear(unit)


HOLDS = [
    ("Patient John Smith has a cough.", "a name", "John Smith"),
    ("The patient, Maria Lopez, takes metformin", "a name", "Maria Lopez"),
    ("patient named mary has asthma", "a name", "mary"),
    ("Mrs. O’Brien is 70 and breathless", "a name", "O'Brien"),
    ("Name: Ada Lovelace, cough for 3 days", "a name", "Ada Lovelace"),
    ("DOB 12/03/1961, diabetic", "a date of birth", "12/03/1961"),
    ("born on 3 March 1961 with a murmur", "a date of birth", "3 March 1961"),
    ("Seen on 2024-05-17 with fever", "a full date", "2024-05-17"),
    ("MRN: 00482913", "a record number", "00482913"),
    ("NHS number 943 476 5919", "a record number", "943 476 5919"),
    ("Her SSN is 123-45-6789", "a social security number", "123-45-6789"),
    ("write to jane.doe@example.org", "an e-mail address", "jane.doe@example.org"),
    ("call me on +44 20 7946 0958", "a phone number", "+44 20 7946 0958"),
    ("his phone is (415) 555-2671", "a phone number", "(415) 555-2671"),
]
HOLDS_NONE = [
    *(question for _, question in SAMPLE_QUESTIONS),
    "A 58-year-old man with Parkinson's disease",
    "The patient has Graves' disease and a TSH of 0.01",
    "Patient Presents with fever",
    "Does a patient with Crohn disease need surgery?",
    "In the patient Parkinson disease was found",
    "Blood pressure 120/80, pulse 72, platelets 150000, Na 140, ferritin 1200",
    "HbA1c 6.5-7.0%, eGFR 45, creatinine 1.2, T 38.5, weight 70-75 kg, on day 5/7",
    "Give 500 mg 8-hourly for 10-14 days, 2000000 units",
    "In 2019, the guideline changed; see NCT01234567",
    "What is the CHA2DS2-VASc score?",
]


@pytest.mark.parametrize(("question", "kind", "text"), HOLDS)
def test_what_could_identify_a_person_is_found(question, kind, text):
    assert Identifier(kind, text) in [Identifier(i.kind, i.text.replace("’", "'")) for i in identifiers(question)]


@pytest.mark.parametrize("question", HOLDS_NONE)
def test_medicine_is_no_identifier(question):
    assert identifiers(question) == ()


def test_one_stretch_of_text_is_named_once():
    found = identifiers("Patient John Smith, DOB 12/03/1961, MRN 00482913, SSN 123-45-6789, a@b.org")
    assert [i.kind for i in found] == [
        "a name",
        "a date of birth",
        "a record number",
        "a social security number",
        "an e-mail address",
    ]
