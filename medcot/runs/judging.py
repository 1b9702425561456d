"""An evaluation whose answers are judged: the judge's order, what it said so far, and the licence beside the summary.

A judging is a further job of a finished evaluation's folder: judge.json is its order, verdicts.jsonl every reply by the
hash of what was asked, and licence.json what the judge was tried on. So a repeated judging asks nothing twice.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pydantic import TypeAdapter

from medcot import data
from medcot.errors import BadInput
from medcot.evaluation.answers import Example
from medcot.evaluation.judge import labels, rubric
from medcot.evaluation.judge.asking import Ask, Reply, Verdict, read
from medcot.evaluation.judge.examination import Examination, People
from medcot.evaluation.judge.labels import Label, Preferred
from medcot.evaluation.judge.licence import Judged
from medcot.evaluation.judge.probes import known_answers
from medcot.evaluation.judge.rubric import Rubric
from medcot.evaluation.records import Records
from medcot.evaluation.summary import Summary
from medcot.machine import write_atomically
from medcot.runs import comparisons
from medcot.runs.job_dir import command, read_lines
from medcot.runs.run import Evaluation, Run
from medcot.settings.judging import JudgeOrder

MOST_TRAINING = 1000  # training records that may give cases
ORDER, VERDICTS, LICENCE = "judge.json", "verdicts.jsonl", "licence.json"


@dataclass(frozen=True)
class Given:
    """What came with an order: criteria, and what people said."""

    rubric: Rubric | None = None
    labels: Sequence[Label] = ()


class Replies:
    """verdicts.jsonl: every reply is on disk before anybody counts it. Safe to use from several threads."""

    def __init__(self, evaluation: Evaluation, judge: str):
        self._evaluation, self._judge = evaluation, judge
        self._lock = threading.Lock()
        path = evaluation.path / VERDICTS
        kept = read_lines(path, TypeAdapter(Reply))
        self._of = {reply.key: reply for reply in kept}
        if path.is_file():  # rewritten, without a line that was cut off
            evaluation.write_lines("verdicts", kept)

    def get(self, ask: Ask) -> Reply | None:
        return self._of.get(ask.key(self._judge))

    def add(self, ask: Ask, text: str, tokens_in: int = 0, tokens_out: int = 0, kept: bool = True) -> None:
        """Take a reply; one that is not `kept` is asked for again another time."""
        reply = Reply(key=ask.key(self._judge), text=text, tokens_in=tokens_in, tokens_out=tokens_out)
        with self._lock:
            if kept:
                self._evaluation.append_line("verdicts", reply)
            self._of[reply.key] = reply

    def verdict(self, ask: Ask) -> Verdict:
        """What the judge's reply says; nothing is a reply too."""
        reply = self.get(ask)
        return read(ask, reply.text if reply else "")


def order_of(evaluation: Evaluation) -> JudgeOrder:
    """What the judge was ordered to do. Raises BadInput if judge.json is missing or of another version."""
    path = evaluation.path / ORDER
    try:
        return JudgeOrder.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput.of(str(path), f"cannot be read: {error}.", "Start the judging again.") from None


def require_answers(run: Run, evaluation: Evaluation) -> tuple[Summary, list[Example]]:
    """The finished evaluation's summary and examples. Raises BadInput if there is nothing that a judge could judge."""
    summary, examples = evaluation.summary(), evaluation.examples()
    if summary is None or not examples:
        go_on = command(f"evaluate {run.id} --resume {evaluation.id}", run.path.parent)
        raise BadInput.of("evaluation", f"{evaluation.id} is not finished.", f"Go on with it first: {go_on}")
    if summary.measure is not Records:
        what = f"{evaluation.id} asks multiple choice, where a letter is right or wrong without a judge."
        raise BadInput.of("evaluation", what, "Judge an evaluation of held-out records.")
    return summary, examples


def given_of(evaluation: Evaluation, order: JudgeOrder, examples: Sequence[Example]) -> Given:
    """The copies in the evaluation's folder; labels hold for whichever judge comes next."""
    path = evaluation.path / labels.KEPT
    kept = labels.load(path, arms_by_record(examples)) if path.is_file() else []
    return Given(rubric.load(evaluation.path / rubric.KEPT) if order.how == "rubric" else None, kept)


def arms_by_record(examples: Sequence[Example]) -> dict[int, list[str]]:
    return {example.record: list(example.arms) for example in examples}


def examinations(
    run: Run, order: JudgeOrder, given: Given, summary: Summary, examples: Sequence[Example], *, rewords: bool = True
) -> list[Examination]:
    """What is asked in each way. The judge is tried on the evaluation's records first, then on the training part's."""
    own = [(e.question, e.reference.answer) for e in examples]
    if not run.origin():
        with suppress(BadInput):  # the data is needed for no more than these
            own += [(e.question, e.answer) for e in data.load(run.settings().data).train[:MOST_TRAINING]]
    compared = [
        Preferred(c.id, c.question, c.base.answer, c.tuned.answer, c.judgement.correct or c.judgement.answer)
        for c in comparisons.read(run)
    ]
    known, people, arms = known_answers(own), People(given.labels, compared), tuple(summary.arms)
    return [Examination(way, examples, arms, known, given.rubric, people, rewords) for way in order.ways]


def write_order(evaluation: Evaluation, order: JudgeOrder, given: Given) -> None:
    """Write the order, and copies of what was given with it, so that it can go on without the files."""
    if given.rubric:
        write_atomically(evaluation.path / rubric.KEPT, given.rubric.lines())
    if given.labels:
        write_atomically(evaluation.path / labels.KEPT, labels.lines(given.labels))
    write_atomically(evaluation.path / ORDER, order.model_dump_json(indent=1))


def write_licences(evaluation: Evaluation, judges: Mapping[str, Judged]) -> None:
    """Write licence.json: who judged, when, with which prompts, and every check."""
    kept = ("model", "server", "date", "prompts", "licence")
    found = {way: judged.model_dump(include=set(kept)) for way, judged in judges.items()}
    write_atomically(evaluation.path / LICENCE, json.dumps(found, indent=1, ensure_ascii=False))
