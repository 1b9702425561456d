"""The audit under a real tokenizer: lengths, what is cut, what is there twice, and one record token by token."""

import json

import pytest

from medcot.errors import BadInput
from medcot.settings import RunSettings, build
from tests.conftest import make_records, tiny_raw


def silent(event):
    pass


def planned(settings: RunSettings) -> dict:
    from medcot.engine.planning import plan

    return plan(settings, silent)


@pytest.fixture
def settings_for(tiny_model, tmp_path):
    """Settings over given records; keywords are training settings."""

    def settings(rows, **training):
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        raw = tiny_raw(tiny_model, path)
        return build({**raw, "training": {**raw["training"], **training}})

    return settings


def test_histograms_hold_every_record_and_end_at_the_longest(settings_for):
    found = planned(settings_for(make_records(16)))["audit"]
    for name, lengths in found["lengths"].items():
        drawn = found["histograms"][name]
        assert sum(drawn["counts"]) == 16
        last = len(drawn["counts"]) - 1
        assert last * drawn["width"] <= lengths["max"] < (last + 1) * drawn["width"]


def test_the_smallest_length_that_keeps_all_keeps_all_and_one_less_does_not(settings_for):
    rows = make_records(12)
    rows[7]["Response"] = "A longer answer than all of the others, with many more words in it. " * 3
    cut = planned(settings_for(rows, max_length=64))
    assert cut["audit"]["truncated_share"] > 0
    keeps_all = cut["audit"]["keeps_all"]
    assert any(f"{keeps_all} keeps all" in note for note in cut["problems"])
    whole, short = (planned(settings_for(rows, max_length=n))["audit"] for n in (keeps_all, keeps_all - 1))
    assert whole["truncated_share"] == 0
    assert short["truncated_records"] == [8]


def test_repeated_questions_are_shown_with_their_texts(settings_for):
    rows = make_records(12)
    rows[9]["Question"] = rows[8]["Question"].upper()
    long = "A man of 60 years has had a painful, red and swollen big toe since last night after a large meal"
    rows[0]["Question"], rows[11]["Question"] = long + ". What is it?", long + ", what is it?!"
    found = planned(settings_for(rows))["audit"]
    assert found["duplicate_records"] == [{"record": 10, "same_as": 9, "question": rows[9]["Question"]}]
    (pair,) = found["near_duplicate_pairs"]
    assert (pair["held_out_record"], pair["train_record"]) == (1, 12)
    assert (pair["held_out_question"], pair["train_question"]) == (rows[0]["Question"], rows[11]["Question"])


def test_the_token_view_is_the_encoded_record_with_its_end_token(settings_for, tiny_model):
    from transformers import AutoTokenizer

    from medcot import tags
    from medcot.engine.auditing import tokens

    rows = make_records(8)
    rows[5]["Complex_CoT"] = "Fever and 咳嗽 🩺."
    shown = tokens(settings_for(rows), 6, silent)
    text = {kind: "".join(t for t, k in shown["pieces"] if k == kind) for kind in ("prompt", "trained", "end", "cut")}
    assert text["trained"] == tags.completion_text(rows[5]["Complex_CoT"], rows[5]["Response"])
    assert rows[5]["Question"] in text["prompt"]
    assert (text["end"], text["cut"]) == ("<|im_end|>", "")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert shown["trained"] == len(tokenizer(text["trained"], add_special_tokens=False)["input_ids"]) + 1
    assert shown["held_out"] is False


def test_what_max_length_cuts_is_marked(settings_for):
    from medcot.engine.auditing import tokens

    whole = tokens(settings_for(make_records(8)), None, silent)
    total = whole["prompt"] + whole["trained"]
    shown = tokens(settings_for(make_records(8), max_length=total - 5), None, silent)
    assert shown["cut"] == 5
    assert shown["pieces"][-1] == ["<|im_end|>", "cut"]


def test_a_record_that_is_not_in_use_is_refused_with_those_that_are(settings_for):
    from medcot.engine.auditing import tokens

    with pytest.raises(BadInput) as refused:
        tokens(settings_for(make_records(8)), 9, silent)
    assert refused.value.problems[0].fix == "They go from 1 to 8."
