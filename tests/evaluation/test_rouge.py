"""ROUGE-L: on ASCII that of rouge_score itself, and in other languages by their own letters and words."""

import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from medcot.data.repeats import words
from medcot.evaluation.rouge import Variant, rouge_l, word_count

DIRECT = RougeScorer(["rougeL"], use_stemmer=True)
ALWAYS = {"derandomize": True, "deadline": None, "database": None}


def direct(prediction: str, reference: str) -> float:
    return DIRECT.score(reference, prediction)["rougeL"].fmeasure


ENGLISH = [
    ("Vitamin C prevents scurvy.", "Scurvy is prevented by vitamin C."),
    ("The patients were treated with antibiotics", "treating the patient with an antibiotic"),
    ("same words", "same words"),
    ("the doses of beta agonists", "doses: 5 mg of a beta_2 agonist, twice"),
    ("nothing", "shared here"),
]


@pytest.mark.parametrize(("prediction", "reference"), ENGLISH)
def test_rouge_l_is_that_of_rouge_score_with_stemmer(prediction, reference):
    assert rouge_l(prediction, reference) == pytest.approx(direct(prediction, reference), abs=1e-12)


def test_rouge_l_by_hand():
    # longest common subsequence "vitamin c": recall 2/4, precision 2/3
    assert rouge_l("vitamin c helps", "give vitamin c daily") == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    # the stemmer takes "patients" and "patient" for one word
    assert rouge_l("patients", "patient") == 1.0


def test_saying_nothing_scores_nothing():
    for silence in ("", " \n", "!?"):
        assert rouge_l(silence, "an answer") == 0.0
        assert rouge_l("an answer", silence) == 0.0
        assert rouge_l(silence, silence) == 0.0


def test_chinese_is_scored_by_character():
    assert rouge_l("缺铁性贫血", "缺铁性贫血") == 1.0
    # 贫血 of five and two characters: recall 2/5, precision 2/2
    assert rouge_l("贫血", "缺铁性贫血") == pytest.approx(2 * 1 * 0.4 / 1.4)
    # what the default tokenizer would call the same, because it sees "CT 2" alone
    assert direct("患者需要CT检查2次", "肿瘤在CT上有2厘米") == 1.0
    assert rouge_l("患者需要CT检查2次", "肿瘤在CT上有2厘米") < 0.5
    assert word_count("CT检查2次") == 5


def test_an_english_answer_to_a_chinese_reference_and_the_other_way_round_share_nothing():
    assert rouge_l("iron deficiency", "缺铁性贫血") == 0.0
    assert rouge_l("缺铁性贫血", "iron deficiency") == 0.0


def test_the_variants_are_those_of_rouge_score():
    prediction, reference = (
        "The patients cough loudly.\nFever is high today.",
        "Fever was high today.\nThe patient coughs loudly.",
    )
    scores = set()
    for name in ("rougeL", "rougeLsum"):
        for stemmer in (True, False):
            expected = RougeScorer([name], use_stemmer=stemmer).score(reference, prediction)[name].fmeasure
            scores.add(rouge_l(prediction, reference, Variant(name, stemmer)))
            assert rouge_l(prediction, reference, Variant(name, stemmer)) == pytest.approx(expected, abs=1e-12)
    assert len(scores) == 4, "no variant stands for another"


def test_text_in_other_scripts_is_scored_by_its_own_words():
    assert rouge_l("сердечная недостаточность", "сердечная недостаточность") == 1.0
    assert rouge_l("острый инфаркт", "сердечная недостаточность") == 0.0


# ---- the letters of all languages


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pâte", "pôte"),
        ("señal", "senal"),
        ("Öl", "Al"),
        ("żółć", "żółw"),
        ("тромб", "тропб"),
        ("हृदय की विफलता", "हृदय का विफलता"),
        ("التهاب", "التهاف"),
        ("심부전", "심부전증"),
        ("頭痛", "腹痛"),
        ("ปวดหัว", "ปวดท้อง"),
        ("καρδιά", "καρδία"),
    ],
)
def test_words_that_differ_in_a_letter_or_a_mark_are_not_the_same(one, other):
    assert rouge_l(one, one) == 1.0
    assert rouge_l(one, other) < 1.0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Sjögren's naïve café", ["sjögren", "s", "naïve", "café"]),
        ("심부전 환자는 숨이 찹니다.", ["심부전", "환자는", "숨이", "찹니다"]),
        ("患者CT检查2次。", ["患", "者", "ct", "检", "查", "2", "次"]),
        ("頭痛とめまい", list("頭痛とめまい")),
        ("インスリンとコーヒー", list("インスリンとコーヒー")),
        ("หัวใจ", ["หั", "ว", "ใ", "จ"]),
        ("हृदय की", ["हृदय", "की"]),
        ("ΑΓΓΕΙΟΣ αγγειος", ["αγγειοσ", "αγγειοσ"]),
        ("ＣＴ ２ ㎎", ["ct", "2", "mg"]),
        ("5 µg/m², CO₂", ["5", "μg", "m2", "co2"]),
        ("Straße", ["strasse"]),
        ("a_b", ["a", "b"]),
        ("\u200b – … 🙂", []),
    ],
)
def test_words_of_a_text(text, found):
    assert words(text) == found


def test_one_letter_written_in_two_ways_is_one():
    for text in ("pâte brisée", "가나다", "Sjögren"):
        spellings = {form: unicodedata.normalize(form, text) for form in ("NFC", "NFD")}
        assert spellings["NFC"] != spellings["NFD"]
        assert words(spellings["NFC"]) == words(spellings["NFD"])


def test_a_long_chinese_text_is_scored_as_a_table_would():
    draw = random.Random(5)
    one, other = ("".join(draw.choices("心脏病人需要检查血压", k=length)) for length in (130, 90))
    expected = RougeScorer(["rougeL"], tokenizer=Variant()).score(other, one)["rougeL"].fmeasure
    assert rouge_l(one, other) == pytest.approx(expected, abs=1e-12)


ASCII = st.text(st.characters(max_codepoint=127), max_size=80) | st.lists(
    st.sampled_from(["patients", "patient", "treated", "treat", "the", "of", "5 mg", "running", "\n", "-", "_"])
).map(" ".join)
VARIANTS = st.builds(Variant, st.sampled_from(["rougeL", "rougeLsum"]), st.booleans())


def require_rouge_scores_own(prediction, reference, variant):
    expected = RougeScorer([variant.rouge], use_stemmer=variant.stemmer).score(reference, prediction)
    assert rouge_l(prediction, reference, variant) == pytest.approx(expected[variant.rouge].fmeasure, abs=1e-12)


def require_a_score(prediction, reference, variant):
    assert 0.0 <= rouge_l(prediction, reference, variant) <= 1.0
    assert rouge_l(reference, reference, variant) == (1.0 if words(reference) else 0.0)


test_ascii_of_any_kind = settings(max_examples=200, **ALWAYS)(given(ASCII, ASCII, VARIANTS)(require_rouge_scores_own))
test_text_of_any_kind = settings(max_examples=200, **ALWAYS)(given(st.text(), st.text(), VARIANTS)(require_a_score))
test_much_ascii = pytest.mark.thorough(
    settings(max_examples=10_000, **ALWAYS)(given(ASCII, ASCII, VARIANTS)(require_rouge_scores_own))
)
test_much_text = pytest.mark.thorough(
    settings(max_examples=10_000, **ALWAYS)(given(st.text(), st.text(), VARIANTS)(require_a_score))
)
