"""The second measure: multiple choice. The letter that an output states last counts, and no letter is wrong.

The prompt, the budget of 2000 new tokens and reading the letter from the text follow HuatuoGPT-o1's evaluation (arXiv
2412.18925), so that figures compare with its tables; its scorer takes the better of the first and the last letter,
which flatters, and this one takes the last.
"""

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from medcot.evaluation import benchmarks, choice_files, metrics
from medcot.evaluation.answers import BASE, TUNED, Answer, Example, Question, Reference, Shown, comparisons, title
from medcot.evaluation.choice_files import ChoiceQuestion
from medcot.evaluation.in_training import Trained
from medcot.evaluation.measure import WORDS, Asked, Cut, Figures, Measure, Prompt
from medcot.evaluation.metrics import ArmScores, Comparison
from medcot.settings import DataSettings
from medcot.settings.evaluation import EvaluationOrder

_READ = tomllib.loads(Path(__file__).with_name("choice.toml").read_text(encoding="utf-8"))
EXAMPLE, METRIC = _READ["example"], _READ["metric"]
PROMPT: str = _READ["prompt"]
_STATED, _ALONE, _BRACKETED = (re.compile("|".join(p), re.MULTILINE) for p in _READ["patterns"].values())


class ChoiceExample(Example):
    """Each arm has also `letter`, the stated one or None, and `correct`."""

    gain_form: ClassVar = "+.0f"
    options: dict[str, str]

    def note(self, arm: str) -> str:
        scores = self.arms[arm].scores
        return f"Stated: {scores['letter'] or 'no letter'}, {'right' if scores['correct'] else 'wrong'}"


@dataclass(frozen=True)
class Choice(Measure):
    """Questions with lettered options, one of them right."""

    source: str
    choices: list[ChoiceQuestion]
    fingerprint: str
    trained: Trained
    revision: str | None = None  # of a benchmark on the Hub
    notes: tuple[str, ...] = ()  # what was found when they were read

    kind: ClassVar = "choice"
    tracked_as: ClassVar = "choice"
    words: ClassVar = WORDS["choice"]

    @classmethod
    def open(
        cls, order: EvaluationOrder, folder: Path, data: DataSettings, trained_on: str | None, adopted: bool
    ) -> "Choice":
        kept = folder / choice_files.KEPT
        found = choice_files.load(str(kept), lenient=True) if kept.is_file() else benchmarks.resolved(order)[1]
        benchmark, notes = benchmarks.named(order.questions), []
        if found.left_out:
            numbers = ", ".join(map(str, list(found.left_out)[:10])) + (" and more" if len(found.left_out) > 10 else "")
            why = next(iter(found.left_out.values()))
            notes.append(f"{len(found.left_out)} records cannot be asked and are left out: {numbers}. The first {why}")
        source = benchmark.source if benchmark else order.questions or ""
        asked = found.asked[: order.records]
        trained = Trained.of(data, trained_on, adopted).looked_for({q.record: wordings(q) for q in asked})
        return cls(source, asked, found.fingerprint, trained, order.revision, tuple(notes))

    @property
    def questions(self) -> list[Question]:
        return [Question(kind="record", number=i, text=prompt_for(q)) for i, q in enumerate(self.choices)]

    def check(self, prompt: Prompt, arms: Sequence[str]) -> list[str]:
        """Note questions that state an answer in the form that is read from outputs; refuse a metric that guesses."""
        if stated_letter("", "", "AB") is not None:
            raise RuntimeError("A letter was read from an empty output; the metric is broken.")
        # The instruction itself names one as an example; the question behind it must name none.
        leaks = [q.record for q in self.choices if _STATED.search(q.question)]
        speak = f"The questions {', '.join(map(str, leaks[:10]))} speak of an answer themselves."
        return [*self.notes, *([speak] if leaks else [])]

    def example(self, question: Question, answers: Mapping[str, Answer]) -> ChoiceExample:
        asked = self.choices[question.number]
        letters, arms = "".join(asked.options), {}
        for arm, answer in answers.items():
            parsed = answer.parsed()
            letter = stated_letter(parsed.answer, parsed.reasoning, letters)
            arms[arm] = Shown.of(answer, letter=letter, correct=letter == asked.letter)
        return ChoiceExample(
            record=asked.record,
            question=asked.question,
            options=asked.options,
            reference=Reference(letter=asked.letter, answer=asked.options[asked.letter]),
            gain=float(arms[TUNED].scores["correct"]) - float(arms[BASE].scores["correct"]),
            **({"in_training": seen} if (seen := self.trained.seen.get(asked.record)) else {}),
            **arms,
        )

    def figures(self, examples: Sequence[Example], arms: Sequence[str], seed: int, cut: Cut) -> Figures:
        shown = {arm: [example.arms[arm] for example in examples] for arm in arms}
        count, (_, most_common) = len(self.choices), Counter(q.letter for q in self.choices).most_common(1)[0]
        chance = sum(1 / len(q.options) for q in self.choices)
        return Figures(
            data=Asked(source=self.source, revision=self.revision, records=count, fingerprint=self.fingerprint),
            metric=METRIC,
            prompt=PROMPT.strip(),
            arms={arm: accuracy(given) for arm, given in shown.items()},
            floors={"chance": chance / count, "most_common_letter": most_common / count},
            paired={key: compare(shown[b], shown[a], seed=seed) for key, (a, b) in comparisons(arms).items()},
        )

    def asking(self, kept: Collection[int]) -> "Choice":
        return replace(self, choices=[q for q in self.choices if q.record in kept])

    @classmethod
    def cautions(cls, figures: Figures) -> list[str]:
        chance, notes, guessing = max(figures.floors.values()), [], []
        for arm, found in figures.arms.items():
            if found["unparsed"] > 0.1:
                silent = f"{title(arm)} stated no letter in {found['unparsed']:.0%}"
                notes.append(f"{silent} of the questions, which counts as wrong.")
            if found["low"] <= chance <= found["high"]:
                guessing.append(f"{title(arm)} cannot be told from guessing ({chance:.0%}).")
        return notes + guessing


def lettered(asked: ChoiceQuestion) -> str:
    return "\n".join(f"{letter}. {text}" for letter, text in asked.options.items())


def prompt_for(asked: ChoiceQuestion) -> str:
    return PROMPT.format(question=asked.question, options=lettered(asked))


def wordings(asked: ChoiceQuestion) -> list[str]:
    """The question as a training record may have it: alone, and with its options."""
    return [asked.question, f"{asked.question}\n{lettered(asked)}"]


def stated_letter(answer: str, reasoning: str, letters: str) -> str | None:
    """Read the letter that an output states last; None if it states none of `letters`.

    Only a plain choice counts: "the answer is B", else a line that begins with "B." or is "B" alone, else "(B)". Lines
    and brackets count only if they name one letter, since a list of the options chooses none. A bare letter in a
    sentence does not count (hepatitis B), nor does the prompt's own example repeated. If an output has no answer part,
    as when it was cut, a plain statement in its reasoning counts.
    """
    text = unicodedata.normalize("NFKC", answer or reasoning).replace(EXAMPLE, "")
    for pattern in (_STATED, _ALONE, _BRACKETED) if answer else (_STATED,):
        found = ["".join(filter(None, match.groups())) for match in pattern.finditer(text)]
        stated = [letter for letter in found if letter in letters]
        if stated and (pattern is _STATED or len(set(stated)) == 1):
            return stated[-1]
    return None


def _correct(shown: Sequence[Shown]) -> list[float]:
    return [float(one.scores["correct"]) for one in shown]


def accuracy(shown: Sequence[Shown]) -> ArmScores:
    """Accuracy with Wilson's 95% interval, and how many outputs stated no letter."""
    count, correct = len(shown), int(sum(_correct(shown)))
    low, high = metrics.wilson(correct, count)
    return {
        "accuracy": correct / count,
        "low": low,
        "high": high,
        "correct": correct,
        "unparsed": sum(one.scores["letter"] is None for one in shown) / count,
        "truncated": sum(one.truncated for one in shown) / count,
        "records": count,
    }


def compare(base: Sequence[Shown], tuned: Sequence[Shown], *, seed: int = 42) -> Comparison:
    """Compare accuracies, paired. The verdict is McNemar's exact test at 5%: a two-sided binomial test of one half
    on the questions that only one of the two got right (McNemar 1947). The interval is that of metrics.compare.
    """
    from scipy.stats import binomtest

    found = metrics.compare(_correct(base), _correct(tuned), seed=seed)
    win, loss = found.win, found.loss
    p_value = float(binomtest(win, win + loss, 0.5).pvalue) if win + loss else 1.0
    verdict = "not distinguishable" if p_value >= 0.05 else "better" if win > loss else "worse"
    return found.model_copy(update={"p_value": p_value, "verdict": verdict})


MEASURE = Choice
