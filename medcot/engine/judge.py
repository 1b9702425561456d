"""A judge over the answers of an evaluation: asked what is not known yet, tried first, and written into the summary."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime

from medcot.engine.answer.judges import Judge, Said, ServerJudge
from medcot.evaluation.answers import Example
from medcot.evaluation.judge import examination, figures
from medcot.evaluation.judge.asking import PROMPTS_HASH, UNREADABLE, Ask, Verdict, Way
from medcot.evaluation.judge.examination import Examination
from medcot.evaluation.judge.figures import Columns, Wanted
from medcot.evaluation.judge.licence import Judged, Licence
from medcot.evaluation.metrics import Interval
from medcot.evaluation.summary import Summary
from medcot.runs import judging
from medcot.runs.events import Progress, Report
from medcot.runs.judging import Replies
from medcot.runs.run import Evaluation, Run
from medcot.settings.judging import JudgeOrder

SECONDS = 0.5  # between reports of progress


def judge(run: Run, job: Evaluation, report: Report) -> None:
    """Try the judge, ask it what is left, and write its figures and licence into the evaluation.

    Raises BadInput if the judge cannot be had or gives up; what it said is kept, and is not asked again.
    """
    order = judging.order_of(job)
    summary, examples = judging.require_answers(run, job)
    given = judging.given_of(job, order, examples)
    with closing(opened(order, report)) as model:
        asking = Asking(model, Replies(job, order.identity), report)
        for exam in judging.examinations(run, order, given, summary, examples, rewords=model.writes):
            summary, examples = judged(exam, order, asking, summary, examples)
    judging.write_licences(job, summary.judges)
    job.write_reports(summary, examples, job.samples())


def opened(order: JudgeOrder, report: Report) -> Judge:
    """The judge that the order names. Raises BadInput if it cannot be had."""
    if order.server is None:
        from medcot.engine.answer.local_judges import open_local

        return open_local(order, report)
    judge = ServerJudge(order.server, order.model, order.max_new_tokens)
    judge.require_model()
    return judge


class Asking:
    """Requests on their way to the judge, without those that it has answered."""

    def __init__(self, judge: Judge, replies: Replies, report: Report):
        self._judge, self.replies, self._report = judge, replies, report
        self._told = 0.0

    def all(self, stage: str, asks: Mapping[Ask, str]) -> None:
        """Ask what has no reply yet; each request has a name for people, of a record or a case."""
        left = [ask for ask in asks if self.replies.get(ask) is None]
        done, started = len(asks) - len(left), time.monotonic()
        count = [0]
        self._report(Progress(stage=stage, done=done, total=len(asks)))

        def take(ask: Ask, said: Said) -> None:
            self.replies.add(ask, *said)
            count[0] += 1
            now = time.monotonic()
            if now - self._told > SECONDS:
                self._told = now
                eta = (now - started) / count[0] * (len(left) - count[0])
                self._report(Progress(stage=stage, done=done + count[0], total=len(asks), eta_seconds=eta))

        self._judge.ask(left, asks.__getitem__, take)


def judged(
    exam: Examination, order: JudgeOrder, asking: Asking, summary: Summary, examples: Sequence[Example]
) -> tuple[Summary, list[Example]]:
    """One way of asking, from the first request to the summary and examples with its figures."""
    rewordings = exam.rewordings()
    asking.all("Trying the judge", dict.fromkeys(rewordings.values(), "own words"))
    texts = {text: reply.text for text, ask in rewordings.items() if (reply := asking.replies.get(ask))}
    trials, wanted = exam.trials(texts), exam.wanted()
    asking.all("Trying the judge", {ask: f"the case {t.check!r}" for t in trials for ask in t.asks})
    beside = {ask: f"the comparison {key}" for key, pair in exam.beside_people() for ask in pair}
    asking.all("Judging", {**{one.ask: str(one) for one in wanted}, **beside})
    asks = {ask for t in trials for ask in t.asks} | {one.ask for one in wanted} | beside.keys()
    verdicts = {ask: asking.replies.verdict(ask) for ask in asks}
    licence = exam.licence(trials, verdicts, wanted)
    columns, arms = exam.figures(verdicts, wanted, licence)
    found = of_judge(exam, order, verdicts, wanted, licence, columns, summary)
    return merged(summary, exam.way, found, arms, columns), noted(examples, exam.way, wanted, verdicts)


def of_judge(
    exam: Examination,
    order: JudgeOrder,
    verdicts: Mapping[Ask, Verdict],
    wanted: Sequence[Wanted],
    licence: Licence,
    columns: Columns,
    summary: Summary,
) -> Judged:
    """What summary.json says of the judge."""
    row = figures.HEADLINES[exam.way]
    compared = figures.compared({row: columns[row]}, exam.arms, summary.decoding.seed)
    return Judged(
        model=order.model,
        server=order.where,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        prompts=PROMPTS_HASH,
        licence=licence,
        headline=row,
        paired={key: of[row] for key, of in compared.items()},
        requests=len(verdicts),
        unreadable=sum(v.said == UNREADABLE for v in verdicts.values()),
        notes=examination.unread(wanted, verdicts),
    )


def merged(
    summary: Summary, way: Way, found: Judged, arms: Mapping[str, Mapping[str, object]], columns: Columns
) -> Summary:
    """The summary with this judge's rows in the place of an earlier one's."""
    written = summary.as_json()
    stale = {*figures.ROWS[way], *(k for k in figures.OF_REFERENCE if way == "reference")}
    for arm, scores in written["arms"].items():
        written["arms"][arm] = {k: v for k, v in scores.items() if k not in stale} | dict(arms.get(arm, {}))
    compared = figures.compared(columns, tuple(written["arms"]), summary.decoding.seed)
    for key, paired in written["paired"].items():
        kept = {k: v for k, v in paired.get("measures", {}).items() if k not in stale}
        new = {row: one.model_dump(include=set(Interval.model_fields)) for row, one in compared.get(key, {}).items()}
        paired["measures"] = kept | new
    written["judges"] = {**written.get("judges", {}), way: found.model_dump()}
    return Summary.model_validate(written)


def noted(
    examples: Sequence[Example], way: Way, wanted: Sequence[Wanted], verdicts: Mapping[Ask, Verdict]
) -> list[Example]:
    """The examples with what the judge said of each answer."""
    said = examination.shown(wanted, verdicts)

    def with_words(example: Example) -> Example:
        arms = {}
        for arm, shown in example.arms.items():
            words = [{"said": v.said, "why": v.why} for v in said.get(example.record, {}).get(arm, [])]
            before = dict(shown.scores.get("judged") or {})
            arms[arm] = shown.model_copy(update={"judged": {**before, way: words}})
        return example.model_copy(update=arms)

    return [with_words(example) for example in examples]
