"""Blinded comparisons: kept line by line, counted with an interval, exported for a spreadsheet."""

import csv
import io
import os
import stat
import threading

import pytest
from scipy.stats import binomtest

from medcot.errors import BadInput
from medcot.evaluation.answers import Reply
from medcot.runs import comparisons as k
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from tests.fakes import write_run


@pytest.fixture
def run(runs_dir):
    return write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True)


def output(text):
    return Reply(text=text, ended="finished", tokens=9, first_token_seconds=0.1, seconds=1.5)


def comparison(answer="tuned", group="cardiac", question="Why?", **judged):
    return k.Comparison(
        run="r",
        model="m",
        question=question,
        group=group,
        a="tuned",
        base=output("just words"),
        tuned=output("<think>\na\n</think>\n<response>\nb\n</response>"),
        decoding={"max_new_tokens": 20, "temperature": 0, "top_p": 1, "seed": 42},
        reading_seconds=12.34,
        judgement=k.Judgement(reasoning="equal", answer=answer, **judged),
    )


def test_what_is_saved_is_read_again_and_only_its_owner_may(run):
    first, second = comparison(), comparison("base", harm=("base",), comment="ä\n“b”")
    k.append(run, first)
    k.append(run, second)
    assert k.read(run) == [first, second]
    assert stat.S_IMODE(k.path_of(run).stat().st_mode) == 0o600


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_cut_by_a_crash_loses_no_other(run, end):
    k.append(run, comparison())
    with k.path_of(run).open("a") as file:
        file.write('{"schema_version": 1, "id"' + end)
    k.append(run, comparison("base"))
    assert [c.judgement.answer for c in k.read(run)] == ["tuned", "base"]


def test_a_line_cut_in_the_middle_of_a_character_loses_no_other(run):
    k.append(run, comparison())
    with k.path_of(run).open("ab") as file:
        file.write('{"question": "ü'.encode()[:-1])
    k.append(run, comparison("base"))
    assert [c.judgement.answer for c in k.read(run)] == ["tuned", "base"]


def test_a_disk_that_takes_half_a_line_is_no_saved_judgement(run, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, line: write(handle, line[:20]))
    with pytest.raises(BadInput, match="cannot be written: No space left"):
        k.append(run, comparison())


def test_readers_who_save_at_once_lose_nothing(run):
    savers = [threading.Thread(target=k.append, args=(run, comparison(question="x" * 5000))) for _ in range(8)]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    assert len(k.read(run)) == 8


def test_a_folder_that_cannot_be_written_is_said(run):
    k.path_of(run).mkdir()
    with pytest.raises(BadInput, match="cannot be written"):
        k.append(run, comparison())


def test_shares_count_those_who_preferred_either_by_group():
    told = [comparison(a) for a in ("tuned", "tuned", "base", "equal")] + [comparison("base", group="diabetes")]
    by_group = {name: k.share(members, "answer") for name, members in k.groups(told).items()}
    assert by_group == {"cardiac": k.Share(2, 1, 1), "diabetes": k.Share(0, 0, 1)}
    assert by_group["cardiac"].share == pytest.approx(2 / 3)
    nobody = k.share(told, "reasoning")
    assert nobody.share is None
    assert nobody.interval == (0, 1)
    assert k.share(told, "safe") == k.Share(0, 0, 0), "what was not judged counts nowhere"


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (3, 10), (50, 100), (999, 1000)])
def test_the_interval_is_wilsons(successes, trials):
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert k.wilson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_csv_holds_both_outputs_in_parts_and_starts_no_formula():
    told = [comparison(harm=("tuned",), comment='=HYPERLINK("http://x")', question="-1, or\n“+1”?"), comparison()]
    first, second = csv.DictReader(io.StringIO(k.to_csv(told), newline=""))
    assert first["comment"] == '\'=HYPERLINK("http://x")'
    assert first["question"] == "'-1, or\n“+1”?"
    assert (first["tuned_reasoning"], first["tuned_answer"], first["base_answer"]) == ("a", "b", "just words")
    assert (first["harm_base"], first["harm_tuned"], second["harm_tuned"]) == ("0", "1", "0")
    assert (first["better_answer"], first["better_safe"]) == ("tuned", "")


FORMULAS = [
    "=1+1",
    " =1+1",
    "\n=1+1",
    "\r=1",
    "\t=1",
    "＝1+1",
    "\u200b=1",
    "\ufeff@x",
    "\u00a0+1",
    "－1",
    "\x00=1",
    "＠SUM(1)",
    "\x1b=1",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_cell_that_a_spreadsheet_would_read_as_a_formula_is_marked_as_text(text):
    (row,) = csv.DictReader(io.StringIO(k.to_csv([comparison(question=text)]), newline=""))
    assert row["question"] == f"'{text}"


@pytest.mark.parametrize("text", ["1 = 1", "a-b", "", " ", "β-blocker", "（=）"])
def test_a_cell_that_is_text_stays_as_it_is(text):
    (row,) = csv.DictReader(io.StringIO(k.to_csv([comparison(question=text)]), newline=""))
    assert row["question"] == text
