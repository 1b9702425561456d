"""Benchmarks by name, in the layouts that the Hub has them in, through the real client against a stub Hub."""

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from medcot.evaluation.benchmarks import BENCHMARKS
from medcot.settings import build
from tests import forkserver
from tests.conftest import tiny_raw, write_records
from tests.engine_tools import train
from tests.hub_stub import HubStub, Repo, answered

# Synthetic questions, in the columns and types of the real sets.
MEDQA = [
    {
        "question": f"A {age}-year-old has polyuria and thirst. Which organ fails?",
        "answer": "Pancreas",
        "options": {"A": "Liver", "B": "Spleen", "C": "Pancreas", "D": "Kidney"},
        "meta_info": "step1",
        "answer_idx": "C",
        "metamap_phrases": ["polyuria", "thirst"],
    }
    for age in (20, 40)
]
MEDMCQA = [
    {
        "id": f"{number}",
        "question": f"Vitamin number {number} that is missing in scurvy is",
        "opa": "A",
        "opb": "B12" if number != 2 else "",
        "opc": "C",
        "opd": "D",
        "cop": 2,
        "choice_type": "single",
        "exp": None,
        "subject_name": "Biochemistry",
        "topic_name": None,
    }
    for number in (1, 2, 3)
]
PUBMEDQA = [
    {
        "pubid": 21645374,
        "question": "Do mitochondria matter?",
        "context": {
            "contexts": ["They were looked at.", "They moved."],
            "labels": ["BACKGROUND", "RESULTS"],
            "meshes": ["Plants"],
            "reasoning_required_pred": ["y"],
            "reasoning_free_pred": ["y"],
        },
        "long_answer": "They did.",
        "final_decision": "maybe",
    }
]


@dataclass
class Published(Repo):
    """A repository at the commit that a benchmark is pinned to."""

    commit: str = ""

    @property
    def sha(self) -> str:
        return self.commit


def parquet(rows: list[dict]) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


@pytest.fixture
def hub():
    content = {
        "medqa": "".join(json.dumps(row) + "\n" for row in MEDQA).encode(),
        "medmcqa": parquet(MEDMCQA),
        "pubmedqa": parquet(PUBMEDQA),
    }
    repos = {}
    for name, known in BENCHMARKS.items():
        files = {known.file: content[name], "script.py": b"raise SystemExit('it was run')", "README.md": b"x"}
        repos[known.source] = Published(files, commit=known.revision)
    with HubStub({}, repos) as stub:
        yield stub


_RESOLVED = """
import json, sys
from medcot.errors import BadInput
from medcot.evaluation.benchmarks import resolved
from medcot.settings.evaluation import EvaluationOrder
answers = []
for questions in sys.argv[1:]:
    try:
        order, found = resolved(EvaluationOrder(questions=questions))
        asked = [[q.record, q.question, q.options, q.letter] for q in found.asked]
        answers.append([order.questions, order.revision, asked, found.left_out])
    except BadInput as bad:
        answers.append(str(bad))
print(json.dumps(answers))
"""


def resolved(endpoint: str, *questions: str, **environment: str) -> list:
    return answered(endpoint, _RESOLVED, *questions, **environment)


def test_each_is_read_at_its_pinned_commit_from_one_file_and_no_script_is_asked_for(hub):
    medqa, medmcqa, pubmedqa = resolved(hub.endpoint, "medqa", "MedMCQA", "pubmedqa")
    for found, name in ((medqa, "medqa"), (medmcqa, "medmcqa"), (pubmedqa, "pubmedqa")):
        assert found[:2] == [name, BENCHMARKS[name].revision]
    assert medqa[2][1] == [2, MEDQA[1]["question"], MEDQA[1]["options"], "C"]
    options = {"A": "A", "B": "B12", "C": "C", "D": "D"}
    assert [q[0] for q in medmcqa[2]] == [1, 3], "the record without an option's text is left out, and no other"
    assert medmcqa[2][1] == [3, MEDMCQA[2]["question"], options, "C"], "the Hub counts the right option from 0"
    assert list(medmcqa[3]) == ["2"]
    assert "options" in medmcqa[3]["2"]
    question = "They were looked at.\nThey moved.\nDo mitochondria matter?"
    assert pubmedqa[2] == [[1, question, {"A": "yes", "B": "no", "C": "maybe"}, "C"]]
    fetched = {request.rpartition("/")[2] for request in hub.asked("/resolve/")}
    assert fetched == {known.file.rpartition("/")[2] for known in BENCHMARKS.values()}

    offline = {"HF_HUB_OFFLINE": "1"}
    assert resolved("http://127.0.0.1:9", "medqa", **offline) == [medqa], "what was fetched once is at hand"


def test_another_revision_is_resolved_to_its_commit_and_what_is_missing_is_told(hub):
    known = BENCHMARKS["medqa"]
    at_main, gone = resolved(hub.endpoint, "medqa@main", "medqa@v9")
    assert at_main[:2] == ["medqa", known.revision]
    assert gone.startswith("--questions: there is no benchmark GBaker/MedQA-USMLE-4-options at revision v9")
    repo = hub.datasets[known.source]
    repo.files = {"data/test.parquet": b"x", "README.md": b"x"}
    moved, unreachable = resolved(hub.endpoint, "medqa@main"), resolved("http://127.0.0.1:9", "pubmedqa")
    assert f"has no file {known.file}; it has data/test.parquet." in moved[0]
    assert "cannot be reached" in unreachable[0]
    assert unreachable[0].startswith("--questions: ")
    (uncached,) = resolved(hub.endpoint, "pubmedqa", HF_HUB_OFFLINE="1")
    assert "qiaojin/PubMedQA is not in the local cache" in uncached


@pytest.mark.slow
def test_an_evaluation_names_source_commit_prompt_budget_and_parsing(hub, tiny_model, runs_dir, tmp_path):
    run = train(runs_dir, build(tiny_raw(tiny_model, write_records(tmp_path / "records.jsonl"))))
    words = ("--questions", "medmcqa", "--set", "evaluation.choice_max_new_tokens=16", "--json")
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint}
    done = forkserver.run("medcot", "evaluate", run.id, "--runs-dir", runs_dir, *words, env=environment)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)["summary"]
    known = BENCHMARKS["medmcqa"]
    assert summary["data"]["source"] == known.source
    assert summary["data"]["revision"] == known.revision
    assert summary["data"]["records"] == 2
    assert "{question}" in summary["prompt"]
    assert summary["decoding"]["max_new_tokens"] == 16
    assert summary["metric"] == "accuracy of the last stated letter; unparsed is wrong"
    assert any(note.startswith("1 records cannot be asked and are left out: 2.") for note in summary["notes"])
    (job,) = run.evaluations()
    assert [e.record for e in job.examples()] == [1, 3], "numbers are those of the published file"
    assert job.order().questions == "medmcqa"
    page = (job.path / "report.html").read_text(encoding="utf-8")
    for words in (known.source, known.revision, "16 new tokens", "unparsed is wrong", "the prompt of HuatuoGPT-o1"):
        assert words in page
    assert "the prompt of HuatuoGPT-o1" in Path(job.path / "table.csv").read_text(encoding="utf-8")
