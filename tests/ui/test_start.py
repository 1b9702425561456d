"""What the worker of a run that is continued is given."""

import gradio as gr
import pytest

from medcot.errors import BadInput, Problem
from medcot.machine import has_cuda
from medcot.settings import RunSettings
from medcot.ui.train.cards import CARDS, Clock
from medcot.ui.train.open_run import OpenRun, Parts
from medcot.ui.train.start import Start, require_own_token
from medcot.workers import jobs
from tests.fakes import write_run


@pytest.fixture
def start(page) -> Start:
    with page.demo:
        parts = Parts(gr.Tabs())
        return Start(page, OpenRun(page), parts)


def test_continue_hands_on_the_typed_keys_and_then_the_fields_are_empty(page, start, monkeypatch):
    run, given = write_run(page.store, RunSettings(), "stopped"), []
    monkeypatch.setattr(jobs, "resume_training", lambda run, secrets: given.append((run.id, secrets)))
    view = start.resume(run.id, " wandb ", "")
    assert given == [(run.id, {"WANDB_API_KEY": "wandb"})]
    assert view[start.run.problems] == ""
    assert [view[key] for key in start.keys] == ["", ""]


def test_a_refused_continue_leaves_the_typed_keys(page, start, monkeypatch):
    def refuse(run, secrets):
        raise BadInput(Problem("--resume", "no."))

    monkeypatch.setattr(jobs, "resume_training", refuse)
    run = write_run(page.store, RunSettings(), "stopped")
    view = start.resume(run.id, "wandb", "")
    assert "no." in view[start.run.problems]
    assert not view.keys() & set(start.keys)


def test_on_a_space_continue_backs_up_with_a_typed_token_alone(page, start, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "ada/space")
    given = []
    monkeypatch.setattr(jobs, "resume_training", lambda run, secrets: given.append(secrets))
    run = write_run(page.store, RunSettings().replacing("training", backup="ada/run-1"), "stopped")
    assert "needs a token of yours" in start.resume(run.id, "", "")[start.run.problems]
    assert given == []
    assert start.resume(run.id, "", "hf_mine")[start.run.problems] == ""
    assert given == [{"HF_TOKEN": "hf_mine"}]


def test_on_a_space_a_backup_goes_by_a_typed_token_alone(monkeypatch):
    settings = RunSettings().replacing("training", backup="ada/run-1")
    require_own_token(settings, {})
    monkeypatch.setenv("SPACE_ID", "ada/space")
    require_own_token(settings, {"HF_TOKEN": "hf_mine"})
    with pytest.raises(BadInput, match="needs a token of yours"):
        require_own_token(settings, {})


def test_the_cards_are_made_once_for_all_tabs_until_something_has_moved(page):
    clock = Clock(page)
    first = clock.cards()
    assert clock.cards() is first
    write_run(page.store, RunSettings(), "finished")
    assert clock.cards() is not first


@pytest.mark.parametrize("more", ["/etc/shadow.jsonl", "OWNER/NAME", "starter; mine.csv weight=2"])
def test_the_page_reads_and_fetches_no_further_data_to_say_how_long_it_takes(start, monkeypatch, more):
    monkeypatch.setattr("medcot.data.load", lambda settings: pytest.fail(f"{settings.more} is read in the page"))
    values = [field.value for field in start.form.components]
    values[start.form.paths.index("data.more")] = more
    assert start.retimed(*values)["value"] == start.clock.words()
    told = start.described(values, (), *values)
    assert more.split()[0].rstrip(";") in told[start.command], "the form is one that a run could be started from"


def test_neither_the_cards_nor_a_changed_form_count_the_gpus_anew(page, start, monkeypatch):
    has_cuda()  # asked once for all
    monkeypatch.setattr("medcot.machine.gpus", lambda: pytest.fail("nvidia-smi is started"))
    write_run(page.store, RunSettings(), "finished")
    assert len(start.clock.cards()) == len(CARDS)
    values = [field.value for field in start.form.components]
    assert start.described(values, (), *values)[start.notes] == ""
