"""Records within records: objects, conversations, and reasoning between tags within the answer."""

import pytest

from medcot import data
from medcot.errors import BadInput
from medcot.prompts.tags import Turn
from medcot.settings import DataSettings
from tests.data.test_examples import write

SAID = "<think>\nbecause {0}\n</think>\n\nanswer {0}"
SYSTEM = {"role": "system", "content": "Be brief."}


def user(i):
    return {"role": "user", "content": f"q{i}"}


def assistant(i, **more):
    return {"role": "assistant", "content": SAID.format(i), **more}


def fitted(tmp_path, row_of, name="a.jsonl", **settings):
    path = write(tmp_path, [row_of(i) for i in range(4)], name)
    return data.load_fitted(DataSettings(source=str(path), held_out=1, **settings))


def examples(split):
    return [(e.question, e.reasoning, e.answer) for e in split.held_out + split.train]


WANTED = [(f"q{i}", f"because {i}", f"answer {i}") for i in range(4)]
CONVERSATIONS = {
    "messages": lambda i: {"messages": [user(i), assistant(i)]},
    "a system turn": lambda i: {"messages": [SYSTEM, user(i), assistant(i)]},
    "conversations of ShareGPT": lambda i: {
        "conversations": [{"from": "human", "value": f"q{i}"}, {"from": "gpt", "value": SAID.format(i)}]
    },
    "other names": lambda i: {
        "dialog": [{"role": "Human", "content": f"q{i}"}, {"role": "model", "content": SAID.format(i)}]
    },
    "parts of text": lambda i: {
        "messages": [{"role": "user", "content": [{"type": "text", "text": f"q{i}"}]}, assistant(i)]
    },
    "reasoning of its own": lambda i: {
        "messages": [
            user(i),
            {"role": "assistant", "content": f"answer {i}", "reasoning_content": f"because {i}"},
        ]
    },
    "prompt and completion": lambda i: {"prompt": [user(i)], "completion": [assistant(i)]},
    "chosen and rejected": lambda i: {
        "prompt": [user(i)],
        "rejected": [{"role": "assistant", "content": "no " * 50}],
        "chosen": [assistant(i)],
    },
    "objects": lambda i: {
        "input": {"question": f"q{i}"},
        "output": {"reasoning": f"because {i}", "answer": f"answer {i}"},
    },
    "objects in objects": lambda i: {"a": {"b": {"question": f"q{i}", "cot": f"because {i}", "answer": f"answer {i}"}}},
    "one text": lambda i: {"text": f"q{i}\n{SAID.format(i)}"},
    "one text with the names of its parts": lambda i: {
        "text": f"Below is a question.\n\n### Question:\nq{i}\n\n### Response:\n{SAID.format(i)}"
    },
    "one text of the plain contract": lambda i: {
        "text": f"Below is a medical question. Think step by step.\nQuestion: q{i}\n<think>because {i}</think>"
        f"<response>answer {i}</response>"
    },
    "a text beside its question": lambda i: {"question": f"q{i}", "generated": SAID.format(i)},
    "prompt and completion of text": lambda i: {"prompt": f"q{i}", "completion": SAID.format(i)},
    "tags in the answer": lambda i: {"question": f"q{i}", "response": SAID.format(i)},
    "tags never opened": lambda i: {"question": f"q{i}", "response": f"because {i}</think>answer {i}"},
    "both tags": lambda i: {
        "question": f"q{i}",
        "output": f"<think>because {i}</think><response>answer {i}</response>",
    },
    "Chinese names": lambda i: {"问题": f"q{i}", "思维链": f"because {i}", "答案": f"answer {i}"},
    "ids beside text": lambda i: {
        "question_id": f"x{i}",
        "question_text": f"q{i}",
        "rationale": f"because {i}",
        "answer_id": "y",
        "answer_text": f"answer {i}",
    },
    "ids of other names": lambda i: {
        "QuestionID": i,
        "question-hash": "9f" * 40,
        "question_body": f"q{i}",
        "cot": f"because {i}",
        "answer_type": "free text of some length",
        "the answer": f"answer {i}",
    },
}


@pytest.mark.parametrize("name", ["a.jsonl"])
@pytest.mark.parametrize("how", CONVERSATIONS)
def test_question_reasoning_and_answer_are_found(tmp_path, how, name):
    settings, split = fitted(tmp_path, CONVERSATIONS[how], name)
    assert examples(split) == WANTED
    assert data.load(settings).fingerprint == split.fingerprint, "a run finds the same by its settings alone"


@pytest.mark.parametrize("how", ["messages", "objects", "chosen and rejected"])
def test_parquet_holds_them_too(tmp_path, how):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([CONVERSATIONS[how](i) for i in range(4)]), path)
    assert examples(data.load_fitted(DataSettings(source=str(path), held_out=1))[1]) == WANTED


def test_a_system_message_is_kept_or_left_out_and_named_or_the_context(tmp_path):
    row_of = CONVERSATIONS["a system turn"]
    _, split = fitted(tmp_path, row_of)
    assert (split.unused, {e.system for e in split.train}) == ([], {"Be brief."})
    _, without = fitted(tmp_path, row_of, system_messages="leave_out")
    assert (without.unused, {e.system for e in without.train}) == (["messages.system"], {""})
    assert without.fingerprint != split.fingerprint
    assert without.fingerprint == fitted(tmp_path, CONVERSATIONS["messages"])[1].fingerprint
    _, split = fitted(tmp_path, row_of, context_column="messages.system")
    assert split.unused == []
    assert (split.train[0].question, split.train[0].system) == ("q1\n\nBe brief.", "")
    _, split = fitted(tmp_path, lambda i: {"system": f"Rule {i}.", **CONVERSATIONS["conversations of ShareGPT"](i)})
    assert [e.system for e in split.train] == ["Rule 1.", "Rule 2.", "Rule 3."]


def of_two(i, first=SAID, second=SAID):
    asked = {"role": "user", "content": f"and {i}?"}
    said = ({"role": "assistant", "content": text.format(i)} for text in (first, second))
    return {"messages": [SYSTEM, user(i), next(said), asked, next(said)]}


TWO = {
    "messages": of_two,
    "ShareGPT": lambda i: {
        "conversations": [
            {"from": {"system": "system", "user": "human", "assistant": "gpt"}[turn["role"]], "value": turn["content"]}
            for turn in of_two(i)["messages"]
        ]
    },
    "reasoning of its own": lambda i: {
        "messages": [
            turn if turn["role"] != "assistant" else {**turn, "content": f"answer {i}", "thinking": f"because {i}"}
            for turn in of_two(i)["messages"]
        ]
    },
}


@pytest.mark.parametrize("how", TWO)
def test_a_conversation_of_several_turns_is_one_record_with_all_of_them(tmp_path, how):
    settings, split = fitted(tmp_path, TWO[how])
    assert examples(split) == WANTED, "the first turn is the record's own question"
    assert [e.more for e in split.train] == [(Turn(f"and {i}?", f"because {i}", f"answer {i}"),) for i in (1, 2, 3)]
    assert {e.system for e in split.train} == {"Be brief."}
    assert data.load(settings).fingerprint == split.fingerprint
    changed = fitted(tmp_path, lambda i: of_two(i, second=f"{SAID} more" if i == 3 else SAID))[1]
    assert changed.fingerprint != split.fingerprint


def test_earlier_turns_of_a_prompt_are_read_and_its_completion_is_learned(tmp_path):
    _, split = fitted(
        tmp_path, lambda i: {"prompt": of_two(i)["messages"][:4], "completion": [assistant(i)], "score": 1}
    )
    assert split.train[0].turns == (Turn("q1", "", "answer 1"), Turn("and 1?", "because 1", "answer 1"))


def test_a_turn_without_reasoning_is_named_or_read_and_a_question_without_an_answer_left_off(tmp_path):
    bare, unanswered = of_two(1, second="answer only"), {"messages": of_two(2)["messages"][:4]}

    def row_of(i):
        return {1: bare, 2: unanswered, 3: of_two(3, "none", "none")}.get(i, of_two(i))

    with pytest.raises(BadInput) as refused:
        fitted(tmp_path, row_of)
    assert [str(p).partition(". Fill it")[0] for p in refused.value.problems] == [
        "a.jsonl, record 2: turn 2 has an empty <think> in messages.assistant",
        "a.jsonl, record 3: turn 2 has no messages.assistant",
        "a.jsonl, record 4: turn 1 has an empty <think> in messages.assistant",
        "a.jsonl, record 4: turn 2 has an empty <think> in messages.assistant",
    ]
    _, split = fitted(tmp_path, row_of, empty_records="skip")
    assert [e.turns[1:] for e in split.train] == [(Turn("and 1?", "", "answer only"),), ()]
    assert split.skipped == [4]


def test_names_in_every_turn_and_in_the_system_message_are_masked(tmp_path):
    named = {"role": "system", "content": "You help Mrs. Delacroix."}
    rows = [[named, *of_two(i, second="<think>For Mrs. Delacroix.</think>Yes.")["messages"][1:]] for i in range(4)]
    _, split = fitted(tmp_path, lambda i: {"messages": rows[i]}, identifiers="mask")
    assert "Delacroix" not in str(split)
    assert split.train[0].more[0].reasoning == "For Mrs. [name]."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<think>because</think>answer", "has an empty question before <think> in text"),
        ("q<think></think>answer", "has an empty <think> in text"),
        ("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>because</think>a", "a chat template wrote"),
    ],
)
def test_one_text_without_all_parts_or_with_a_templates_markup_is_told(tmp_path, text, words):
    with pytest.raises(BadInput) as refused:
        fitted(tmp_path, lambda i: {"text": text if i == 2 else f"q{i}{SAID}"})
    (told,) = map(str, refused.value.problems)
    assert told.startswith("a.jsonl, record 3: ")
    assert words in told


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([user(0), user(1), assistant(1)], "3 turns (2 of the user, 1 of the assistant) out of turn"),
        ([assistant(0), user(0)], "2 turns"),
        ([user(0), SYSTEM, assistant(0)], "3 turns"),
        ([SYSTEM, SYSTEM, user(0), assistant(0)], "4 turns (2 of the system"),
        ([SYSTEM], "1 turns (1 of the system)"),
        ([user(0), {"role": "tool", "content": "x"}, assistant(0)], "a turn of 'tool'"),
        ([user(0), {"role": "assistant", "content": None, "tool_calls": []}], "a turn that is not text"),
        ([{"role": "user", "content": [{"type": "image", "url": "x"}]}, assistant(0)], "a turn that is not text"),
        ([user(0)], "has no messages.assistant"),
    ],
)
def test_a_conversation_that_is_not_in_turn_is_told_by_its_record(tmp_path, turns, words):
    with pytest.raises(BadInput) as refused:
        fitted(tmp_path, lambda i: {"messages": turns if i == 2 else [user(i), assistant(i)]})
    (told,) = map(str, refused.value.problems)
    assert told.startswith("a.jsonl, record 3: ")
    assert words in told


def test_where_every_conversation_begins_with_the_assistant_that_is_told_and_no_missing_column(tmp_path):
    with pytest.raises(BadInput) as refused:
        fitted(tmp_path, lambda i: {"messages": [assistant(i), user(i), assistant(i)]})
    told = list(map(str, refused.value.problems))
    assert len(told) == 4
    assert told[0].startswith("a.jsonl, record 1: messages.user holds a conversation of 3 turns")


def test_a_conversation_that_nobody_needs_may_have_any_turns(tmp_path):
    _, split = fitted(
        tmp_path,
        lambda i: {"Question": f"q{i}", "Complex_CoT": f"because {i}", "Response": f"answer {i}", "log": [user(i)] * 3},
    )
    assert examples(split) == WANTED


def test_an_answer_without_reasoning_between_tags_is_told_by_its_record(tmp_path):
    with pytest.raises(BadInput, match=r"record 2: has an empty <think> in response") as refused:
        fitted(tmp_path, lambda i: {"question": f"q{i}", "response": "answer 1" if i == 1 else SAID.format(i)})
    assert len(refused.value.problems) == 1
    _, split = fitted(
        tmp_path,
        lambda i: {"question": f"q{i}", "response": "answer 1" if i == 1 else SAID.format(i)},
        empty_records="skip",
    )
    assert split.skipped == [2]


def test_steps_of_a_reasoning_are_its_lines_and_a_list_of_answers_is_no_text(tmp_path):
    _, split = fitted(tmp_path, lambda i: {"question": f"q{i}", "steps": ["first", "then"], "answer": [f"answer {i}"]})
    assert examples(split)[0] == ("q0", "first\nthen", "answer 0")
    with pytest.raises(BadInput, match="record 1: answer is not text"):
        fitted(tmp_path, lambda i: {"question": f"q{i}", "steps": ["first"], "answer": ["a", "b"]})


def test_reasoning_and_answer_may_share_a_column_and_all_three():
    from medcot.settings import build

    shared = {"reasoning_column": "response", "answer_column": "response"}
    assert build({"data": shared}).data.reasoning_column == "response"
    assert build({"data": {**shared, "question_column": "response"}}), "one text, told apart by tags too"
    with pytest.raises(BadInput, match="the question needs a column of its own"):
        build({"data": {"answer_column": "response", "question_column": "response"}})
