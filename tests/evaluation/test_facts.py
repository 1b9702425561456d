"""Which facts a text names: by words, forms and negation; never an error, and a question states nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcot.data.facts import Facts, Statement, starter_facts
from medcot.evaluation import metrics
from medcot.evaluation.facts import Found, find


def states(text: str, *accept: str) -> bool:
    """Whether a text states what has these wordings; a forbidden statement is found as a fact is."""
    statement = (Statement("it", accept),)
    found = find(text, Facts(statement, statement))
    assert (found.named, found.missed) == ((["it"], []) if found.forbidden else ([], ["it"]))
    return bool(found.named)


NAMED = {
    "as it is": ("This is carbon monoxide poisoning.", "carbon monoxide"),
    "in capitals": ("CARBON MONOXIDE", "carbon monoxide"),
    "another form": ("Surgeons debrided it; antibodies were found.", "antibody found"),
    "another order": ("The count of neutrophils is above 250.", "neutrophil count 250"),
    "words between": ("The methadone must now be stopped.", "stop methadone"),
    "a hyphen less": ("co oximetry", "co-oximetry"),
    "a hyphen more": ("the C-peptide is low", "low C-peptide"),
    "an index": ("CO₂ is high", "CO2 high"),
    "the second wording": ("acetylsalicylic acid", "aspirin|x", "acetylsalicylic acid"),
    "in a list": ("1. ECG\n2. Aspirin\n3. Oxygen", "aspirin"),
    "after a question": ("What is it? It is gout.", "gout"),
    "Chinese": ("这是一氧化碳中毒。", "一氧化碳"),
    "Chinese in two parts": ("一氧化碳引起中毒", "一氧化碳 中毒"),
    "accents": ("C'est une pneumonie aiguë.", "pneumonie aiguë"),
    "markup": ("**Aspirin** is given.", "aspirin"),
}


@pytest.mark.parametrize("what", NAMED)
def test_a_fact_is_named_by_its_words_in_any_form_and_order(what):
    assert states(*NAMED[what])


NOT_NAMED = {
    "nothing": ("", "aspirin"),
    "another word that begins alike": ("an aspiration", "aspirin"),
    "one word of two": ("carbon dioxide", "carbon monoxide"),
    "over two sentences": ("It is carbon. Monoxide is another thing.", "carbon monoxide"),
    "over two clauses": ("The test is most specific, the factor is less so", "factor most specific"),
    "far apart": ("Stop at the first house on the long road to the methadone clinic", "stop methadone"),
    "a question": ("Is it carbon monoxide?", "carbon monoxide"),
    "a Chinese question": ("是一氧化碳中毒吗？", "一氧化碳"),
    "Chinese in another order": ("碳化氧一", "一氧化碳"),
}


@pytest.mark.parametrize("what", NOT_NAMED)
def test_a_fact_is_not_named_by_less(what):
    assert not states(*NOT_NAMED[what])


NEGATED = {
    "not": ("It is not carbon monoxide poisoning.", "carbon monoxide"),
    "no": ("There is no evidence of carbon monoxide.", "carbon monoxide"),
    "a contraction": ("It isn't gout.", "gout"),
    "a curly contraction": ("It isn’t gout.", "gout"),
    "cannot": ("It cannot be gout.", "gout"),
    "neither and nor": ("Neither gout nor sepsis is present.", "gout"),
    "nor": ("Neither gout nor sepsis is present.", "sepsis"),
    "rather than": ("Give heparin rather than aspirin.", "aspirin"),
    "instead of": ("Give heparin instead of aspirin.", "aspirin"),
    "behind it": ("Gout is unlikely.", "gout"),
    "avoided behind it": ("Amiodarone should be avoided.", "amiodarone"),
    "ruled out": ("Gout was ruled out.", "gout"),
    "within it": ("Diabetic nephropathy is not the likely cause.", "nephropathy likely cause"),
    "a list with or": ("There is no fever, cough, or chest pain.", "chest pain"),
    "without": ("Treat without antibiotics.", "antibiotics"),
    "absent": ("Retinopathy is absent.", "retinopathy"),
    "Chinese": ("这不是痛风。", "痛风"),
    "a wording that is negated itself": ("Treatment should wait.", "not wait"),
}


@pytest.mark.parametrize("what", NEGATED)
def test_what_is_denied_is_not_stated(what):
    assert not states(*NEGATED[what])


AFFIRMED = {
    "No, and then": ("No, treatment with doxycycline or amoxicillin is given.", "doxycycline"),
    "not that, but this": ("It is not gout, but sepsis.", "sepsis"),
    "not that, it is this": ("It is not gout, it is sepsis.", "sepsis"),
    "not only": ("Not only gout is likely.", "gout"),
    "twice": ("Gout cannot be ruled out.", "gout"),
    "far behind a negation": ("Do not go back into the old family house: carbon monoxide", "carbon monoxide"),
    "another sentence": ("It is not gout. Sepsis is likely.", "sepsis"),
    "a negation in the wording": ("Treatment should not wait.", "not wait"),
    "a negation in the wording, in other words": ("Treat without waiting for results.", "not wait", "without wait"),
    "a negated verb in the wording": ("Such drugs must be avoided.", "drugs avoided"),
    "not at the end of another clause": ("Although it does not hurt, gout is likely", "gout"),
    "rather than another": ("Give heparin rather than aspirin.", "heparin"),
}


@pytest.mark.parametrize("what", AFFIRMED)
def test_what_is_denied_is_only_what_stands_under_the_negation(what):
    assert states(*AFFIRMED[what])


def test_figures_are_of_the_records_that_list_such():
    facts = Facts((Statement("gout", ("gout",)), Statement("urate", ("urate",))), ())
    forbids = Facts((), (Statement("sepsis", ("sepsis",)),))
    scores = [metrics.score(text, "r", "a", facts=f) for text, f in [("gout", facts), ("sepsis", forbids), ("x", None)]]
    summary = metrics.summarise(scores)
    assert (summary["facts_named"], summary["forbidden_stated"], summary["records"]) == (0.5, 1.0, 3)
    assert "facts_named" not in metrics.summarise(scores[2:])
    assert scores[2].facts is None


def test_only_the_answer_is_read_and_reasoning_is_not():
    facts = Facts((Statement("gout", ("gout",)),), ())
    output = "<think>It is gout.</think><response>It is sepsis.</response>"
    assert metrics.score(output, "r", "a", facts=facts).facts == Found(named=[], missed=["gout"], forbidden=None)


def test_what_was_found_is_told_in_words():
    found = Found(named=["gout"], missed=["urate"], forbidden=["sepsis"])
    assert str(found) == "Facts named, 1 of 2: gout. Missed: urate. States what it must not: sepsis."
    assert str(Found(named=[], missed=["urate"], forbidden=[])) == "Missed: urate."


LISTED = list(starter_facts().values())
WORDS = sorted(
    {word for facts in LISTED for s in (*facts.named, *facts.forbidden) for w in s.accept for word in w.split()}
)
TEXTS = st.lists(
    st.sampled_from([*WORDS, "not", "No,", "is", ".", ",", "?", "nor", "rather than", "\n", "不", "…"])
).map(" ".join)


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(st.one_of(st.text(), TEXTS), st.sampled_from(LISTED))
def test_any_text_is_read_and_each_fact_is_either_named_or_missed(text, facts):
    found = find(text, facts)
    assert sorted(found.named + found.missed) == sorted(s.name for s in facts.named)
    more = find(f"{text}\n\nNothing else.", facts)
    assert more == found, "a sentence on something else changes nothing"
