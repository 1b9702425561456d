"""`medcot score`: outputs matched with references, and a scored prompt caught."""

import json
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer

from medcot.errors import BadInput
from medcot.evaluation import score_files
from medcot.settings import DataSettings
from tests.conftest import make_records
from tests.evaluation.test_metrics import floors_directly

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "medical_o1_sample.jsonl"


def lines(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


@pytest.fixture
def score(tmp_path):
    def run(references: list[dict], outputs: list[dict]) -> dict:
        lines(tmp_path / "references.jsonl", references)
        lines(tmp_path / "outputs.jsonl", outputs)
        return score_files.score_files(
            DataSettings(source=str(tmp_path / "references.jsonl")), tmp_path / "outputs.jsonl"
        )

    return run


def perfect(record: dict) -> str:
    return f"<think>{record['Complex_CoT']}</think><response>{record['Response']}</response>"


def test_facts_that_the_references_list_are_scored_too(score, tmp_path):
    records = make_records(3)
    records[0]["Facts"] = ["sign 1", "another disease"]
    records[1]["Facts"] = [{"forbidden": "sign 2"}]
    outputs = [{"output": perfect(r)} for r in records]
    assert "facts_named" not in score(records, outputs).scores, "the settings name no column of facts"
    settings = DataSettings(source=str(tmp_path / "references.jsonl"), facts_column="Facts")
    found = score_files.score_files(settings, tmp_path / "outputs.jsonl")
    assert (found.scores["facts_named"], found.scores["forbidden_stated"]) == (0.5, 1.0)
    assert found.further_floors["facts_named"] == {"echo": 0.0, "shuffled": 0.0, "empty": 0.0, "gold_reasoning": 0.5}


def test_perfect_outputs_score_one_with_floors_beside_them(score):
    records = make_records(5)
    found = score(records, [{"output": perfect(r)} for r in records])
    scores = found.scores
    assert (scores["answer_rouge_l"], scores["reasoning_rouge_l"], scores["format_strict"]) == (1.0, 1.0, 1.0)
    assert scores["length_ratio"] == 1.0
    assert scores["records"] == 5
    assert not {"truncated", "truncated_before_answer"} & scores.keys()
    # 1e-4: rouge_score deletes the few letters beyond ASCII that these records have
    assert found.floors == pytest.approx(floors_directly(records), abs=1e-4)
    assert found.metric == "rougeL F1, stemmer"
    assert found.problems == []


def test_without_ids_the_order_counts(score):
    records = make_records(5)
    found = score(records, [{"output": perfect(r)} for r in records[1:] + records[:1]])
    assert found.scores["answer_rouge_l"] == pytest.approx(found.floors["shuffled"])


def test_a_record_that_is_passed_over_takes_its_output_with_it(tmp_path):
    records = make_records(4)
    records[1]["Response"] = ""
    references = DataSettings(source=str(lines(tmp_path / "r.jsonl", records)), empty_records="skip")
    outputs = lines(tmp_path / "o.jsonl", [{"output": perfect(r)} for r in records])
    assert score_files.score_files(references, outputs).scores["answer_rouge_l"] == 1.0


def test_with_ids_in_both_the_order_does_not_count(score):
    records = [{**r, "id": i} for i, r in enumerate(make_records(5))]
    outputs = [{"id": str(r["id"]), "output": perfect(r)} for r in records]
    assert score(records, outputs[::-1]).scores["answer_rouge_l"] == 1.0


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([0, 1], "no output for id 2"),
        ([0, 1, 7], "no output for id 2"),
        ([0, 1, 2, 2], "holds 4 outputs for 3 references"),
        ([0, 1, 2, 3], "holds 4 outputs for 3 references"),
    ],
)
def test_ids_that_do_not_fit_are_refused(score, ids, words):
    records = [{**r, "id": i} for i, r in enumerate(make_records(3))]
    with pytest.raises(BadInput, match=words):
        score(records, [{"id": i, "output": "x"} for i in ids])


def test_references_that_share_an_id_are_refused(score):
    records = [{**r, "id": 1} for r in make_records(2)]
    with pytest.raises(BadInput, match="id"):
        score(records, [{"id": 1, "output": "x"}])


def test_numbers_that_do_not_fit_are_refused(score):
    with pytest.raises(BadInput, match="holds 2 outputs for 3 references"):
        score(make_records(3), [{"output": "x"}] * 2)
    with pytest.raises(BadInput, match="no records"):
        score([], [])
    with pytest.raises(BadInput, match="0 outputs for 3 references"):
        score(make_records(3), [])


def test_outputs_without_text_are_all_named(score):
    with pytest.raises(BadInput) as refused:
        score(make_records(4), [{"output": "x"}, {"text": "x"}, {"output": None}, ["x"]])
    assert [p.where for p in refused.value.problems] == [f"outputs.jsonl, record {n}" for n in (2, 3, 4)]


def test_an_empty_output_is_allowed_and_scores_nothing(score):
    assert score(make_records(2), [{"output": ""}] * 2).scores["answer_rouge_l"] == 0.0


def test_a_scored_prompt_is_caught_and_named_by_record(score):
    records = make_records(8)
    outputs = [{"output": perfect(r)} for r in records]
    for i in (1, 4):
        outputs[i] = {
            "output": f"Question: {records[i]['Question']}\nAnswer: {records[i]['Response']}\n" + perfect(records[i])
        }
    (problem,) = score(records, outputs).problems
    assert problem.startswith("2 of 8 outputs")
    assert "record 2, 5)" in problem


def test_references_without_reasoning_are_scored_by_their_answers(score):
    records = [{"Question": r["Question"], "Response": r["Response"]} for r in make_records(5)]
    found = score(records, [{"output": f"<think>x</think><response>{r['Response']}</response>"} for r in records])
    assert found.scores["answer_rouge_l"] == 1.0
    assert not {"reasoning_rouge_l", "both_rouge_l"} & found.scores.keys(), "what was not measured is no figure"
    assert found.floors.keys() == {"echo", "shuffled", "empty"}


def test_references_may_be_conversations(tmp_path):
    records = make_records(3)
    turns = ("user", "Question"), ("assistant", "Response")
    rows = [{"messages": [{"role": role, "content": r[name]} for role, name in turns]} for r in records]
    columns = {"question_column": "messages.user", "answer_column": "messages.assistant"}
    references = DataSettings(source=str(lines(tmp_path / "r.jsonl", rows)), **columns)
    outputs = lines(tmp_path / "o.jsonl", [{"output": perfect(r)} for r in records])
    assert score_files.score_files(references, outputs).scores["answer_rouge_l"] == 1.0


def test_outputs_that_are_no_json_are_named_with_what_is_wrong(tmp_path):
    references = DataSettings(source=str(lines(tmp_path / "r.jsonl", make_records(2))))
    (tmp_path / "o.jsonl").write_text('{"output": "x"}\n{"output": \n')
    with pytest.raises(BadInput, match=r"o.jsonl, record 2: is not JSON"):
        score_files.score_files(references, tmp_path / "o.jsonl")


def test_a_missing_file_of_outputs_is_said_so(tmp_path, records):
    with pytest.raises(BadInput, match=r"none\.jsonl"):
        score_files.score_files(DataSettings(source=str(records)), tmp_path / "none.jsonl")


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the sample of real records is not beside this checkout")
def test_floors_of_real_records(tmp_path):
    records = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()][:16]
    direct = RougeScorer(["rougeL"], use_stemmer=True)

    def leaky(r: dict) -> str:
        """As an evaluation that went wrong in public had it: the prompt holds the answer, and the prompt is scored."""
        return (
            f"Below is a medical question.\nQuestion: {r['Question']}\nReasoning: {r['Complex_CoT']}\n{r['Response']}"
        )

    found = score_files.score_files(
        DataSettings(source=str(lines(tmp_path / "sample.jsonl", records))),
        lines(tmp_path / "leaky.jsonl", [{"output": leaky(r)} for r in records]),
    )
    # 1e-4: rouge_score deletes the few letters beyond ASCII that these records have
    assert found.floors == pytest.approx(floors_directly(records), abs=1e-4)
    # No model was asked, and yet the score is far above that of another record's answer.
    expected = sum(direct.score(r["Response"], leaky(r))["rougeL"].fmeasure for r in records) / len(records)
    assert found.scores["answer_rouge_l"] == pytest.approx(expected, abs=1e-4)
    assert found.scores["answer_rouge_l"] > 2 * found.floors["shuffled"]
    assert found.scores["format_strict"] == 0
    (problem,) = found.problems
    assert problem.startswith(f"{len(records)} of {len(records)} outputs")
