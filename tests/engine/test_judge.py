"""Judges over HTTP: who is licensed, what they estimate, what is kept, and what is said where one misbehaves."""

import html
import json
import re
from dataclasses import replace

import pytest

from medcot import data
from medcot.engine import judge as engine
from medcot.errors import BadInput
from medcot.evaluation.answers import Reply
from medcot.evaluation.judge import rubric
from medcot.evaluation.judge.faults import FAULTS, plant
from medcot.evaluation.judge.labels import Label
from medcot.evaluation.summary import judgements, scores
from medcot.prompts.tags import completion_text
from medcot.runs import comparisons, judging
from medcot.runs.judging import Given
from medcot.runs.store import RunStore
from medcot.settings.evaluation import ServerSettings
from medcot.settings.judging import JudgeOrder
from medcot.settings.recipes import compose
from tests.fakes import write_run
from tests.judges import Server, biased, fair, noisy, reply, right, serving, write_evaluation


@pytest.fixture(scope="module")
def starter():
    return data.load(compose("starter").data)


@pytest.fixture
def run(tmp_path):
    return write_run(RunStore(tmp_path), compose("starter"), "finished")


def wrong(text: str, number: int) -> str:
    """The text with a planted fault, of one kind after the other where there is a place for it."""
    first = [*FAULTS][number % len(FAULTS)]
    return next(filter(None, (plant(kind, text) for kind in (first, *FAULTS))))


def evaluated(run, records, shares=(0.3, 0.5)):
    """Base and tuned answer with the reference, or with a fault in that share of the records."""
    answers = {
        arm: [wrong(r.answer, n) if (n * 7) % 10 < 10 * share else r.answer for n, r in enumerate(records)]
        for arm, share in zip(("base", "tuned"), shares, strict=True)
    }
    return write_evaluation(run, records, answers)


def judge(run, job, url, given=None, **asked):
    server = ServerSettings(url=url, concurrency=8, retries=asked.pop("retries", 0), timeout=20)
    judging.write_order(job, JudgeOrder(model="judge", server=server, **asked), given or Given())
    events = []
    engine.judge(run, job, events.append)
    return job.summary()


@pytest.mark.slow
@pytest.mark.parametrize(
    "passing", [(0, 11), pytest.param(range(12), marks=pytest.mark.thorough)], ids=["two", "twelve"]
)
def test_twelve_biases_are_refused_by_name_and_fair_judges_that_err_in_up_to_a_tenth_pass(run, starter, passing):
    job = evaluated(run, starter.held_out)
    answers = {e.question: e.answer for e in [*starter.held_out, *starter.train]}
    said, server = {}, Server()
    rules = biased(answers) | {f"fair {n}": noisy(n, 0.1 * n / 11) for n in passing}
    with serving(server) as url:
        for name, server.rule in rules.items():
            server.asked.clear()
            (job.path / judging.VERDICTS).unlink(missing_ok=True)
            said[name] = judge(run, job, url).judges["reference"].licence
    refused = {name: licence.reasons for name, licence in said.items() if not name.startswith("fair")}
    assert {name for name, reasons in refused.items() if not any(r.startswith(name) for r in reasons)} == set()
    assert {
        name: licence.reasons for name, licence in said.items() if name.startswith("fair") and not licence.passed
    } == {}
    assert len(refused) == 12
    assert all(len(licence.checks) == 14 for licence in said.values())


def test_figures_stand_in_one_table_that_every_face_shows(run, starter):
    job = evaluated(run, starter.held_out)
    with serving(Server()) as url:
        summary = judge(run, job, url)
    licence = summary.judges["reference"].licence
    assert (licence.passed, licence.reasons) == (True, [])
    base, tuned = (summary.arms[arm] for arm in ("base", "tuned"))
    assert (base["judged_right"], tuned["judged_right"]) == (16 / 24, 11 / 24)
    assert (base["judged_wrong"], tuned["judged_wrong"]) == (8 / 24, 13 / 24)
    assert base["judged_wrong_corrected"] == pytest.approx(8 / 24)
    table = scores(summary)
    assert table.rows[0][:3] == ("Right, says the judge", "66.7%", "45.8%")
    assert table.rows[0][3] == "-20.8 points"
    assert table.rows[2][1].startswith("33.3% (")  # with its interval
    assert table.grey == frozenset()
    (said,) = judgements(summary)
    assert said.startswith(
        "The judge judge, against the references (licensed): tuned is worse than base in right answers"
    )
    report, csv = ((job.path / name).read_text() for name in ("report.html", "table.csv"))
    assert said in html.unescape(report)
    assert "references pass: 72 of 72" in report
    assert "score,judged_right,tuned,0.458" in csv
    assert "licence,reference,judge,1.0" in csv
    example = job.examples()[0]
    assert [shown.judged for shown in example.arms.values()] == [["reference: wrong. as scripted"]] * 2
    kept = json.loads((job.path / judging.LICENCE).read_text())["reference"]
    assert (kept["model"], kept["licence"]["passed"], len(kept["prompts"])) == ("judge", True, 16)


def test_a_judge_without_a_licence_has_no_verdict_and_the_reasons_are_said(run, starter):
    job = evaluated(run, starter.held_out)
    with serving(Server(lambda prompt, answer: True)) as url:
        summary = judge(run, job, url)
    table = scores(summary)
    assert table.rows[0] == ("Right, says the judge (not licensed)", "100.0%", "100.0%", "", "")
    assert {0, 1} <= table.grey
    (said,) = judgements(summary)
    assert "not licensed, so its figures carry no verdict. Always says 'right'" in said
    assert "better" not in said
    assert said.replace("'", "&#39;") in (job.path / "report.html").read_text()


def test_what_was_answered_is_never_asked_again(run, starter):
    job = evaluated(run, starter.held_out)
    server = Server()
    with serving(server) as url:
        first = judge(run, job, url)
        asked = server.asked.total()
        again = judge(run, job, url)
        assert server.asked.total() == asked
        assert again.judges == first.judges
        judge(run, job, url, max_new_tokens=99)  # another judge, as it may say more
        assert server.asked.total() == 2 * asked


def test_a_server_that_stops_in_the_middle_loses_nothing(run, starter):
    job = evaluated(run, starter.held_out)
    server, answered = Server(), []

    def some(prompt):
        if server.asked.total() >= 100:  # of two requests in one moment both may count the other
            return 500, "overloaded"
        answered.append(prompt)
        return 200, reply(fair, prompt)

    server.answers = some
    with serving(server) as url:
        with pytest.raises(BadInput) as refused:
            judge(run, job, url)
        assert re.search(
            r"endpoint: (the case '\w+'|record \d+, \w+): .* answered HTTP 500: overloaded", str(refused.value)
        )
        assert "--resume" in str(refused.value)
        kept = set((job.path / judging.VERDICTS).read_text().splitlines())
        assert len(kept) == len(answered) > 90
        assert job.summary().judges == {}  # as it was
        server.answers = None
        server.asked.clear()
        judge(run, job, url)
    lines = (job.path / judging.VERDICTS).read_text().splitlines()
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == len(kept) + server.asked.total()


def test_a_busy_server_is_asked_again(run, starter, monkeypatch):
    from medcot.engine.answer import server as client

    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    job, server, busy = evaluated(run, starter.held_out), Server(), iter([429, 503, 429])
    server.answers = lambda prompt: (next(busy, 200), reply(fair, prompt))
    with serving(server) as url:
        assert judge(run, job, url, retries=3).judges["reference"].licence.passed


@pytest.mark.parametrize("text", ["", "I'm sorry, I cannot judge medical content.", "[1, 2]", '{"verdict": "perhaps"}'])
def test_replies_without_a_verdict_are_counted_and_named(run, starter, text):
    job, server = evaluated(run, starter.held_out), Server()
    answers = {e.arms["tuned"].answer for e in job.examples() if e.record in (3, 4)}
    server.answers = lambda prompt: (200, text if prompt.answer in answers else reply(fair, prompt))
    with serving(server) as url:
        summary = judge(run, job, url)
    (note,) = summary.judges["reference"].notes
    assert "replies held no verdict and count as 'cannot say'" in note
    assert "record 3, tuned" in note
    assert "record 4, tuned" in note
    assert summary.arms["tuned"]["judged_unsaid"] == 2 / 24


def test_a_judge_that_never_gives_a_verdict_is_told_so(run, starter):
    job, server = evaluated(run, starter.held_out), Server()
    server.answers = lambda prompt: (200, "As a language model I would rather not say.")
    with serving(server) as url:
        summary = judge(run, job, url)
    assert summary.judges["reference"].licence.reasons[0].startswith("no verdict: ")


def test_a_request_that_is_refused_is_left_out_and_a_server_that_refuses_all_is_told(run, starter):
    job, server = evaluated(run, starter.held_out), Server()
    third = job.examples()[2].question
    server.answers = lambda prompt: (400, "content filter") if prompt.question == third else (200, reply(fair, prompt))
    with serving(server) as url:
        summary = judge(run, job, url)
        (note,) = summary.judges["reference"].notes
        assert "record 3, base; record 3, tuned" in note
        assert "HTTP 400: content filter" in note
        assert "content filter" not in (job.path / judging.VERDICTS).read_text()  # it may not be refused next time
        server.answers = lambda prompt: (400, "no such model")
        with pytest.raises(BadInput, match="HTTP 400: no such model"):
            judge(run, job, url, max_new_tokens=99)


@pytest.mark.slow
def test_the_corrected_share_is_the_planted_one_within_two_points(run, starter):
    """300 records, of which 30 and 50% are wrong, by a judge that errs in 4% of its verdicts."""
    once = [*starter.held_out, *starter.train]
    more = [replace(e, record=e.record + len(once), question=f"{e.question} (Asked again.)") for e in once]
    records = [*once, *more][:300]
    job = evaluated(run, records)
    with serving(Server(noisy(4, 0.04))) as url:
        summary = judge(run, job, url)
    assert summary.judges["reference"].licence.passed
    assert abs(summary.arms["base"]["judged_wrong_corrected"] - 0.3) < 0.02
    assert abs(summary.arms["tuned"]["judged_wrong_corrected"] - 0.5) < 0.02


def test_two_answers_are_compared_in_both_orders(run, starter):
    job = evaluated(run, starter.held_out, shares=(0.5, 0.0))
    with serving(Server()) as url:
        summary = judge(run, job, url, how="pair")
        assert summary.judges["pair"].licence.reasons == []
        assert summary.arms["tuned"]["preferred"] == pytest.approx(0.5 + 0.5 * 13 / 24)
        assert judgements(summary)[0].startswith(
            "The judge judge, base beside tuned (licensed): tuned is better than base"
        )
        both = judge(run, job, url)  # against the references too: the other rows stay
    assert [*both.judges] == ["pair", "reference"]
    assert both.arms["tuned"]["preferred"] == summary.arms["tuned"]["preferred"]


def test_a_judge_that_prefers_what_stands_first_has_no_licence_in_pairs(run, starter):
    job = evaluated(run, starter.held_out)
    with serving(Server(biased({})["position"])) as url:
        summary = judge(run, job, url, how="pair")
    assert any(reason.startswith("position: ") for reason in summary.judges["pair"].licence.reasons)


def test_a_rubrics_points_are_counted_by_criterion(run, starter):
    job = evaluated(run, starter.held_out)
    criteria = {
        rubric.same(e.question): [
            rubric.Criterion(criterion=e.answer, points=6),
            rubric.Criterion(criterion="never met", points=4),
            rubric.Criterion(criterion=wrong(e.answer, n), points=-5),
        ]
        for n, e in enumerate(starter.held_out[:20])
    }
    with serving(Server()) as url:
        summary = judge(run, job, url, Given(rubric=rubric.Rubric(criteria=criteria)), how="rubric")
    assert summary.judges["rubric"].licence.reasons == []
    right, faulty = 0.6, -0.5  # of ten points that can be reached
    count = sum((n * 7) % 10 < 3 for n in range(20))
    assert summary.arms["base"]["rubric_points"] == pytest.approx((count * faulty + (20 - count) * right) / 20)


def test_the_reasoning_is_judged_step_by_step_and_apart(run, starter):
    job = evaluated(run, starter.held_out)
    server = Server(lambda p, answer: "Then that" not in answer and (answer.startswith("First") or fair(p, answer)))
    with serving(server) as url:
        summary = judge(run, job, url, reasoning=True)
    assert [*summary.judges] == ["reference", "steps"]
    assert (summary.arms["base"]["wrong_steps"], summary.arms["tuned"]["wrong_steps"]) == (0.5, 0.5)
    assert summary.judges["steps"].licence.reasons == []
    labels = [row[0] for row in scores(summary).rows]
    assert "Wrong steps of the reasoning" in labels


def test_people_correct_the_judge_and_may_take_its_licence(run, starter):
    job = evaluated(run, starter.held_out)
    truth = {
        (e.record, arm): e.arms[arm].answer == e.reference.answer for e in job.examples() for arm in ("base", "tuned")
    }
    labels = [Label(record=r, arm=arm, verdict="right" if ok else "wrong") for (r, arm), ok in truth.items() if r <= 16]
    against = [
        label.model_copy(update={"verdict": "wrong" if label.verdict == "right" else "right"}) for label in labels
    ]
    with serving(Server()) as url:
        agreed = judge(run, job, url, Given(labels=labels))
        disagreed = judge(run, job, url, Given(labels=against))
    people = agreed.judges["reference"].licence.people
    assert (people.judged_by_both, people.kappa, people.alpha) == (32, 1.0, 1.0)
    assert agreed.arms["base"]["labelled"] == 16
    assert agreed.arms["base"]["judged_wrong_corrected"] == pytest.approx(8 / 24, abs=0.02)
    assert "by what people said" in judgements(agreed)[0]
    (reason,) = disagreed.judges["reference"].licence.reasons
    assert re.fullmatch(r"disagrees with people: kappa -0\.9\d over 32 judgements", reason)


def test_blinded_comparisons_are_held_against_a_judge_of_pairs(run, starter):
    job = evaluated(run, starter.held_out)
    for n, e in enumerate(starter.held_out[:12]):
        texts = {"base": e.answer, "tuned": wrong(e.answer, n)}
        replies = {
            arm: Reply(text=completion_text("So.", text), ended="finished", tokens=1) for arm, text in texts.items()
        }
        judgement = comparisons.Judgement(reasoning="equal", answer="tuned", correct="base" if n else "tuned")
        one = comparisons.Comparison(
            run=run.id,
            model="m",
            question=e.question,
            group="g",
            a="base",
            decoding={},
            reading_seconds=1.0,
            judgement=judgement,
            **replies,
        )
        comparisons.append(run, one)
    server = Server()
    rules = {e.question: e.answer for e in starter.held_out}
    server.rule = lambda p, answer: right(p.reference or rules[p.question], answer)
    with serving(server) as url:
        people = judge(run, job, url, how="pair").judges["pair"].licence.people
    assert people.judged_by_both == 12
    assert people.kappa == pytest.approx(0.0)  # one disagreement, where the judge always says the same
