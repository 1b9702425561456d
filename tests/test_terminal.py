"""What the command line shows while a job runs and when it is done."""

import io
import os
import signal

import pytest
from rich.console import Console

from medcot import following, terminal
from medcot.errors import Problem
from medcot.events import PlanMade, Progress, Step, Validation, Warned
from medcot.jobdirs import Status
from medcot.runs import RunStore
from medcot.settings import build
from tests.test_report import example, summary_of


@pytest.fixture
def shown(monkeypatch):
    """Both consoles without a terminal, wide enough that nothing is wrapped; returns what was written."""
    written = {}
    for name in ("out", "err"):
        written[name] = io.StringIO()
        monkeypatch.setattr(terminal, name, Console(file=written[name], width=200, highlight=False))
    return lambda name="err": written[name].getvalue()


def test_a_path_is_never_broken_over_two_lines(shown):
    path = "/a/" + "long-name/" * 40
    terminal.problems([Problem("model.id", f"there is no folder {path}.")])
    terminal.ending("run", Status(state="failed", job="train", started=0, updated=0, error=path, hint=path))
    assert shown().count(path) == 3


def test_problems_say_where_what_and_what_to_do_whatever_they_quote(shown):
    terminal.problems([Problem("data [x].jsonl", "holds [bold]markup[/bold].", "Run [/] it.")])
    assert shown().strip() == "✗ data [x].jsonl: holds [bold]markup[/bold]. Run [/] it."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0, "0:00"), (59.6, "1:00"), (365, "6:05"), (3965, "1:06:05"), (360000, "100:00:00")],
)
def test_durations(seconds, text):
    assert terminal.duration(seconds) == text


def test_without_a_terminal_each_stage_is_a_line_and_not_each_step(shown):
    display = following.Display("Training")
    display.state("queued")
    for n in range(50):
        display.show(Progress(stage="Training", done=n, total=50, eta_seconds=90.0))
    display.show(Progress(stage="Saving"))
    lines = shown().splitlines()
    assert lines[-2:] == ["Training: Training 0/50  1:30 left", "Training: Saving"]
    assert len(lines) <= 3


def test_the_figures_of_a_run_are_told(shown):
    display = following.Display("Training")
    numbers = {"records": 12, "held_out": 4, "trainable_parameters": 50, "total_parameters": 1000}
    display.show(PlanMade(**numbers, truncated=3, total_steps=9, fingerprint="f", model="m"))
    display.show(Validation(step=4, loss=1.2345))
    display.show(Warned(message="checkpoint [x] is passed over"))
    text = shown()
    for words in (
        "12 training and 4 held-out",
        "9 steps",
        "(5.0%)",
        "3 records lose their end",
        "1.234",
        "checkpoint [x]",
    ):
        assert words in text


def test_following_a_job_ends_with_its_state_and_misses_no_event(shown, runs_dir, monkeypatch):
    run = RunStore(runs_dir).create(build({}))
    moments = []

    def next_moment(_seconds):
        """A worker's life, one act each time the reader sleeps."""
        moments.append(None)
        if len(moments) == 1:
            run.append(Validation(step=0, loss=3.0))
        elif len(moments) == 2:
            run.append(Validation(step=9, loss=1.0))
            run.write_status("finished")

    monkeypatch.setattr(following.time, "sleep", next_moment)
    monkeypatch.setattr(run, "worker_alive", lambda pid: True)
    assert following.follow(run, "Training").state == "finished"
    assert "step 0: validation loss 3.000" in shown()
    assert "step 9: validation loss 1.000" in shown()


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_asks_once_to_stop_wherever_it_comes_and_a_second_one_leaves(shown, runs_dir, monkeypatch, presses):
    run = RunStore(runs_dir).create(build({}))
    run.write_status("running")
    stopped, moments = [], []

    class Swallows:
        """As when the interpreter calls a finalizer: what is raised in there reaches nobody."""

        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)

    def next_moment(_seconds):
        moments.append(None)
        if len(moments) <= presses:
            Swallows()
        elif stopped:
            run.write_status("stopped")

    monkeypatch.setattr(following.time, "sleep", next_moment)
    monkeypatch.setattr(run, "worker_alive", lambda pid: True)
    monkeypatch.setattr(following.jobs, "stop", stopped.append)
    if presses == 1:
        assert following.follow(run, "Training").state == "stopped"
    else:
        with pytest.raises(KeyboardInterrupt):
            following.follow(run, "Training")
    assert stopped == [run]
    assert "Stopping after this step" in shown()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_summary_has_the_verdict_the_figures_and_their_floors(shown):
    terminal.summary(summary_of([example("a", 0.1, 0.2), example("b", 0.3, 0.7)]))
    text = shown("out")
    for words in (
        "Too few records for a verdict",
        "0.200",
        "0.450",
        "shuffled 0.120",
        "2 held-out records",
        "2 higher, 0 equal",
    ):
        assert words in text


def test_answers_show_a_models_text_as_text(shown):
    arm = {"reasoning": "[red]r[/red]", "answer": "a [/] b", "problems": ["<think> is not closed"]}
    terminal.answers("[bold]q?", {"base": {**arm, "answer": ""}, "tuned": arm})
    text = shown("out")
    for words in ("[bold]q?", "[red]r[/red]", "a [/] b", "(no answer)", "format: <think> is not closed"):
        assert words in text


def test_the_table_of_runs(shown, runs_dir):
    run = RunStore(runs_dir).create(build({}))
    run.write_status("failed")
    step = dict.fromkeys(
        ("epoch", "loss", "learning_rate", "grad_norm", "tokens_per_second", "eta_seconds", "gpu_memory_gib"), 0.0
    )
    for event in (
        Validation(step=0, loss=3.0),
        Step(step=7, total_steps=9, tokens_seen=1, **step),
        Validation(step=7, loss=2.0),
    ):
        run.append(event)
    evaluation = run.new_evaluation()
    evaluation.write_status("finished", job="evaluate")
    evaluation.write_summary(summary_of([example("a", 0.1, 0.2)]))
    terminal.out.print(terminal.run_table([run]))
    row = shown("out").splitlines()[-1]
    for words in (run.id, "failed", "7/9", "3.000 → 2.000", "0.100 → 0.200"):
        assert words in row
