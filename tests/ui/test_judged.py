"""What the page, the terminal and the model card show of a judge."""

import pytest

from medcot import data
from medcot.adapters.card import model_card
from medcot.cli import display
from medcot.evaluation.judge.licence import Check, Compared, Judged, Licence
from medcot.evaluation.summary import Summary, scores
from medcot.runs.store import RunStore
from medcot.settings.recipes import compose
from medcot.ui.evaluate.records import Wanted, listing
from medcot.ui.evaluate.results import results
from medcot.ui.evaluate.tab import EvaluateTab
from tests.fakes import CONTRACT, write_run
from tests.judges import write_evaluation

NEVER = "<script>alert(1)</script>"


@pytest.fixture
def run(tmp_path):
    return write_run(RunStore(tmp_path), compose("starter"), "finished", adapter=True)


def judged(run, *, licensed: bool):
    """An evaluation with a judge's figures and words, the first answer without any."""
    records = data.load(compose("starter").data).held_out[:12]
    job = write_evaluation(run, records, {"base": [r.answer for r in records], "tuned": ["", *["No."] * 11]})
    check = Check(tried=72, passed=72 if licensed else 1, ok=licensed)
    reasons = [] if licensed else [f"says no: {NEVER}"]
    compared = Compared(difference=-0.5, low=-0.8, high=-0.2, verdict="worse", win=0, tie=6, loss=6)
    found = Judged(
        model="m/judge", server="http://h", date="2026-11-29", prompts="abc", headline="judged_right",
        licence=Licence(passed=licensed, reasons=reasons, checks={"references": check}),
        paired={"tuned-base": compared}, requests=9,
    )  # fmt: skip
    written = job.summary().as_json() | {"judges": {"reference": found.model_dump()}}
    written["arms"]["base"]["judged_right"], written["arms"]["tuned"]["judged_right"] = 1.0, 0.5
    written["arms"]["tuned"]["wrong_steps"] = 0.25  # base wrote no reasoning
    examples = [
        e.model_copy(
            update={
                "base": e.arms["base"].model_copy(update={"judged": {"reference": [{"said": "wrong", "why": NEVER}]}})
            }
        )
        for e in job.examples()
    ]
    summary = Summary.model_validate(written)
    job.write_reports(summary, examples, [])
    return job, summary


def test_a_licensed_judge_comes_first_with_its_words_folded(run):
    job, summary = judged(run, licensed=True)
    page = results(job, summary)
    assert page.index("tuned is worse than base in right answers: −50.0 points") < page.index("mc-plots")
    assert page.index("<th scope=row>Right, says the judge") < page.rindex("<th scope=row>Answer ROUGE-L")
    assert "<tr class=mc-soft><th scope=row>Right" not in page
    questions = listing(job.examples(), "", Wanted())
    assert questions.count("The judge's words") == 12
    assert NEVER not in page + questions
    assert "reference: wrong. &lt;script&gt;" in questions


def test_an_unlicensed_judge_is_grey_everywhere_and_its_reasons_are_said(run, capsys):
    job, summary = judged(run, licensed=False)
    page, card, report = results(job, summary), model_card(run, CONTRACT), (job.path / "report.html").read_text()
    display.summary(summary)
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for face in (page, card, report, said):
        assert "Right, says the judge (not licensed)" in face
        assert "carry no verdict" in face
    assert "<tr class=mc-soft><th scope=row>Right, says the judge (not licensed)" in page
    assert '<tr class="soft"><td>Right, says the judge (not licensed)' in report
    assert NEVER not in page + report
    assert "references pass: 1 of 72 (refused)" in report
    assert "m/judge (2026-11-29, prompts abc): not licensed" in card
    assert scores(summary).rows[0] == ("Right, says the judge (not licensed)", "100.0%", "50.0%", "", "")


def test_an_arm_without_reasoning_has_no_share_of_wrong_steps(run):
    _, summary = judged(run, licensed=True)
    (row,) = [row for row in scores(summary).rows if row[0].startswith("Wrong steps")]
    assert row == ("Wrong steps of the reasoning (not licensed)", "none", "25.0%", "", "")  # no judge of steps is named


def test_an_open_page_shows_a_judge_as_soon_as_it_is_done(page):
    run = write_run(page.store, compose("starter"), "finished", adapter=True)
    job, summary = judged(run, licensed=True)
    job.write_summary(summary.model_copy(update={"judges": {}}))
    with page.demo:
        tab = EvaluateTab(page)
    before = tab.opened(run.id, None, None, None)
    assert "The judge m/judge" not in before[tab.table]
    job.write_summary(summary)
    after = tab.open(run.id, job.id, None, None, before[tab.shown])
    assert "The judge m/judge" in after[tab.table]
    again = tab.open(run.id, job.id, None, None, after[tab.shown])
    assert tab.table not in again  # what a reader has unfolded stays
