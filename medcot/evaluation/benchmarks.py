"""Published multiple-choice sets that are asked by their names, each from one file on the Hub at a pinned commit.

No script of a data set is run: the one file is fetched, and read as any question file is. A name may be followed by
another revision (`medqa@main`); whichever it is, its commit is written into the evaluation's settings and its summary.
"""

from dataclasses import dataclass

from medcot import hub
from medcot.evaluation import choice_files
from medcot.evaluation.choice_files import QuestionSet
from medcot.settings.evaluation import EvaluationOrder


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A set on the Hub; `part` says which of its records are asked, and `records` how many they are."""

    title: str
    source: str
    revision: str
    file: str
    part: str
    records: int

    def __str__(self) -> str:
        return f"{self.title}, {self.records:,} questions from the Hub"


BENCHMARKS = {
    "medqa": Benchmark(
        title="MedQA",
        source="GBaker/MedQA-USMLE-4-options",
        revision="0fb93dd23a7339b6dcd27e241cb9b5eca62d4d18",
        file="phrases_no_exclude_test.jsonl",
        part="the test questions of the USMLE with four options",
        records=1273,
    ),
    "medmcqa": Benchmark(
        title="MedMCQA",
        source="openlifescienceai/medmcqa",
        revision="91c6572c454088bf71b679ad90aa8dffcd0d5868",
        file="data/validation-00000-of-00001.parquet",
        part="the validation questions, since the test's answers are not published",
        records=4183,
    ),
    "pubmedqa": Benchmark(
        title="PubMedQA",
        source="qiaojin/PubMedQA",
        revision="9001f2853fb87cab8d220904e0de81ac6973b318",
        file="pqa_labeled/train-00000-of-00001.parquet",
        part="all questions that experts labelled, each after its abstract",
        records=1000,
    ),
}


def named(questions: str | None) -> Benchmark | None:
    """The benchmark that is asked for by its name, with or without a revision; None for a file."""
    return BENCHMARKS.get((questions or "").partition("@")[0].strip().lower())


def resolved(order: EvaluationOrder) -> tuple[EvaluationOrder, QuestionSet]:
    """The order with its benchmark's commit, and what it asks. Raises BadInput if that is missing or unreadable."""
    source = order.questions or ""
    if not (found := named(source)):
        return order, choice_files.load(source)
    name, _, revision = source.partition("@")
    commit, file = hub.download_data_file(found.source, order.revision or revision or found.revision, found.file)
    asked = choice_files.load(str(file), lenient=True)
    return order.model_copy(update={"questions": name.strip().lower(), "revision": commit}), asked
