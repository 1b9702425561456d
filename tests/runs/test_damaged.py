"""A run folder with damaged or foreign files: each look shows the others, and says which file cannot be read."""

import copy
import json
import os
import shutil

import gradio as gr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcot.cli import display
from medcot.cli.runs import facts
from medcot.errors import BadInput
from medcot.evaluation.summary import Summary
from medcot.runs.events import Finished, Progress, Started, Validation
from medcot.runs.ids import name_of
from medcot.runs.job_dir import Status
from medcot.runs.run import Evaluation, Run
from medcot.runs.snapshot import cannot_be_read, listed
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.settings.evaluation import EvaluationOrder
from medcot.ui import TABS, components, progress
from medcot.ui.evaluate.records import FILTERS, ORDERS, Wanted, listing
from medcot.ui.evaluate.results import results, spoilt
from medcot.ui.job_reader import Reader
from medcot.ui.page import Page
from medcot.ui.side.comparison import Comparison, measured
from medcot.ui.side.run_list import PAGE, RunList, gain
from medcot.workers import jobs
from tests.evaluation.test_report import example, summary_of
from tests.fakes import FakeClient, write_run
from tests.runs.test_run import step

STATUS = {"state": "finished", "job": "train", "pid": None, "started": 1.0, "updated": 2.0}
EXAMPLES = [example(text) for text in "abc"]


def whole(store: RunStore) -> Run:
    """A run with an evaluation, as workers leave them."""
    events = [Started(job="train"), step(1), step(2), Validation(step=2, loss=2.0), Finished(seconds=3.0)]
    run = write_run(store, RunSettings(), "finished", events, adapter=True)
    evaluation = run.new_evaluation()
    evaluation.write_status("finished", job="evaluate")
    (evaluation.path / "settings.json").write_text(EvaluationOrder().model_dump_json())
    evaluation.write_summary(Summary.model_validate(summary_of(EXAMPLES)))
    (evaluation.path / "examples.jsonl").write_text("".join(json.dumps(e) + "\n" for e in EXAMPLES))
    return run


# The cards that show what is chosen.
OF_A_RUN = ("OpenRun", "EvaluateTab", "Curves", "TakePanel", "Picker", "RunList", "Comparison")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The page over a folder of runs; it stands through all tests, as it does for those who look."""
    with gr.Blocks() as demo:
        page = Page(demo, tmp_path_factory.mktemp("runs"), FakeClient())
        for build in (RunList, Comparison, *TABS.values()):
            build(page)
    return page


@pytest.fixture
def store(app) -> RunStore:
    yield app.store
    for run in app.store.root.iterdir():
        shutil.rmtree(run)


@pytest.fixture
def good(store) -> Run:
    return whole(store)


@pytest.fixture
def looks(app, store):
    """Looks at all runs in every way that lists them; returns everything that a card of the page would show."""

    def look() -> str:
        runs = store.list()
        display.runs(runs)
        for run in runs:
            json.dumps([run.id, run.shown_status().state, run.metrics(), facts(run)])
        nothing = {"Picker": [None, None, [], None, "old"], "EvaluateTab": [None] * 4 + ["old", ""]}
        nothing |= {"RunList": [None, "", PAGE, "old"], "Comparison": [None, "old"]}
        shown = []
        for see, inputs, _ in app._looks:
            name = see.__qualname__.partition(".")[0]
            values = nothing.get(name, [*[""] * (len(inputs) - 1), "old"])
            ids = [None, *(run.id for run in runs), "/".join(run.id for run in runs)]
            for chosen in ids if name in OF_A_RUN else values[:1]:
                shown += (see(chosen, *values[1:]) or {}).values()
        return "\n".join(map(str, shown))

    return look


def as_json(**changed):
    return json.dumps({**STATUS, **changed})


def without(key):
    return json.dumps({name: value for name, value in summary_of(EXAMPLES).items() if name != key})


def summary_with(**changed):
    return json.dumps({**summary_of(EXAMPLES), **changed})


def event(**changed):
    return json.dumps({**json.loads(step(3).model_dump_json()), **changed}) + "\n"


ARMS = summary_of(EXAMPLES)["arms"]
PAIRED = summary_of(EXAMPLES)["paired"]
SUMMARIES = {
    "an older shape, without floors": without("floors"),
    "without arms": without("arms"),
    "without a comparison": without("paired"),
    "no arms": summary_with(arms={}),
    "one arm": summary_with(arms={"base": ARMS["base"]}),
    "arms that are lists": summary_with(arms={"base": [], "tuned": []}),
    "an arm without its figures": summary_with(arms={"base": {}, "tuned": {}}),
    "a first arm without the main figure": summary_with(
        arms={**ARMS, "base": {key: value for key, value in ARMS["base"].items() if key != "answer_rouge_l"}}
    ),
    "a figure that is text": summary_with(arms={**ARMS, "tuned": {**ARMS["tuned"], "answer_rouge_l": "high"}}),
    "an infinite figure": summary_with(arms={**ARMS, "base": {**ARMS["base"], "answer_rouge_l": float("inf")}}),
    "an infinite floor": summary_with(floors={"echo": 0.27, "shuffled": 0.12, "empty": 0.0, "gold_reasoning": 1e308}),
    "an interval without an end": summary_with(
        paired={"tuned-base": {**PAIRED["tuned-base"], "low": -1e308, "high": float("inf")}}
    ),
    "a figure that is null": summary_with(arms={**ARMS, "tuned": {**ARMS["tuned"], "truncated": None}}),
    "a figure of 400 digits": summary_with(arms={**ARMS, "tuned": {**ARMS["tuned"], "answer_rouge_l": 10**400}}),
    "a comparison of unknown arms": summary_with(paired={**PAIRED, "gold-iron": PAIRED["tuned-base"]}),
    "another comparison only": summary_with(paired={"base-tuned": PAIRED["tuned-base"]}),
    "an empty ceiling": summary_with(ceiling={}),
    "a floor that is text": summary_with(floors={"echo": "low"}),
    "a list": "[1]",
    "cut": '{"schema": 1, "run"',
    "null": "null",
    "nothing": "",
    "nested": "[" * 100_000,
    "no text": b"\xff\xfe\x00",
}
STATUSES = {
    "times of 1e300": as_json(started=1e300, updated=1e300),
    "times before 1970": as_json(started=-1e12, updated=-1e12),
    "times that are none": '{"state": "finished", "job": "train", "started": NaN, "updated": NaN}',
    "pid -1": as_json(state="running", pid=-1),
    "pid 0": as_json(state="running", pid=0),
    "pid of 30 digits": as_json(state="running", pid=10**30),
    "a state of its own": as_json(state="resting"),
    "a list": "[]",
    "cut": '{"state": "runn',
    "nested": '{"a":' * 100_000,
}
EVENTS = {
    "Infinity as loss": event(loss=float("inf")),
    "NaN as loss": event(loss=float("nan")),
    "1e308 as loss": event(loss=1e308) + event(loss=-1e308),
    "steps of 400 digits": event(step=10**400, total_steps=10**400),
    "an infinite end": '{"type": "finished", "seconds": Infinity}\n',
    "a stage of 400 digits": json.dumps({"type": "progress", "stage": "s", "done": 10**400, "total": 1}) + "\n",
    "a stage of less than none": Progress(stage="s", done=3, total=-1, eta_seconds=-5).model_dump_json() + "\n",
    "steps below 0": event(step=-7, total_steps=-7),
    "zero bytes": b"\x00\xff{\n" * 50,
}
LINES = {
    "an empty object": "{}\n",
    "a number": "123\n",
    "no tuned": json.dumps({k: v for k, v in EXAMPLES[0].items() if k != "tuned"}) + "\n",
    "an arm that is text": json.dumps({**EXAMPLES[0], "base": "said"}) + "\n",
    "an infinite gain": json.dumps({**EXAMPLES[0], "gain": float("inf")}) + "\n",
    "choices without letters": json.dumps({**EXAMPLES[0], "options": {"A": "one"}, "reference": None}) + "\n",
}
OTHERS = {
    "about.json": ["[]", '{"name": 5}', "{", b"\xff"],
    "origin.json": ["[]", "{}", "7", "[" * 100_000, b"\xff"],
    "settings.json": ["[]", "{", '{"training": {"epochs": 0}}', b"\xff"],
    "comparisons.jsonl": ["{}\n1\n", b"\xff\n"],
}
DAMAGE = [
    *(("evaluation/*/summary.json", what, text) for what, text in SUMMARIES.items()),
    *(("status.json", what, text) for what, text in STATUSES.items()),
    *(("evaluation/*/status.json", what, text) for what, text in STATUSES.items()),
    *(("events.jsonl", what, text) for what, text in EVENTS.items()),
    *(("evaluation/*/events.jsonl", what, text) for what, text in EVENTS.items()),
    *(("evaluation/*/examples.jsonl", what, text) for what, text in LINES.items()),
    *((name, text[:20], text) for name, texts in OTHERS.items() for text in texts),
]
FILES = ["status.json", "events.jsonl", "worker.log", "about.json", "origin.json", "settings.json", "comparisons.jsonl"]
FILES += ["evaluation/*/" + name for name in ("status.json", "summary.json", "examples.jsonl", "settings.json")]


def file_of(run, pattern):
    """The file of that name; in the evaluation's folder, where the pattern says so."""
    folder, _, name = pattern.rpartition("/")
    return (run.evaluations()[0].path if folder else run.path) / name


@pytest.mark.parametrize(("name", "what", "content"), DAMAGE, ids=[f"{name}: {what}" for name, what, _ in DAMAGE])
def test_a_damaged_file_takes_nothing_from_the_other_runs(store, good, name, what, content, looks, capsys):
    bad = whole(store)
    data = content if isinstance(content, bytes) else content.encode()
    path = file_of(bad, name)
    path.write_bytes(data if path.suffix == ".json" else (path.read_bytes() if path.exists() else b"") + data)
    shown = looks()
    assert good.id in shown
    assert bad.id in shown
    assert good.id in capsys.readouterr().out


@pytest.mark.parametrize("thing", ["folder", "link to itself", "link to nowhere", "nothing"])
@pytest.mark.parametrize("name", FILES)
def test_something_else_in_a_files_place_takes_nothing_from_the_other_runs(store, good, name, thing, looks):
    bad = whole(store)
    path = file_of(bad, name)
    path.unlink(missing_ok=True)
    if thing == "folder":
        path.mkdir()
    elif thing != "nothing":
        path.symlink_to(path.name if "itself" in thing else "nowhere")
    assert good.id in looks()


@pytest.mark.parametrize("name", ["adapter", "checkpoints", "evaluation"])
@pytest.mark.parametrize("thing", ["file", "link to itself"])
def test_something_else_in_a_folders_place_takes_nothing_from_the_other_runs(store, good, name, thing, looks):
    bad = whole(store)
    shutil.rmtree(bad.path / name, ignore_errors=True)
    (bad.path / name).write_text("") if thing == "file" else (bad.path / name).symlink_to(name)
    assert good.id in looks()


@pytest.mark.parametrize("name", ["checkpoint-²", "checkpoint-٣", "checkpoint-", "checkpoint-7-copy", "checkpoint-007"])
def test_a_folder_that_is_called_much_like_a_checkpoint_is_none(store, good, name, looks):
    for made in (name, "checkpoint-2", "checkpoint-10"):
        (good.checkpoints_dir / made).mkdir(parents=True)
    (good.checkpoints_dir / "checkpoint-11").write_text("a file")
    assert [path.name for path in good.checkpoints()] == ["checkpoint-10", "checkpoint-2"]
    looks()


@pytest.mark.parametrize("name", ["summary.json", "examples.jsonl"])
def test_the_evaluation_says_which_file_cannot_be_read(store, good, name, looks):
    (evaluation,) = good.evaluations()
    with (evaluation.path / name).open("a") as file:
        file.write("{}\n")
    said = spoilt(evaluation, len(evaluation.examples()))
    assert name in said
    assert said in looks()


def test_lists_say_which_files_cannot_be_read(store, good, capsys):
    (evaluation,) = good.evaluations()
    for path in (good.path / "about.json", good.path / "settings.json", evaluation.path / "summary.json"):
        path.write_text("{")
    names = ("settings.json", "about.json", f"evaluation/{evaluation.id}/summary.json")
    assert listed(good).unreadable == names
    display.runs([good])
    said = " ".join(capsys.readouterr().out.split())
    assert "Cannot be read, and is left out: settings.json, about.json" in said
    assert cannot_be_read(listed(good)) == f"Cannot be read, and is left out: {', '.join(names)}."


def test_a_run_that_is_whole_has_nothing_to_say_of_its_files(good):
    assert listed(good).unreadable == ()
    assert spoilt(good.evaluations()[0], 3) == ""


# ---- any damage


ODD = [10**30, 10**400, -1, 1e300, -1e300, float("inf"), float("nan")]
NUMBERS = st.one_of(st.integers(-10, 10), st.sampled_from(ODD))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
CUTS = st.tuples(st.integers(0, 10_000), st.binary(max_size=6))


@st.composite
def damaged(draw, original: dict) -> bytes:
    """A file of that shape with some of its values replaced, missing or added, or with some of its bytes."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        inside = value
        while True:
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(inside[key], dict | list) and inside[key] and draw(st.integers(0, 3)):
                inside = inside[key]
                continue
            if draw(st.booleans()) and isinstance(inside, dict):
                del inside[key]
            else:
                inside[key] = draw(VALUES)
            break
    data = json.dumps(value).encode()
    if draw(st.integers(0, 4)) == 0:
        at, instead = draw(CUTS)
        at %= len(data)
        data = data[:at] + instead + data[at + len(instead) :]
    return data


def shows_each_evaluation(evaluation: Evaluation) -> None:
    summary = evaluation.summary()
    rows = evaluation.examples()
    if summary is None:
        assert "summary.json" in spoilt(evaluation, len(rows))
    else:
        results(evaluation, summary)
        gain(summary), list(measured(summary))
        display.summary(summary)
        json.dumps(summary.as_json())
    for order in ORDERS:
        listing(evaluation.examples(), "", Wanted(order, list(FILTERS)[:1]))


def shows_each_status(run: Run, rows: RunList, compared: Comparison) -> None:
    status = run.status()
    assert isinstance(status, Status)
    assert status.pid is None or status.pid > 0
    seen = Reader(RunStore(run.path.parent)).seen(run)
    progress.progress(run, status, seen, "")
    components.titled(run.id, status.state)
    row = rows.row(listed(run))
    assert run.id in row
    assert components.text(run.about().name or name_of(run.id)) in row
    assert dict(compared._told(listed(run)))["State"]
    display.runs([run])
    display.ending(run.id, status)


ANY = {"derandomize": True, "deadline": None, "database": None}
FEW, MANY = settings(max_examples=100, **ANY), settings(max_examples=5000, **ANY)


def any_summary(tmp_path_factory):
    run = whole(RunStore(tmp_path_factory.mktemp("runs")))
    (evaluation,) = run.evaluations()

    @given(damaged(summary_of(EXAMPLES)), damaged(EXAMPLES[0]))
    def check(summary, line):
        (evaluation.path / "summary.json").write_bytes(summary)
        (evaluation.path / "examples.jsonl").write_bytes(line + b"\n" + json.dumps(EXAMPLES[1]).encode() + b"\n")
        shows_each_evaluation(evaluation)
        display.runs([run])

    return check


def any_status(tmp_path_factory, monkeypatch):
    store = RunStore(tmp_path_factory.mktemp("runs"))
    run = whole(store)
    with gr.Blocks() as demo:
        page = Page(demo, store.root, FakeClient())
        rows, compared = RunList(page), Comparison(page)

    def refuse(*_):
        raise AssertionError("a damaged file must not end a process")

    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(os, "killpg", refuse)

    running = {**STATUS, "state": "running", "pid": 2**22 + 7, "error": "", "hint": ""}

    @given(damaged(running), damaged({"name": "a", "note": "b"}))
    def check(status, about):
        (run.path / "status.json").write_bytes(status)
        (run.path / "about.json").write_bytes(about)
        shows_each_status(run, rows, compared)

    return check


def test_any_summary_is_shown_or_named(tmp_path_factory):
    FEW(any_summary(tmp_path_factory))()


def test_any_status_is_shown_or_named(tmp_path_factory, monkeypatch):
    FEW(any_status(tmp_path_factory, monkeypatch))()


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_any_of_many_summaries_is_shown_or_named(tmp_path_factory):
    MANY(any_summary(tmp_path_factory))()


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_any_of_many_statuses_is_shown_or_named(tmp_path_factory, monkeypatch):
    MANY(any_status(tmp_path_factory, monkeypatch))()


def test_a_damaged_run_is_not_deleted_or_continued_by_mistake(store, good):
    (good.path / "status.json").write_text(as_json(state="running", pid=-1))
    for act in (jobs.stop, jobs.resume_training):
        with pytest.raises(BadInput):
            act(good)
    assert good.has_adapter
