"""The audit under a real tokenizer: lengths, what is cut, what is there twice, and one record token by token."""

import json
import shutil
from itertools import groupby

import pytest

from medcot.errors import BadInput
from medcot.runs.plan import Planned
from medcot.settings import FurtherSource, RunSettings, build
from tests import tiny
from tests.conftest import make_records, tiny_raw


def silent(event):
    pass


def planned(settings: RunSettings) -> Planned:
    from medcot.engine.train.audit import plan

    return plan(settings, silent)


@pytest.fixture
def settings_for(tiny_model, tmp_path):
    """Settings over given records; keywords are training settings, and what becomes of over-long records."""

    def settings(rows, overlong="cut", **training):
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        raw = tiny_raw(tiny_model, path)
        data = {**raw["data"], "overlong": overlong}
        return build({**raw, "data": data, "training": {**raw["training"], **training}})

    return settings


def test_histograms_hold_every_record_and_end_at_the_longest(settings_for):
    found = planned(settings_for(make_records(16))).audit
    for name, lengths in found.lengths.items():
        drawn = found.histograms[name]
        assert sum(drawn.counts) == 16
        last = len(drawn.counts) - 1
        assert last * drawn.width <= lengths.max < (last + 1) * drawn.width


def test_the_smallest_length_that_keeps_all_keeps_all_and_one_less_does_not(settings_for):
    rows = make_records(12)
    rows[7]["Response"] = "A longer answer than all of the others, with many more words in it. " * 3
    cut = planned(settings_for(rows, max_length=64))
    assert cut.audit.truncated_share > 0
    keeps_all = cut.audit.keeps_all
    assert any(f"{keeps_all} keeps all" in note for note in cut.problems)
    whole, short = (planned(settings_for(rows, max_length=n)).audit for n in (keeps_all, keeps_all - 1))
    assert whole.truncated_share == 0
    assert short.truncated_records == [8]


def test_columns_with_text_that_nothing_uses_are_named(settings_for):
    found = planned(settings_for([{**r, "note": "see the chart", "year": 2020} for r in make_records(12)])).audit
    assert found.unused == ["note"]


def test_what_could_identify_a_person_is_counted_by_kind_and_place_and_never_shown(settings_for):
    rows = make_records(12)
    rows[4]["Question"] += " It is Mrs. Delacroix."
    rows[9]["Response"] += " Mrs. Delacroix was born on 3.4.1961."
    found = planned(settings_for(rows))
    kinds = {kind: (one.count, one.records) for kind, one in found.audit.identifiers.items()}
    assert kinds == {"a name": (2, [5, 10]), "a date of birth": (1, [10])}
    (note,) = [problem for problem in found.problems if "identify a person" in problem]
    assert "a name in 2 records (5, 10)" in note
    told = found.model_copy(update={"tokens": None}).model_dump_json()
    assert "Delacroix" not in told
    settings = settings_for(rows)
    masked = planned(settings.replacing("data", identifiers="mask")).audit
    assert masked.masked
    assert masked.identifiers == found.audit.identifiers


def test_repeated_questions_are_shown_with_their_texts(settings_for):
    rows = make_records(12)
    rows[9]["Question"] = rows[8]["Question"].upper()
    long = "A man of 60 years has had a painful, red and swollen big toe since last night after a large meal"
    rows[0]["Question"], rows[11]["Question"] = long + ". What is it?", long + ", what is it?!"
    found = planned(settings_for(rows)).audit
    (duplicate,) = found.duplicate_records
    assert duplicate.model_dump() == {"record": 10, "same_as": 9, "question": rows[9]["Question"]}
    (pair,) = found.near_duplicate_pairs
    assert (pair.held_out_record, pair.train_record) == (1, 12)
    assert (pair.held_out_question, pair.train_question) == (rows[0]["Question"], rows[11]["Question"])


def test_a_question_that_two_others_repeat_is_one(settings_for):
    """The warning speaks of held-out questions, and one of them may be near many training questions."""
    rows = make_records(12)
    long = "A man of 60 years has had a painful, red and swollen big toe since last night after a large meal"
    rows[0]["Question"] = f"{long}. What is it?"
    rows[10]["Question"], rows[11]["Question"] = f"{long}, what is it?!", f"{long}; and what is it?"
    found = planned(settings_for(rows))
    assert (found.audit.near_duplicates, len(found.audit.near_duplicate_pairs)) == (1, 2)
    assert any("nearly repeat a training question: 1;" in note for note in found.problems), found.problems


def test_the_token_view_is_the_encoded_record_with_its_end_token(settings_for, tiny_model):
    from transformers import AutoTokenizer

    from medcot.engine.train.token_view import tokens
    from medcot.prompts import tags

    rows = make_records(8)
    rows[5]["Complex_CoT"] = "Fever and 咳嗽 🩺."
    shown = tokens(settings_for(rows), 6, silent)
    text = {kind: "".join(t for t, k in shown.pieces if k == kind) for kind in ("prompt", "trained", "end", "cut")}
    assert text["trained"] == tags.completion_text(rows[5]["Complex_CoT"], rows[5]["Response"])
    assert rows[5]["Question"] in text["prompt"]
    assert (text["end"], text["cut"]) == ("<|im_end|>", "")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert shown.trained == len(tokenizer(text["trained"], add_special_tokens=False)["input_ids"]) + 1
    assert shown.held_out is False


def test_a_tag_that_the_template_opens_is_shown_as_read_and_the_rest_as_learned(settings_for, tiny_model, tmp_path):
    from medcot.engine.train.token_view import tokens
    from medcot.prompts import tags

    opens = shutil.copytree(tiny_model, tmp_path / "opens")
    template = tiny.CHAT_TEMPLATE + "{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}"
    (opens / "chat_template.jinja").write_text(template, encoding="utf-8")
    rows = make_records(8)
    shown = tokens(settings_for(rows).replacing("model", id=str(opens)), 6, silent)
    text = {kind: "".join(t for t, k in shown.pieces if k == kind) for kind in ("prompt", "trained", "end", "cut")}
    assert text["prompt"].endswith("<|im_start|>assistant\n<think>\n")
    assert text["trained"].startswith(rows[5]["Complex_CoT"])
    whole = tags.completion_text(rows[5]["Complex_CoT"], rows[5]["Response"])
    assert "<think>\n" + text["trained"] == whole, "the tag is there once, and read"
    assert (text["end"], text["cut"]) == ("<|im_end|>", "")


def test_what_max_length_cuts_is_marked(settings_for):
    from medcot.engine.train.token_view import tokens

    whole = tokens(settings_for(make_records(8)), None, silent)
    total = whole.prompt + whole.trained
    shown = tokens(settings_for(make_records(8), max_length=total - 5), None, silent)
    assert shown.cut == 5
    assert shown.pieces[-1] == ("<|im_end|>", "cut")


def conversation(i, turns=2, system="Be brief.", thought="Think of sign {}."):
    said = [
        turn
        for n in range(turns)
        for turn in (
            {"role": "user", "content": f"Case {i}, part {n}?"},
            {"role": "assistant", "content": f"<think>{thought.format(n)}</think>Sign {n} of case {i}."},
        )
    ]
    return {"messages": [{"role": "system", "content": system}, *said]}


def fitted(settings):
    from medcot.workers import preflight

    return preflight.check(settings)[0]


def test_conversations_are_planned_and_shown_with_every_turn_that_is_learned(settings_for):
    from medcot.engine.train.token_view import tokens

    rows = [conversation(i, system=f"Rule {i % 2}.") for i in range(8)]
    rows[6]["messages"][2]["content"] = "No reasoning here."
    settings = fitted(settings_for(rows).replacing("data", empty_records="skip"))
    found = planned(settings)
    assert (found.audit.several, found.audit.read_only, found.audit.own_systems) == (8, 1, 8)
    assert found.audit.earlier_reasoning, "the tiny model's template shows answers whole"
    (note,) = [problem for problem in found.problems if problem.startswith("Conversations of several turns: 8.")]
    assert "shows with their reasoning, as in Chat. Turns without reasoning, which are read and not learned: 1." in note
    shown = tokens(settings, 6, silent)
    parts = ["".join(t for t, _ in group) for _, group in groupby(shown.pieces, key=lambda piece: piece[1])]
    assert [kind for kind, _ in groupby(shown.pieces, key=lambda piece: piece[1])] == [
        *("prompt", "trained", "end", "prompt", "trained", "end")
    ]
    assert "Rule 1." in parts[0]
    assert "Sign 0 of case 5." in parts[1]
    assert "Case 5, part 1?" in parts[3]
    assert "Sign 1 of case 5." in parts[4]


def test_several_data_sets_are_planned_each_with_what_it_gives(settings_for, tmp_path):
    further = tmp_path / "general.jsonl"
    rows = [{"question": f"Sum {i}?", "cot": f"Count {i}.", "output": f"It is {i}."} for i in range(6)]
    further.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = settings_for(make_records(12), max_steps=None)
    mixed = settings.replacing("data", more=(FurtherSource(source=str(further), weight=2),))
    found = planned(fitted(mixed))
    assert [(one.name, one.weight, one.learned) for one in found.audit.sources] == [
        ("data.source", 1, 8),
        ("general.jsonl", 2, 12),
    ]
    assert sum(one.share for one in found.audit.sources) == pytest.approx(1)
    assert (found.audit.duplicates, found.audit.records) == (0, {"train": 20, "held_out": 4})
    assert found.plan.steps == 10


def test_a_later_turn_that_asks_a_held_out_question_is_found(settings_for):
    rows = [conversation(i) for i in range(8)]
    rows[6]["messages"][3]["content"] = "Case 2, part 0?"
    (pair,) = planned(fitted(settings_for(rows))).audit.near_duplicate_pairs
    assert (pair.held_out_record, pair.train_record) == (3, 7)


def test_the_first_turns_of_a_long_conversation_are_learned_and_the_later_ones_counted(settings_for):
    rows = [conversation(i, turns=6 if i == 5 else 1) for i in range(8)]
    settings = fitted(settings_for(rows, overlong="shorten", max_length=160))
    found = planned(settings)
    assert (found.audit.begun, found.audit.begun_records, found.audit.left_out) == (1, [6], 0)
    assert any("whose later turns are left out" in problem for problem in found.problems)


def test_a_template_that_refuses_follow_ups_or_system_messages_is_told_by_the_record(
    settings_for, tmp_path, tiny_model
):
    from transformers import AutoTokenizer

    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)

    def refusals(condition, *rows):
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.chat_template = f"{{% if {condition} %}}{{{{ raise_exception('no') }}}}{{% endif %}}" + str(
            tokenizer.chat_template
        )
        tokenizer.save_pretrained(model)
        with pytest.raises(BadInput) as refused:
            planned(fitted(settings_for(list(rows)).replacing("model", id=str(model))))
        return [str(problem) for problem in refused.value.problems]

    (told,) = refusals("messages|length > 3", *(conversation(i, turns=1 + (i == 5)) for i in range(8)))
    assert told.startswith("prompt.style: record 6 has several turns, and this model's chat template refuses")
    (told,) = refusals("messages[0].role == 'system'", *(conversation(i, 1, f"Rule {i}.") for i in range(8)))
    assert told.startswith(
        "data.system_messages: record 5 has a system message, and this model's chat template refuses"
    )
    (told,) = refusals("messages[0].role == 'system'", *(conversation(i, 1) for i in range(8)))
    assert "data.system_messages=leave_out" in told


THINKING = "Think of it first. " * 20


def long_rows() -> list[dict]:
    """Record 2 is held out and record 7 is trained on, both too long for their reasoning; record 9 for its answer."""
    rows = make_records(12)
    for place in (1, 6):
        rows[place]["Complex_CoT"] = THINKING
    rows[8]["Response"] = "A long answer. " * 60
    return rows


def test_a_long_reasoning_ends_at_an_earlier_sentence_and_what_still_does_not_fit_is_left_out(settings_for):
    from medcot.engine.train.token_view import tokens

    found = planned(settings_for(long_rows(), overlong="shorten", max_length=110))
    audit = found.audit
    assert (audit.overlong, audit.truncated_share) == ("shorten", 0)
    assert (audit.shortened_records, audit.left_out_records) == ([7, 2], [9])
    assert audit.records == {"train": 8, "held_out": 4}, "what the data holds, the fingerprint's records"
    assert audit.keeps_all == audit.lengths["whole"].max > 110
    assert any("earlier sentence so that their answer stays: 2 (7, 2)" in note for note in found.problems)
    assert any("since question, a first sentence and answer do not fit: 1 (9)" in note for note in found.problems)
    assert found.plan.steps == 4
    shown = tokens(settings_for(long_rows(), overlong="shorten", max_length=110), 7, silent)
    text = {kind: "".join(t for t, k in shown.pieces if k == kind) for kind in ("trained", "end", "cut")}
    assert text["cut"].strip(" .") in THINKING
    assert shown.prompt + shown.trained <= 110
    assert long_rows()[6]["Response"] in text["trained"]
    assert text["end"] == "<|im_end|>"
    assert tokens(settings_for(long_rows(), overlong="shorten", max_length=110), 9, silent).trained == 0


def test_records_that_are_too_long_can_be_left_out_and_are_counted(settings_for):
    audit = planned(settings_for(long_rows(), overlong="leave_out", max_length=110)).audit
    assert (audit.left_out_records, audit.shortened, audit.truncated_share) == ([7, 9, 2], 0, 0)


def test_where_nothing_would_be_left_the_length_is_refused(settings_for):
    for overlong in ("leave_out", "shorten"):
        with pytest.raises(BadInput, match="none of 8 records fits into 20 tokens"):
            planned(settings_for(make_records(12), overlong=overlong, max_length=20))


def test_a_record_that_is_not_in_use_is_refused_with_those_that_are(settings_for):
    from medcot.engine.train.token_view import tokens

    with pytest.raises(BadInput) as refused:
        tokens(settings_for(make_records(8)), 9, silent)
    assert refused.value.problems[0].fix == "They go from 1 to 8."


def test_tags_in_the_data_are_counted_and_told(settings_for):
    rows = make_records(12)
    for row in rows[:5]:
        row["Complex_CoT"] = f"<think>{row['Complex_CoT']}</think>"
    rows[7]["Response"] += " Write </response> at the end."
    rows[9]["Question"] += " What is <think>?"
    found = planned(settings_for(rows))
    assert (found.audit.untagged, found.audit.tagged) == (5, 2)
    assert sorted(found.audit.tagged_records) == [8, 10]
    (off,) = [note for note in found.problems if "taken off" in note]
    assert off == "Records whose tags around a text were taken off, since training writes them: 5."
    assert "Records that hold a tag inside their text (record 8 first), which the model may learn: 2." in found.problems
    clean = planned(settings_for(make_records(12)))
    assert (clean.audit.untagged, clean.audit.tagged, clean.audit.tagged_records) == (0, 0, [])
    assert not any("tag" in note.lower() for note in clean.problems)
