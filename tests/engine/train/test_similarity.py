"""Near-duplicate questions between training and held-out records."""

import pytest

from medcot.data.repeats import SIMILAR
from medcot.engine.train.audit import near_duplicates

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
    assert (found.train_record, found.held_out_record) == (10, 1)
    assert SIMILAR <= found.similarity < 1


def test_an_identical_short_question_is_found():
    (found,) = near_duplicates([(3, "Gout?")], [(1, "gout")])
    assert found.similarity == 1.0


def test_nothing_in_common_is_nothing_found():
    assert near_duplicates([], [(1, "a b c")]) == []
    assert near_duplicates([(1, "a b c")], []) == []


@pytest.mark.parametrize(
    ("one", "other", "unlike"),
    [
        (
            "一名45岁男性长期饮酒，因意识模糊、步态不稳和眼球运动障碍来诊，输注葡萄糖之前应先给予哪种维生素？",
            "一名54岁男性长期饮酒，因意识模糊、步态不稳和眼球运动障碍来诊，输注葡萄糖之前应先给予哪种维生素？",
            "一名45岁男性因胸痛来诊，心电图显示下壁导联ST段抬高，应首先采取什么治疗措施？",
        ),
        (
            "長期にわたり飲酒している45歳の男性が意識障害と歩行失調と眼球運動障害で来院した。最初に投与すべきビタミンは何か。",
            "長期にわたり飲酒している54歳の男性が意識障害と歩行失調と眼球運動障害で来院した。最初に投与すべきビタミンは何か。",
            "胸痛を訴える45歳の男性の心電図で下壁誘導のST上昇を認めた。最初に行うべき治療は何か。",
        ),
        (
            "ผู้ป่วยชายอายุ 45 ปี ดื่มสุรามานาน มาด้วยอาการสับสน เดินเซ และกลอกตาผิดปกติ ควรให้วิตามินใดก่อนให้น้ำตาลกลูโคส",
            "ผู้ป่วยชายอายุ 54 ปี ดื่มสุรามานาน มาด้วยอาการสับสน เดินเซ และกลอกตาผิดปกติ ควรให้วิตามินใดก่อนให้น้ำตาลกลูโคส",
            "ผู้ป่วยหญิงมาด้วยอาการเจ็บหน้าอก ควรตรวจอะไรก่อน",
        ),
    ],
    ids=["Chinese", "Japanese", "Thai"],
)
def test_near_repeats_are_found_where_a_script_has_no_blanks(one, other, unlike):
    (found,) = near_duplicates([(10, other), (11, unlike)], [(1, one)])
    assert found.train_record == 10
