"""Faults that are planted in right texts."""

import pytest

from medcot.evaluation.judge import probes
from medcot.evaluation.judge.faults import FAULTS, plant


@pytest.mark.parametrize(
    ("kind", "text", "changed"),
    [
        ("dose", "Give 0.5 mg, then 300 mg and 1,000 mL.", "Give 5 mg, then 3000 mg and 10000 mL."),
        ("dose", "Give 10 to 15 mg/kg.", "Give 100 to 150 mg/kg."),
        ("dose", "Give 2,5 mg.", "Give 25 mg."),
        ("dose", "A pressure of 140/90 mmHg at 12 weeks, type 2 diabetes, B12.", None),
        ("drug", "Aspirin and warfarin.", "Morphine and furosemide."),
        ("drug", "Insulinoma is found.", None),
        (
            "side",
            "The right upper quadrant; right-sided, all right.",
            "The left upper quadrant; left-sided, all right.",
        ),
        ("side", "The right answer is to call right away.", None),
        ("organ", "Renal failure of the liver.", "Gastric failure of the bladder."),
        ("negation", "It should be stopped. It is late.", "It should not be stopped. It is late."),
        ("negation", "It is not late.", "It is late."),
        ("negation", "Go. It was seen early.", "Go. It was not seen early."),
        ("negation", "Gout is unlikely.", None),
        ("negation", "Never!", None),
    ],
)
def test_a_fault_is_planted_where_there_is_a_place_for_it(kind, text, changed):
    assert plant(kind, text) == changed


def test_medcots_own_cases_have_a_place_for_each_kind():
    own = [one for one in probes.known_answers([]) if one.ours]
    assert len(own) == 26
    places = {kind: sum(plant(kind, one.answer) is not None for one in own) for kind in FAULTS}
    assert all(count >= 8 for count in places.values()), places
