"""What the command line shows while a job runs and when it is done."""

import io
import json
import os
import signal

import pytest

from medcot.cli import display as terminal
from medcot.cli import follow, options
from medcot.errors import Problem
from medcot.evaluation.answers import Shown
from medcot.evaluation.summary import Summary, scores
from medcot.runs.events import Finished, PlanMade, Progress, Step, Validation, Warned
from medcot.runs.job_dir import Status
from medcot.runs.plan import Audit, Histogram, Lengths
from medcot.runs.run import duration
from medcot.runs.store import RunStore
from medcot.safety.foreign import UNSEEN
from medcot.settings import build
from medcot.workers import jobs
from medcot.workers.slot import Slot, in_the_way
from tests.evaluation.test_report import example, summary_of, with_facts
from tests.fakes import write_run


@pytest.fixture
def shown(monkeypatch):
    """Both consoles without a terminal, wide enough that nothing is wrapped; returns what was written."""
    written = {}
    for name in ("out", "err"):
        written[name] = io.StringIO()
        monkeypatch.setattr(terminal, name, terminal.Terminal(file=written[name], width=200))
    return lambda name="err": written[name].getvalue()


def test_a_path_is_never_broken_over_two_lines(shown):
    path = "/a/" + "long-name/" * 40
    terminal.problems([Problem("model.id", f"there is no folder {path}.")])
    terminal.ending("run", Status(state="failed", job="train", started=0, updated=0, error=path, hint=path))
    assert shown().count(path) == 3


def test_problems_say_where_what_and_what_to_do_whatever_they_quote(shown):
    terminal.problems([Problem("data [x].jsonl", "holds [bold]markup[/bold].", "Run [/] it.")])
    assert shown().strip() == "✗ data [x].jsonl: holds [bold]markup[/bold]. Run [/] it."


HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eevil\u2066\r[bold]x[/bold] [/] :smile:"
SEEN = "‹U+001B›]0;title‹U+0007›‹U+001B›[2J‹U+009B›31m‹U+202E›evil‹U+2066›‹U+000D›[bold]x[/bold] [/] :smile:"


def _answers():
    said = Shown(output="", reasoning=HOSTILE, answer=HOSTILE, problems=[HOSTILE], truncated=False)
    terminal.answers(HOSTILE, {"base": said, "tuned": said})


def _follow():
    display = follow.Display(HOSTILE)
    display.show(Warned(message=HOSTILE))
    display.say(HOSTILE)


def _ending():
    state = Status(state="failed", job="train", started=0, updated=0, error=HOSTILE, hint=HOSTILE)
    terminal.ending(HOSTILE, state)


@pytest.mark.parametrize(
    ("show", "times"),
    [
        (lambda: terminal.problems([Problem(HOSTILE, HOSTILE, HOSTILE)]), 3),
        (lambda: terminal.notes([HOSTILE]), 1),
        (lambda: terminal.alarm([HOSTILE, HOSTILE]), 2),
        (_ending, 3),
        (_answers, 7),
        (_follow, 2),
        (lambda: options.echo(HOSTILE), 1),
        (lambda: options.say(False, {}, HOSTILE), 1),
    ],
    ids=["problems", "notes", "alarm", "ending", "answers", "follow", "echo", "say"],
)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_text_from_elsewhere_is_neither_markup_nor_a_command_to_the_terminal(
    show, times, is_terminal, monkeypatch, capsys
):
    written = io.StringIO()
    for name in ("out", "err"):
        console = terminal.Terminal(file=written, width=400, force_terminal=is_terminal, color_system=None)
        monkeypatch.setattr(terminal, name, console)
    show()
    text = written.getvalue() + capsys.readouterr().out
    assert text.count(SEEN) == times
    assert not UNSEEN.search(text)


def test_json_for_a_terminal_holds_no_command_and_says_the_same(capsys):
    options.emit({"name": HOSTILE, "ünseen": "\ufeff"})
    written = capsys.readouterr().out
    assert not UNSEEN.search(written)
    assert json.loads(written) == {"name": HOSTILE, "ünseen": "\ufeff"}


def test_what_is_being_done_may_read_like_markup(shown):
    with terminal.working("Fetching [/x]") as say:
        say("Loading [/bold]")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0, "0:00"), (59.6, "1:00"), (365, "6:05"), (3965, "1:06:05"), (360000, "100:00:00")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_without_a_terminal_each_stage_is_a_line_and_not_each_step(shown):
    display = follow.Display("Training")
    for n in range(50):
        display.show(Progress(stage="Training", done=n, total=50, eta_seconds=90.0))
    display.show(Progress(stage="Saving"))
    lines = shown().splitlines()
    assert lines[-2:] == ["Training: Training 0/50  1:30 left", "Training: Saving"]
    assert len(lines) <= 3


def test_the_figures_of_a_run_are_told(shown):
    display = follow.Display("Training")
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


def test_a_worker_that_starts_waits_for_nothing_and_one_that_waits_says_for_what(shown, runs_dir, monkeypatch):
    monkeypatch.setattr("medcot.runs.job_dir.JobDir.worker_alive", lambda self, pid: True)
    store = RunStore(runs_dir)
    display, run = follow.Display("Training"), write_run(store, build({}), "queued", pid=1)
    display.queued(run)
    assert shown() == ""
    other = write_run(store, build({}), "running", pid=1)
    for _ in range(3):
        display.queued(run)
    assert shown().count(f"waiting, because {other.id} has the device") == 1
    other.write_status("finished")
    display.queued(run)
    assert shown().count("waiting") == 1
    slot = Slot(store.root)
    assert slot.try_acquire(jobs.CHAT)
    display.queued(run)
    assert "waiting, because a chat has the device" in shown()
    slot.release()
    assert in_the_way(store, run) == ""
    before = write_run(store, build({}), "queued", pid=1)
    before.write_status("queued", pid=1)
    run.write_status("queued", pid=1)
    assert in_the_way(store, run) == "another job is before it"


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

    monkeypatch.setattr(follow.time, "sleep", next_moment)
    monkeypatch.setattr(run, "worker_alive", lambda pid: True)
    assert follow.follow(run, "Training").state == "finished"
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

    monkeypatch.setattr(follow.time, "sleep", next_moment)
    monkeypatch.setattr(run, "worker_alive", lambda pid: True)
    monkeypatch.setattr(follow.jobs, "stop", stopped.append)
    if presses == 1:
        assert follow.follow(run, "Training").state == "stopped"
    else:
        with pytest.raises(KeyboardInterrupt):
            follow.follow(run, "Training")
    assert stopped == [run]
    assert "Stopping after this step" in shown()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_summary_has_the_verdict_the_figures_and_their_floors(shown):
    terminal.summary(Summary.model_validate(summary_of([example("a", 0.1, 0.2), example("b", 0.3, 0.7)])))
    text = shown("out")
    assert "facts" not in text
    for words in (
        "Too few records for a verdict",
        "0.200",
        "0.450",
        "shuffled 0.120",
        "2 held-out records",
        "2 higher, 0 equal",
    ):
        assert words in text


def test_the_summary_shows_facts_before_wording_each_with_its_floors(shown):
    terminal.summary(Summary.model_validate(with_facts("x")[0]))
    text = shown("out")
    assert text.index("Facts named") < text.index("Answer ROUGE-L")
    assert "floors of facts named, no model needed: echo 12.5%, shuffled 0.0%" in text
    assert "floors of answer ROUGE-L, no model needed: echo 0.270" in text
    assert "facts named 97.5%" in text


def test_answers_show_a_models_text_as_text(shown):
    arm = {"output": "", "reasoning": "[red]r[/red]", "answer": "a [/] b", "problems": ["<think> is not closed"]}
    terminal.answers("[bold]q?", {"base": Shown(**{**arm, "answer": ""}), "tuned": Shown(**arm)})
    text = shown("out")
    for words in ("[bold]q?", "[red]r[/red]", "a [/] b", "(no answer)", "format: <think> is not closed"):
        assert words in text


def run_with_figures(runs_dir):
    run = RunStore(runs_dir).create(build({"name": "a name as long as names may be, or nearly so"}))
    run.write_status("failed")
    step = dict.fromkeys(
        ("epoch", "loss", "learning_rate", "grad_norm", "tokens_per_second", "eta_seconds", "gpu_memory_gib"), 0.0
    )
    for event in (
        Validation(step=0, loss=3.0),
        Step(step=7, total_steps=9, tokens_seen=1, **step),
        Validation(step=7, loss=2.0),
        Finished(seconds=65),
    ):
        run.append(event)
    evaluation = run.new_evaluation()
    evaluation.write_status("finished", job="evaluate")
    evaluation.write_summary(Summary.model_validate(summary_of([example("a", 0.1, 0.2)])))
    return run


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_runs_are_readable_at_any_width(monkeypatch, runs_dir, width):
    written = io.StringIO()
    monkeypatch.setattr(terminal, "out", terminal.Terminal(file=written, width=width))
    run = run_with_figures(runs_dir)
    terminal.runs([run])
    called, *lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert called == run.id, "an id in one piece can be copied"
    assert "…" not in written.getvalue(), "nothing is cut"
    text = " ".join(line.strip() for line in lines)
    for words in ("failed · step 7 of 9 · 1:05", "validation loss 3.000 → 2.000", "base 0.100, tuned 0.200"):
        assert words in text


@pytest.mark.parametrize("width", [50, 60, 80, 120, 200])
@pytest.mark.parametrize("stage", ["Training", "Answering with base, base-told, checkpoint-100 and tuned"])
def test_progress_is_readable_at_any_width(monkeypatch, width, stage):
    written = io.StringIO()
    monkeypatch.setattr(
        terminal, "err", terminal.Terminal(file=written, width=width, force_terminal=True, color_system=None)
    )
    display = follow.Display("2/2 Evaluation")
    display.show(Progress(stage=stage, done=10, total=500, eta_seconds=4000.0))
    terminal.err.print(display.progress.get_renderable())
    text = " ".join(written.getvalue().split())
    assert "…" not in text
    for word in ["2/2", "Evaluation:", *stage.split(), "2%", "1:06:40"]:
        assert word in text


@pytest.mark.parametrize("width", [50, 60, 80, 200])
def test_lengths_are_readable_at_any_width(monkeypatch, width):
    written = io.StringIO()
    monkeypatch.setattr(terminal, "out", terminal.Terminal(file=written, width=width))
    parts = dict.fromkeys(
        ("question", "reasoning", "answer", "whole"), Lengths(mean=1234, p50=1234, p95=12345, max=12345)
    )
    bars = dict.fromkeys(parts, Histogram(width=1.0, counts=list(range(1, 21))))
    terminal.lengths(Audit.model_construct(lengths=parts, histograms=bars))
    for word in ("…", "lon\n"):
        assert word not in written.getvalue()
    assert written.getvalue().count("12345") == 8
    assert "longest" in written.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_figures_of_three_arms_are_readable_at_any_width(monkeypatch, width):
    written = io.StringIO()
    monkeypatch.setattr(terminal, "out", terminal.Terminal(file=written, width=width))
    found = summary_of([example(str(n), 0.1, 0.2) for n in range(30)])
    found["arms"]["base-told"] = found["arms"]["base"]
    terminal.scores(scores(Summary.model_validate(found)))
    assert max(map(len, written.getvalue().splitlines())) <= width
    text = " ".join(written.getvalue().split())
    assert "…" not in text
    for words in ("Answer length / reference", "0.100", "+0.100", "+0.100 to +0.100", "100%"):
        assert words in text


def test_without_a_terminal_each_stage_is_a_line_once(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "err", terminal.Terminal(stderr=True, force_terminal=False))
    with terminal.working("Looking") as say:
        for stage in ("Loading the model", "Loading the model", "Answering, 3 tokens/s", "Answering, 4 tokens/s"):
            say(stage)
    assert capsys.readouterr().err.splitlines() == ["Loading the model", "Answering, 3 tokens/s"]
