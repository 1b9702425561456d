"""Near-duplicate questions between training and held-out records."""

from medcot.similarity import THRESHOLD, near_duplicates

LONG = (
    "A 45-year-old man with a long history of alcohol use comes to the clinic with confusion, a broad gait and eye "
    "movements that are not conjugate; which vitamin should be given before any glucose is infused?"
)


def test_a_question_with_a_word_or_two_changed_is_found_and_others_are_not():
    train = [
        (10, LONG.replace("45-year-old", "54-year-old").upper()),
        (11, "Which vitamin is missing in scurvy?"),
        (12, LONG[::-1]),
    ]
    (found,) = near_duplicates(train, [(1, LONG), (2, "What suggests gout in a swollen great toe?")])
    assert (found["train_record"], found["held_out_record"]) == (10, 1)
    assert THRESHOLD <= found["similarity"] < 1


def test_an_identical_short_question_is_found():
    (found,) = near_duplicates([(3, "Gout?")], [(1, "gout")])
    assert found["similarity"] == 1.0


def test_nothing_in_common_is_nothing_found():
    assert near_duplicates([], [(1, "a b c")]) == []
    assert near_duplicates([(1, "a b c")], []) == []
