"""All that one judge is asked in one way: the cases of its licence, the arms' answers, and what people judged too."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medcot.evaluation.answers import Example
from medcot.evaluation.judge import asking, figures, labels, probes
from medcot.evaluation.judge.asking import UNREADABLE, Ask, Verdict, Way
from medcot.evaluation.judge.estimates import agreement, by_people
from medcot.evaluation.judge.figures import Columns, Wanted
from medcot.evaluation.judge.labels import Label, Preferred
from medcot.evaluation.judge.licence import Agreement, Licence, licence
from medcot.evaluation.judge.probes import Known, Trial
from medcot.evaluation.judge.rubric import Rubric
from medcot.evaluation.metrics import ArmScores

CHARACTERS_A_TOKEN = 4  # of English, about
TOKENS_OF_A_VERDICT = 60
MOST_NAMED = 10
PAIR_WORDS = {"a": "base", "b": "tuned"}


class Cost(NamedTuple):
    """How many requests a judging takes, and about how many tokens are sent and come back."""

    requests: int
    tokens_in: int
    tokens_out: int

    def price(self, of_million: tuple[float, float]) -> float:
        """The price, by those of a million tokens sent and got."""
        return (self.tokens_in * of_million[0] + self.tokens_out * of_million[1]) / 1e6


@dataclass(frozen=True)
class People:
    """What people judged of the same: labels of answers, and blinded comparisons."""

    labels: Sequence[Label] = ()
    preferred: Sequence[Preferred] = ()


@dataclass(frozen=True)
class Examination:
    """One way of asking, over an evaluation's examples; `known` are questions with right answers."""

    way: Way
    examples: Sequence[Example]
    arms: Sequence[str]
    known: Sequence[Known]
    rubric: Rubric | None
    people: People
    rewords: bool = True  # whether the judge can be asked to write

    def rewordings(self) -> dict[str, Ask]:
        """By each wrong answer, the request to say it in the judge's own words."""
        texts = probes.to_reword(self.way, self.known) if self.rewords else []
        return {text: asking.reworded(text) for text in texts}

    def trials(self, reworded: Mapping[str, str]) -> list[Trial]:
        """The cases of the licence. An answer that came back as it was is no rewording."""
        usable = {text: own for text, own in reworded.items() if figures.has_words(own) and own.strip() != text.strip()}
        return probes.trials(self.way, self.known, usable)

    def wanted(self) -> list[Wanted]:
        """The verdicts on the arms' answers."""
        return figures.wanted(self.way, self.examples, self.arms, self.rubric)

    def beside_people(self) -> Iterator[tuple[str, tuple[Ask, Ask]]]:
        """The pairs that people compared, each in both orders."""
        for one in self.people.preferred if self.way == "pair" else ():
            if figures.has_words(one.base) and figures.has_words(one.tuned):
                first, second = (asking.pair(one.question, None, one.base, one.tuned, swapped=s) for s in (False, True))
                yield one.key, (first, second)

    def cost(self) -> Cost:
        """What it takes, if nothing is known yet; a rewording is taken to be as long as the text."""
        rewordings = self.rewordings()
        asks = {ask for trial in self.trials({text: f"{text} " for text in rewordings}) for ask in trial.asks}
        asks |= {one.ask for one in self.wanted()} | set(rewordings.values())
        asks |= {ask for _, pair in self.beside_people() for ask in pair}
        written = sum(len(text) // CHARACTERS_A_TOKEN for text in rewordings)
        sent = sum(ask.characters for ask in asks) // CHARACTERS_A_TOKEN
        return Cost(len(asks), sent, (len(asks) - len(rewordings)) * TOKENS_OF_A_VERDICT + written)

    # ---- from verdicts

    def licence(self, trials: Sequence[Trial], verdicts: Mapping[Ask, Verdict], asked: Sequence[Wanted]) -> Licence:
        return licence(self.way, trials, verdicts, self._agreement(verdicts, asked))

    def _agreement(self, verdicts: Mapping[Ask, Verdict], asked: Sequence[Wanted]) -> Agreement | None:
        if self.way == "reference" and self.people.labels:
            judge: dict[Hashable, str] = {(one.record, one.arm): verdicts[one.ask].said for one in asked}
            readers = labels.by_reader(self.people.labels)
            return agreement(judge, {name: dict[Hashable, str](said) for name, said in readers.items()})
        if self.way == "pair" and self.people.preferred:
            judge = {key: preferred(*(verdicts[ask].said for ask in pair)) for key, pair in self.beside_people()}
            return agreement(judge, {"blinded": {one.key: one.said for one in self.people.preferred}})
        return None

    def figures(
        self, verdicts: Mapping[Ask, Verdict], asked: Sequence[Wanted], found: Licence
    ) -> tuple[Columns, dict[str, ArmScores]]:
        """Every record's values, and each arm's figures: corrected by people where there are labels of it."""
        columns = figures.columns(self.way, self.examples, self.arms, asked, verdicts, self.rubric)
        arms = figures.arm_figures(columns, found.errors)
        if self.way == "reference" and self.people.labels:
            truth: dict[Hashable, float] = dict(labels.shares(self.people.labels, "wrong").items())
            for arm, values in columns["judged_wrong"].items():
                called: dict[Hashable, float] = {(record, arm): value for record, value in values.items()}
                if estimate := by_people(called, truth):
                    figures.add_estimate(arms[arm], estimate)
                    arms[arm][figures.BY_PEOPLE] = sum(key in truth for key in called)
        return columns, arms


def preferred(in_order: str, swapped: str) -> str:
    """Which arm is preferred, of the verdicts in both orders; equal where they differ."""
    return PAIR_WORDS.get(in_order, "equal") if in_order == swapped else "equal"


def unread(asked: Sequence[Wanted], verdicts: Mapping[Ask, Verdict]) -> list[str]:
    """Name the records whose verdicts could not be read, with how the first reply began."""
    lost = [one for one in asked if verdicts[one.ask].said == UNREADABLE]
    if not lost:
        return []
    names = list(dict.fromkeys(map(str, lost)))
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    began = verdicts[lost[0].ask].why or "nothing"
    what = f"{len(lost)} of {len(asked)} replies held no verdict and count as 'cannot say'"
    return [f"{what} ({'; '.join(names[:MOST_NAMED])}{more}). The first one said: {began}"]


def shown(asked: Sequence[Wanted], verdicts: Mapping[Ask, Verdict]) -> dict[int, dict[str, list[Verdict]]]:
    """The verdicts by record and arm, for people to read."""
    found: dict[int, dict[str, list[Verdict]]] = {}
    for one in asked:
        found.setdefault(one.record, {}).setdefault(one.arm, []).append(verdicts[one.ask])
    return found
