"""No word of the command line in any problem of the page: no option, no `medcot` command, no internal name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import medcot
from medcot.errors import BadInput, Failure, Problem
from medcot.runs.run import Run
from medcot.settings import RunSettings, fields
from medcot.settings.recipes import compose
from medcot.ui import components as c
from medcot.ui import progress
from medcot.ui.form import Form
from medcot.workers import jobs, preflight
from medcot.workers.adopt import Elsewhere, adopt
from tests.fakes import write_run

HOUSE = Path(medcot.__file__).parent
COMMAND_LINE = re.compile(
    r"--[a-z]|\bmedcot (train|evaluate|ask|stop|runs|show|plan|publish|export|score|init-config)\b"
)
# Texts with such words that no problem of the page holds, by module: what they are instead.
ELSEWHERE = {
    "data/starter/__init__.py": "options of pip",
    "engine/answer/local_judges.py": "judging, which is a command and no part of the page",
    "engine/deployed.py": "measuring an exported file, which is a command and no part of the page",
    "engine/export.py": "a command in an export's own README",
    "engine/gguf/readme.py": "a command in an export's own README",
    "engine/launcher.py": "options of torchrun",
    "engine/tracking/files.py": "commands of TensorBoard and trackio, which a log names",
    "evaluation/judge/labels.py": "judging",
    "evaluation/judge/rubric.py": "judging",
    "settings/judging.py": "judging",
    "machine.py": "options of nvidia-smi",
    "settings/evaluation.py": "options that name a server, read before there is a page",
    "ui/chart.py": "variables of a style",
    "ui/commands.py": "the same on the command line, shown as such",
    "ui/components.py": "the pattern that finds such words",
    "ui/form.py": "the same on the command line, shown as such",
    "ui/gate.py": "the answer to a name that the page does not answer to",
    "ui/login.py": "what is refused before there is a page",
    "ui/serve.py": "what is refused before there is a page",
    "ui/theme.py": "variables of a style",
}
# Texts for a terminal: what the page says instead stands beside them, or the page makes no such input.
TERMINAL = {
    "adapters/push.py": ["Add --public if that is meant, or choose another name."],
    "engine/answer/load.py": ["{}, or go on all the same with --force, which the report will say."],
    "engine/outcome.py": ["Ask fewer at once: medcot evaluate RUN --set evaluation.batch_size=8"],
    "settings/build.py": ["`medcot init-config` prints all of them."],
    "settings/recipes.py": [
        "# medcot run settings. Use: medcot train --config THIS_FILE",
        "--set {}",
        "`medcot init-config` prints a file to start from.",
    ],
    "workers/adopt.py": ["--set {}"],
}


def said(text: str) -> str:
    return c.problems([Problem("", text)])


def texts(path: Path) -> Iterator[str]:
    """Every text of a module but its docstrings; {} for what is filled in."""
    tree, inner = ast.parse(path.read_text(encoding="utf-8")), set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            inner.add(id(node.value))  # a docstring
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)


def test_every_text_that_can_become_a_problem_is_said_without_a_word_of_the_command_line():
    found: dict[str, set[str]] = {}
    for path in HOUSE.rglob("*.py"):
        name = path.relative_to(HOUSE).as_posix()
        if not name.startswith("cli/") and name not in ELSEWHERE:
            wrong = {text for text in texts(path) if COMMAND_LINE.search(said(text))}
            found |= {name: wrong} if wrong else {}
    assert found == {name: set(wrong) for name, wrong in TERMINAL.items()}


def problems_of(do) -> list[Problem]:
    with pytest.raises(BadInput) as refused:
        do()
    return refused.value.problems


def test_what_the_form_can_get_wrong_is_said_in_the_pages_words(page, tmp_path):
    with page.demo:
        form = Form("starter")
    values = {path: component.value for path, component in zip(form.paths, form.components, strict=True)}
    found: list[Problem] = []
    for wrong in ("", "-1", "many", "1e99", "../x", "https://x.test/a", "owner/na me", "😀", "x" * 5000):
        for path in fields():
            if path != "recipe" and isinstance(values[path], str):
                try:
                    form.settings([values[p] if p != path else wrong for p in form.paths])
                except BadInput as bad:
                    found += bad.problems
    (tmp_path / "columns.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    for pairs in (
        [f"data.source={tmp_path / 'columns.csv'}", "data.question_column=x"],
        ["data.source=missing.csv"],
        ["model.quantization=4bit"],
        ["model.id=./nowhere"],
        ["training.processes=3"],
        ["data.held_out=5000"],
    ):
        found += problems_of(lambda pairs=pairs: preflight.prepare(lambda: compose("starter", None, pairs)))
    assert len(found) > 100
    for problem in found:
        assert not COMMAND_LINE.search(c.problems([problem])), problem


def test_what_a_job_refuses_or_died_of_is_said_in_the_pages_words(page):
    run = write_run(page.store, RunSettings(), "finished")
    gone = write_run(page.store, RunSettings(), "running", pid=2**30)
    refusals = [
        lambda: jobs.resume_training(run),
        lambda: jobs.resume_training(write_run(page.store, RunSettings(), "stopped")),
        lambda: jobs.stop(run),
        lambda: jobs.start_evaluation(run),
        lambda: page.store.get("nothing"),
        lambda: adopt(page.store, Elsewhere(name="./nowhere", data=None, pairs=[], style=None, base=None)),
    ]
    shown = [c.problems(problems_of(refuse)) for refuse in refusals]
    (gone.checkpoints_dir / "checkpoint-3").mkdir(parents=True)
    assert gone.status().state == "interrupted"
    shown.append(progress.ending(gone, gone.status(), page.reader.seen(gone)))
    assert "Press Continue from the checkpoint" in shown[-1]
    from medcot.engine.outcome import explain

    for error in (
        OSError(28, "No space left on device"),
        MemoryError(),
        RuntimeError("CUDA out of memory"),
        ValueError(),
    ):
        for evaluating in (True, False):
            failure = explain(error, evaluating=evaluating)
            failed = write_run(page.store, RunSettings(), "running")
            failed.write_status("failed", failure=Failure.model_validate_json(failure.model_dump_json()))
            shown.append(progress.ending(failed, failed.status(), page.reader.seen(failed)))
    for text in shown:
        assert not COMMAND_LINE.search(text), text
        assert str(page.store.root) not in text or "no run" in text


def test_a_run_of_another_version_tells_its_old_status_as_it_is(page):
    run: Run = write_run(page.store, RunSettings(), "failed", error="It broke.", hint="Start again.")
    status = run.status().model_copy(update={"problems": []})
    assert "It broke." in progress.ending(run, status, page.reader.seen(run))
