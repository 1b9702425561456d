"""Paired evaluation of a tiny trained run: the shapes that others read, and what is refused."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from medcot import data
from medcot.adapters.card import model_card
from medcot.adapters.open import of_run
from medcot.errors import BadInput
from medcot.evaluation import records
from medcot.evaluation.metrics import Variant, compare
from medcot.evaluation.summary import cautions, seen_text
from medcot.runs.events import Kept, Warned
from medcot.runs.run import Run
from medcot.settings import DataSettings, build
from medcot.settings.evaluation import EvaluationOrder
from tests.conftest import make_records, tiny_raw, write_records
from tests.data.test_examples import write
from tests.engine.train.test_audit import planned
from tests.engine_tools import changed, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    """A run with two checkpoints, made once; tests get copies."""
    folder = tmp_path_factory.mktemp("evaluation")
    settings = build(tiny_raw(tiny_model, write_records(folder / "records.jsonl")))
    return train(folder / "runs", changed(settings, "training", keep_checkpoints=2))


@pytest.fixture
def run(tmp_path, trained):
    """A copy of the run, whose data is a copy too."""
    copied = Run(shutil.copytree(trained.path, tmp_path / "runs" / trained.id))
    data = shutil.copy(trained.settings().data.source, tmp_path / "records.jsonl")
    settings = changed(trained.settings(), "data", source=str(data))
    (copied.path / "settings.json").write_text(settings.model_dump_json())
    return copied


def evaluated(run, **options):
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.evaluate import evaluate

    job = run.new_evaluation()
    order = EvaluationOrder(**{"max_new_tokens": 16, "tell_base": False, **options})
    evaluate(run, job, order, PeftBackend(), job.append)
    return job


def test_answers_beyond_the_models_window_are_refused_before_the_first(run):
    with pytest.raises(BadInput) as refused:
        evaluated(run, max_new_tokens=2040)
    (problem,) = refused.value.problems
    assert "the model's window is 2048" in problem.what
    fitting = int(re.search(r"Ask for (\d+) at most", problem.fix)[1])
    assert 1900 < fitting < 2040


def test_the_summary_has_the_documented_shape_and_its_figures_agree_with_the_examples(run):
    job = evaluated(run)
    summary = job.summary()
    assert {"schema", "run", "data", "decoding", "arms", "floors", "paired"} <= summary.as_json().keys()
    assert summary.as_json() == json.loads((job.path / "summary.json").read_text())
    assert summary.as_json()["schema"] == 1
    assert (summary.run, summary.data.records) == (run.id, 4)
    for arm in ("base", "tuned"):
        assert {
            "answer_rouge_l",
            "reasoning_rouge_l",
            "format_strict",
            "format_lenient",
            "truncated",
            "length_ratio",
            "records",
        } <= summary.arms[arm].keys()
    assert summary.floors.keys() == {"echo", "shuffled", "empty", "gold_reasoning"}
    examples = job.examples()
    assert [e.record for e in examples] == [1, 2, 3, 4]
    scores = {arm: [e.arms[arm].scores["answer_rouge_l"] for e in examples] for arm in ("base", "tuned")}
    paired = summary.paired["tuned-base"]
    assert paired.model_copy(update={"measures": {}}) == compare(scores["base"], scores["tuned"])
    assert paired.measures.keys() >= {"reasoning_rouge_l", "both_rouge_l", "format_strict", "truncated"}
    for arm in ("base", "tuned"):
        assert summary.arms[arm]["tokens"] == summary.tokens[arm] / 4


def test_sample_questions_are_answered_by_both_and_the_report_stands_alone(run):
    job = evaluated(run)
    assert [s.group for s in job.samples()] == ["cardiac", "cardiac", "diabetes"]
    assert all(s.arms[arm].output for s in job.samples() for arm in ("base", "tuned"))
    page = (job.path / "report.html").read_text(encoding="utf-8")
    assert "For research only" in page
    assert "http" not in page, "no network"


def with_facts(run, *listed: object) -> Run:
    """The run, after its data's first records were given these lists; its fingerprint stays what it was."""
    path = Path(run.settings().data.source)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    padded = [*listed, *[None] * (len(rows) - len(listed))]
    path.write_text("".join(json.dumps({**r, "Facts": f}) + "\n" for r, f in zip(rows, padded, strict=True)))
    settings = changed(run.settings(), "data", facts_column="Facts")
    (run.path / "settings.json").write_text(settings.model_dump_json())
    return run


def test_facts_of_the_records_that_list_any_are_figures_like_all_others(run):
    sign = {"fact": "sign 1", "accept": ["sign 1", "first sign"]}
    job = evaluated(
        with_facts(run, [sign, {"forbidden": "a question"}], ["sign 2", "another disease"]), max_new_tokens=64
    )
    summary, (first, second, third, _) = job.summary(), job.examples()
    for arm in ("base", "tuned"):
        named = [len(e.arms[arm].scores["facts"]["named"]) / n for e, n in ((first, 1), (second, 2))]
        assert summary.arms[arm]["facts_named"] == sum(named) / 2
        assert summary.arms[arm]["forbidden_stated"] in (0.0, 1.0)
        assert "facts" not in third.arms[arm].scores
        assert "sign 1" in first.note(arm)
    assert summary.paired["tuned-base"].measures.keys() >= {"facts_named", "forbidden_stated"}
    assert (summary.ceiling["facts_named"], summary.ceiling["forbidden_stated"]) == (0.75, 0.0)
    assert summary.further_floors["facts_named"] == {"echo": 0.0, "shuffled": 0.0, "empty": 0.0, "gold_reasoning": 0.75}
    assert [row.key for row in summary.rows[:3]] == ["facts_named", "forbidden_stated", "answer_rouge_l"]
    assert all("Missed: " in s.note("base") or "Facts named" in s.note("base") for s in job.samples())


def test_without_facts_nothing_speaks_of_them(run):
    job = evaluated(run, records=1)
    for name in ("summary.json", "table.csv", "examples.jsonl"):
        assert not re.search('facts"|facts_named|forbidden', (job.path / name).read_text(encoding="utf-8"))
    assert "atching words" not in (job.path / "report.html").read_text(encoding="utf-8")


def test_fewer_questions_can_be_asked(run):
    assert evaluated(run, records=2).summary().data.records == 2


def test_data_that_changed_since_the_training_is_refused(run):
    with Path(run.settings().data.source).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"Question": "New?", "Complex_CoT": "New.", "Response": "New."}) + "\n")
    with pytest.raises(BadInput, match="data has changed"):
        evaluated(run)


def test_a_base_that_changed_since_the_training_is_refused(tmp_path, tiny_model, tiny_settings):
    own = tmp_path / "own-model"
    shutil.copytree(tiny_model, own)
    run = train(tmp_path / "runs", changed(tiny_settings, "model", id=str(own)))
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    with pytest.raises(BadInput, match="this adapter was trained on"):
        evaluated(run)


def test_a_question_that_holds_its_own_answer_is_left_out_and_named(tmp_path, tiny_model):
    path = write_records(tmp_path / "leaky.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["Response"] = "It is gout, as the sign says plainly."
    lines[2]["Question"] = f"Is it true? {lines[2]['Response']}"
    path.write_text("".join(json.dumps(r) + "\n" for r in lines))
    run = train(tmp_path / "runs", build(tiny_raw(tiny_model, path)))
    job = evaluated(run)
    assert [e.record for e in job.examples()] == [1, 2, 4]
    assert job.summary().data.records == 3
    assert job.summary().notes == ["1 held-out questions hold their own reference answer and are left out: 3."]


def test_a_prompt_that_holds_the_answer_by_other_ways_is_refused_and_so_are_questions_that_all_tell_theirs():
    leaky = data.Example(7, "What is it?", "Signs.", "It is gout, as the sign says plainly.")
    told = replace(leaky, question=f"Is it true? {leaky.answer}")
    split = data.Split([], [leaky], "fingerprint")
    measure = records.select(DataSettings(), split, None, Variant())
    assert measure.check(lambda arm, question: question, ["base"]) == []
    with pytest.raises(BadInput, match="prompt of record 7 holds its reference answer"):
        measure.check(lambda arm, question: f"{question} {leaky.answer}", ["base"])
    with pytest.raises(BadInput, match="every held-out question holds"):
        records.select(DataSettings(), replace(split, held_out=[told]), None, Variant())


LONG = "A man of 60 years has had a painful, red and swollen big toe since last night after a large meal. What is it?"


def test_held_out_questions_that_were_trained_on_too_are_told_and_the_table_has_the_figures_without(
    tmp_path, tiny_model
):
    path = write_records(tmp_path / "twice.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["Question"], rows[9]["Question"] = LONG, LONG.replace("painful", "sore").replace("last", "yesterday")
    rows[15]["Question"] = rows[0]["Question"].upper()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = train(tmp_path / "runs", build(tiny_raw(tiny_model, path)))
    job = evaluated(run)
    summary, examples = job.summary(), job.examples()
    told = summary.in_training
    assert (told.compared, told.word_for_word, told.nearly) == (12, [1], [2])
    assert [(e.record, e.in_training and (e.in_training.record, e.in_training.how)) for e in examples] == [
        (1, (16, "word for word")),
        (2, (10, "nearly")),
        (3, None),
        (4, None),
    ]
    new = [e.arms["tuned"].scores["answer_rouge_l"] for e in examples[2:]]
    assert told.without.arms["tuned"]["answer_rouge_l"] == pytest.approx(sum(new) / 2)
    assert told.without.records == told.without.arms["base"]["records"] == 2
    said = "2 of 4 questions stand in the training data (1 word for word, 1 nearly; held against 12 training records)"
    page, table = ((job.path / name).read_text(encoding="utf-8") for name in ("report.html", "table.csv"))
    job.write_status("finished", job="evaluate")
    card = model_card(run, of_run(run).contract)
    for face in (page, card):
        assert said in face
        assert "Answer ROUGE-L, not trained on" in face
    assert "In the training data: record 10, nearly." in page
    assert "in training,nearly,,1,,,questions 2" in table
    assert '\n"score, not trained on",answer_rouge_l,tuned,' in table


def test_test_data_is_what_is_asked_and_validation_data_what_the_loss_is_of(tmp_path, tiny_model):
    raw, rows = tiny_raw(tiny_model, write_records(tmp_path / "records.jsonl", 12)), make_records(4)
    own = {"test": rows[:2], "validation": rows[1:]}
    for name, part in own.items():
        part = [{**row, "Question": f"Asked elsewhere: {row['Question']}"} for row in part]
        raw["data"][name] = str(write(tmp_path, part, f"{name}.jsonl"))
    settings = build(raw)
    audit = planned(settings).audit
    assert audit.records == {"train": 12, "validation": 2, "test": 2}
    assert audit.repeated == {"train": 0, "validation": 1}
    assert audit.parts == "12 to train on, 2 to validate with, 2 to test with"
    run = train(tmp_path / "runs", settings)
    plan = run.plan()
    assert (plan.records, plan.validation, plan.held_out, plan.repeated) == (12, 2, 2, 0)
    job = evaluated(run)
    assert [e.question for e in job.examples()] == [f"Asked elsewhere: {row['Question']}" for row in rows[:2]]
    summary = job.summary()
    assert (summary.data.records, summary.data.source) == (2, raw["data"]["test"])
    assert summary.in_training.compared == 12
    card = model_card(run, of_run(run).contract)
    assert "validated with validation.jsonl, tested with test.jsonl" in card
    assert "12 trained on, 2 held out to test with, 2 to validate with, 0 cut short" in card
    assert str(tmp_path) not in card
    (tmp_path / "test.jsonl").write_text(json.dumps({**rows[3], "Question": "Another?"}), encoding="utf-8")
    with pytest.raises(BadInput, match="the data has changed"):
        evaluated(run)


def asked(path, *questions):
    options = {"options": ["gout", "croup", "sepsis", "angina"], "answer_idx": "A"}
    path.write_text("".join(json.dumps({"question": question, **options}) + "\n" for question in questions))
    return str(path)


def test_questions_of_a_file_are_held_against_the_training_records_and_gone_ones_are_told(run, tmp_path):
    records = Path(run.settings().data.source)
    learned = json.loads(records.read_text().splitlines()[-1])["Question"]
    file = asked(tmp_path / "q.jsonl", "Which of these makes a great toe swell overnight?", learned.upper())
    order = {"questions": file, "choice_max_new_tokens": 16}
    summary = evaluated(run, **order).summary()
    assert (summary.in_training.compared, summary.in_training.word_for_word) == (12, [2])
    assert summary.in_training.without.arms["base"]["records"] == 1
    records.write_text(records.read_text().replace("croup", "Croup"))
    changed_since = evaluated(run, **order).summary()
    assert seen_text(changed_since) == (
        "Whether questions stand in the training data is not known: the training data has changed since."
    )
    records.unlink()
    job = evaluated(run, **order)
    gone = job.summary()
    assert "the training data records.jsonl cannot be read again." in seen_text(gone)
    assert str(tmp_path) not in seen_text(gone)
    assert gone.in_training.without is None
    assert all(e.in_training is None for e in job.examples())


def test_where_every_question_was_trained_on_it_is_remembering(run, tmp_path):
    learned = [json.loads(line)["Question"] for line in Path(run.settings().data.source).read_text().splitlines()]
    summary = evaluated(run, questions=asked(tmp_path / "q.jsonl", *learned[-2:]), choice_max_new_tokens=16).summary()
    assert summary.in_training.without is None
    assert "all of them, so what is measured is remembering" in seen_text(summary)


def test_a_short_answer_that_stands_in_its_question_is_only_said(tmp_path, tiny_model):
    path = write_records(tmp_path / "choice.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1] |= {"Question": "Gout or sepsis: which is it?", "Response": "Gout"}
    path.write_text("".join(json.dumps(r) + "\n" for r in lines))
    run = train(tmp_path / "runs", build(tiny_raw(tiny_model, path)))
    warnings = [e.message for e in evaluated(run).events()[0] if isinstance(e, Warned)]
    assert warnings == ["The short reference answers of 1 records stand in their own questions."]


@pytest.mark.parametrize("change", [{"bias": "all"}, {"modules_to_save": ["lm_head"]}])
def test_an_adapter_that_changes_more_than_lora_layers_is_refused(run, change):
    path = run.adapter_dir / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BadInput, match="more than LoRA layers"):
        evaluated(run)


def test_another_contract_than_the_adapters_stops_it_unless_it_is_forced(run):
    path = run.adapter_dir / "prompt_contract.json"
    contract = json.loads(path.read_text())
    path.write_text(json.dumps({**contract, "system": "Answer in Latin."}))
    words = "system: the adapter was trained with 'Answer in Latin.', this is None."
    with pytest.raises(BadInput) as refused:
        evaluated(run)
    assert words in str(refused.value)
    assert "--force" in str(refused.value)
    job = evaluated(run, force=True)
    assert job.summary().forced is True
    assert job.summary().notes == [f"Prompt contract: {words}"]
    page = (job.path / "report.html").read_text(encoding="utf-8")
    assert "this evaluation was forced" in page
    assert "Answer in Latin." in page


def test_what_measures_and_chose_too_is_told_unless_test_data_measures(run):
    from medcot.engine.evaluate import also_chose

    run.append(Kept(step=2, loss=1.5, ended_at=4))
    job = evaluated(run, records=1)
    (note,) = job.summary().notes
    assert "the adapter of step 2 was kept and the training ended at step 4 by the loss on the very records" in note
    assert note in cautions(job.summary()), "which page, terminal and card show"
    assert "What measures here chose too" in (job.path / "report.html").read_text(encoding="utf-8")
    order = EvaluationOrder(max_new_tokens=16)
    measure = records.Records.open(order, job.path, run.settings().data, None, False)
    assert also_chose(run, measure) == job.summary().notes
    settings = changed(run.settings(), "data", test="4")
    (run.path / "settings.json").write_text(settings.model_dump_json())
    assert also_chose(run, measure) == []


def test_an_adapter_folder_with_a_pickle_in_it_is_refused(run):
    (run.adapter_dir / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(BadInput, match="pickled files"):
        evaluated(run)


def test_an_adapter_without_its_contract_is_refused(run):
    (run.adapter_dir / "prompt_contract.json").unlink()
    with pytest.raises(BadInput, match="prompt_contract"):
        evaluated(run)


# ---- arms


def test_base_told_the_format_is_an_arm_of_its_own(run):
    summary = (job := evaluated(run, tell_base=True)).summary()
    assert list(summary.arms) == ["base", "base-told", "tuned"]
    assert list(summary.paired) == ["tuned-base", "tuned-base-told", "base-told-base"]
    plain = evaluated(run).examples()
    for told, before in zip(job.examples(), plain, strict=True):
        assert told.arms["base"].output == before.arms["base"].output
        assert told.arms["tuned"].output == before.arms["tuned"].output
    assert any(e.arms["base-told"].output != e.arms["base"].output for e in job.examples())


def test_checkpoints_of_a_run_are_arms_in_the_order_of_their_steps_on_a_base_that_is_loaded_once(run, monkeypatch):
    from medcot.engine.backends.peft import PeftBackend

    loads, load = [], PeftBackend.load
    monkeypatch.setattr(PeftBackend, "load", lambda *given, **named: loads.append(1) or load(*given, **named))
    job = evaluated(run, adapters=["checkpoints"])
    assert len(loads) == 1
    assert list(job.summary().arms) == ["base", "tuned", "checkpoint-2", "checkpoint-4"]
    assert {"checkpoint-2-base", "checkpoint-4-base"} <= job.summary().paired.keys()
    for example in job.examples():  # the last checkpoint is the adapter
        assert example.arms["checkpoint-4"].output == example.arms["tuned"].output
    assert any(e.arms["checkpoint-2"].output != e.arms["tuned"].output for e in job.examples())


def test_another_run_is_an_arm_and_the_same_one_again_is_not_told_from_base_by_more(run):
    twin = shutil.copytree(run.path, run.path.parent / "twin")
    (twin / "status.json").write_text((run.path / "status.json").read_text())
    summary = evaluated(run, adapters=["twin"]).summary()
    assert summary.paired["twin-base"] == summary.paired["tuned-base"]


def test_an_arm_under_another_contract_is_one_and_that_is_told(run):
    other = Path(shutil.copytree(run.path, run.path.parent / "told-otherwise"))
    path = other / "adapter" / "prompt_contract.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "system": "Answer briefly."}))
    settings = json.loads((other / "settings.json").read_text())
    settings["prompt"]["system"] = "Answer briefly."
    (other / "settings.json").write_text(json.dumps(settings))
    (note,) = evaluated(run, adapters=["told-otherwise"]).summary().notes
    assert note.startswith("told-otherwise is asked under its own prompt contract")
    assert note.endswith("(system).")


def test_folders_of_one_name_are_two_arms_and_checkpoints_of_several_processes_are_arms(run, tmp_path):
    from medcot.adapters.open import of_run
    from medcot.engine.answer.load import further_arms

    folders = [Path(shutil.copytree(run.adapter_dir, tmp_path / name / "adapter")) for name in ("a", "b")]
    for state in ("rng_state_0.pth", "rng_state_1.pth"):  # as a training in several processes leaves them
        (folders[1] / state).touch()
    found = further_arms(run, of_run(run), [str(f) for f in folders])
    assert {arm: adapter.path for arm, adapter in found.items()} == {"adapter": folders[0], "b/adapter": folders[1]}
    with pytest.raises(BadInput, match="is an arm already"):
        further_arms(run, of_run(run), [str(folders[0])] * 2)


def test_an_adapter_folder_called_as_a_part_of_an_example_is_an_arm_by_another_name(run):
    folder = shutil.copytree(run.adapter_dir, run.path.parent / "question")
    job = evaluated(run, adapters=[str(folder)], records=1)
    (example,) = job.examples()
    assert list(example.arms) == ["base", "tuned", "runs/question"]
    assert "runs/question-base" in job.summary().paired


def test_further_arms_that_cannot_be_are_all_named(run):
    foreign = Path(shutil.copytree(run.path, run.path.parent / "foreign"))
    events = (foreign / "events.jsonl").read_text()
    (foreign / "events.jsonl").write_text(events.replace("tiny-model@sha256", "another@sha256"))
    with pytest.raises(BadInput) as refused:
        evaluated(run, adapters=["checkpoint-9", "no-such-run", "foreign"])
    said = str(refused.value)
    assert "has kept no checkpoint-9; it has checkpoint-4, checkpoint-2" in said
    assert "no-such-run" in said
    assert "foreign was trained on another@sha256" in said


def test_an_adapter_folder_that_names_another_base_is_no_arm(run, tmp_path):
    from medcot.adapters.open import of_run
    from medcot.engine.answer.load import further_arms
    from medcot.settings import ModelSettings

    folder = Path(shutil.copytree(run.adapter_dir, tmp_path / "other"))
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    main = of_run(run).model_copy(update={"base": ModelSettings(id="meta-llama/Llama-3.2-3B-Instruct")})
    path.write_text(json.dumps({**config, "base_model_name_or_path": "unsloth/Qwen3-4B"}))
    with pytest.raises(BadInput, match=r"is an adapter for unsloth/Qwen3-4B, and this run's is for meta-llama"):
        further_arms(run, main, [str(folder)])
    path.write_text(json.dumps({**config, "base_model_name_or_path": "unsloth/llama-3.2-3b-instruct-bnb-4bit"}))
    assert list(further_arms(run, main, [str(folder)])) == ["other"]


def test_an_adapter_that_changes_nothing_gives_exactly_nothing_and_it_is_said(run):
    from safetensors.torch import load_file, save_file

    path = run.adapter_dir / "adapter_model.safetensors"
    save_file({k: v * (0 if "lora_B" in k else 1) for k, v in load_file(path).items()}, path, {"format": "pt"})
    summary = evaluated(run).summary()
    paired = summary.paired["tuned-base"]
    assert (paired.difference, paired.low, paired.high) == (0.0, 0.0, 0.0)
    assert paired.verdict == "not distinguishable"
    assert summary.notes == ["This adapter changes nothing: base and tuned give equal logits."]


# ---- multiple choice


def test_multiple_choice_is_a_measure_of_its_own(run):
    plain = run.latest_summary()
    job = evaluated(run, questions="starter", records=3, choice_max_new_tokens=16, tell_base=True)
    summary, examples = job.summary(), job.examples()
    assert (summary.kind, summary.data.records) == ("choice", 3)
    assert summary.metric == "accuracy of the last stated letter; unparsed is wrong"
    assert list(summary.arms) == ["base", "base-told", "tuned"]
    assert summary.floors == {"chance": 0.25, "most_common_letter": pytest.approx(1 / 3)}
    for arm, found in summary.arms.items():
        right = [e.arms[arm].scores["letter"] == e.reference.letter for e in examples]
        assert found["correct"] == sum(right)
        assert found["low"] <= found["accuracy"] <= found["high"]
        assert found["unparsed"] == sum(e.arms[arm].scores["letter"] is None for e in examples) / 3
    assert {"p_value", "win", "tie", "loss", "verdict"} <= summary.paired["tuned-base"].model_fields_set
    page = (job.path / "report.html").read_text(encoding="utf-8")
    assert "Right letter" in page
    assert "exact test p = " in page
    assert job.samples() == []
    assert run.latest_summary() == plain, "the headline of a run is that of its held-out records"


# ---- what the budget allows


def test_the_ceiling_is_what_the_cut_references_score(run):
    wide, narrow = (evaluated(run, max_new_tokens=n, records=1).summary().ceiling for n in (128, 16))
    assert wide == {"answer_rouge_l": 1.0, "truncated": 0.0, "truncated_before_answer": 0.0}
    assert narrow["answer_rouge_l"] == 0.0
    assert (narrow["truncated"], narrow["truncated_before_answer"]) == (1.0, 1.0)


def test_a_budget_that_the_tag_alone_uses_up_is_refused(run):
    with pytest.raises(BadInput, match=r"max_new_tokens: is 3, and the tag <think> alone takes \d+ tokens"):
        evaluated(run, max_new_tokens=3)


def test_the_variant_of_rouge_is_named_wherever_the_figures_are(run):
    job = evaluated(run, rouge="rougeLsum", stemmer=False)
    name = "rougeLsum F1, no stemmer"
    assert job.summary().metric == name
    assert name in (job.path / "report.html").read_text(encoding="utf-8")
    assert name in (job.path / "table.csv").read_text(encoding="utf-8")


# ---- what is left of the data


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no records"),
        ('{"Question": "Why?", "Complex_CoT": "So.", "Response": ""}\n' * 6, "record 1: has an empty Response"),
        ('{"Question": "Why?", "Complex_CoT": "So.", "Response": "x"}\n', "leaves none to train on"),
    ],
)
def test_data_without_records_or_references_is_refused_in_words(run, text, words):
    Path(run.settings().data.source).write_text(text)
    with pytest.raises(BadInput, match=words):
        evaluated(run)
