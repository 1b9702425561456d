"""Which questions repeat others: reworded, shuffled, in capitals, held within another; and which do not."""

import random

import pytest

from medcot.data.repeats import repeats

ASKED = (
    "A 45-year-old man with a long history of alcohol use comes to the clinic with confusion, a broad gait and eye "
    "movements that are not conjugate; which vitamin should be given before any glucose is infused?"
)
OPTIONS = ["Thiamine by vein", "Cobalamin by mouth", "Ascorbic acid", "Folic acid"]
UNLIKE = "A 45-year-old man comes to the clinic with a painful swollen great toe; which crystal is found in the joint?"


def lettered(options: list[str]) -> str:
    return "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", options, strict=True))


@pytest.mark.parametrize(
    ("training", "exact"),
    [
        (ASKED, True),
        (ASKED.upper(), True),
        (ASKED.replace(",", " -").replace("?", "??"), True),
        (ASKED.replace("confusion", "delirium").replace("infused", "given"), False),
        (f"Answer the following question with a letter.\n{ASKED}\n{lettered(OPTIONS)}", True),
        (f"Answer: {ASKED.replace('broad', 'wide')}\n{lettered(OPTIONS)}", False),
        (UNLIKE.replace("toe", "thumb"), None),
        ("", None),
        ("?!", None),
    ],
)
def test_a_training_question_is_found_however_it_was_changed(training, exact):
    others = [f"Case {n}: what suggests sign {n} in a patient of {n + 20} years?" for n in range(100)]
    pairs = repeats([*others, training], [[ASKED]])
    assert [pair.other for pair in pairs] == ([] if exact is None else [100])
    assert [pair.exact for pair in pairs] == ([] if exact is None else [exact])


def test_options_in_another_order_are_the_same_question():
    """The question alone is short, so that its options are most of it."""
    question, shuffled = "Which of them treats Wernicke's encephalopathy at once?", random.Random(1).sample(OPTIONS, 4)
    assert shuffled != OPTIONS
    trained = f"{question}\n{lettered(shuffled)}".upper()
    (pair,) = repeats(
        [trained, f"Which of them treats gout?\n{lettered(shuffled)}"], [[f"{question}\n{lettered(OPTIONS)}"]]
    )
    assert pair.other == 0
    assert not pair.exact


@pytest.mark.parametrize("length", [8, 9, 10, 12, 15, 20, 40, 150])
def test_two_other_words_anywhere_in_a_question_of_any_length_are_found(length):
    rng = random.Random(length)
    vocabulary = [f"word{n}" for n in range(500)]
    others = [" ".join(rng.choices(vocabulary, k=length)) for _ in range(300)]
    asked = [[" ".join(rng.choices(vocabulary, k=length))] for _ in range(100)]
    planted = []
    for place in range(0, 100, 10):
        changed = asked[place][0].split()
        for at in rng.sample(range(length), 2):
            changed[at] = rng.choice(vocabulary)
        others[3 * place] = " ".join(changed)
        planted.append((place, 3 * place))
    assert sorted((pair.asked, pair.other) for pair in repeats(others, asked)) == planted


def test_phrases_that_many_questions_have_make_none_a_repeat():
    ending = "Which of the following is the most likely cause of this patient's"
    others = [f"A woman of {n} years has sign {n} and result {n * 7}. {ending} finding {n}?" for n in range(60)]
    assert repeats(others, [[f"{ending} anaemia?"]]) == []


def test_short_questions_are_the_same_or_not_in_any_order():
    trained = ["What causes croup?", "Gout: what causes?", "what causes GOUT"]
    assert [(pair.other, pair.exact) for pair in repeats(trained, [["What causes gout?"]])] == [(1, False), (2, True)]
