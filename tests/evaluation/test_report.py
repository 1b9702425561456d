"""report.html: one file that shows what was measured, claims no more, and runs nothing that a model wrote."""

import csv
import io
import re
from html.parser import HTMLParser
from typing import ClassVar

import pytest

from medcot.evaluation import metrics, report, rouge
from medcot.evaluation.drawing import at_point, marked
from medcot.evaluation.forest import Axis, forest
from medcot.evaluation.measure import Row, Words
from medcot.evaluation.records import Records
from medcot.evaluation.rouge import VARIANT
from medcot.evaluation.summary import EXAMPLE, MEASURES, SAMPLE, Summary, cautions, verdict_text
from medcot.evaluation.table_csv import csv_text

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</div></details><h1>Tuned wins",
    '&lt;b&gt; &amp; "quotes" \'n such',
    "![x](http://127.0.0.1/pixel.png)",
    "<think>kept</think>",
    "{{7*7}} {braces} %s",
)


class Page(HTMLParser):
    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag != "mark":  # around words that stand in the reference too, whatever they are
            self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def arm(text: str, score: float) -> dict:
    return {
        "output": text,
        "reasoning": f"reasoning {text}",
        "answer": f"answer {text}",
        "problems": [f"problem {text}"],
        "tokens": 5,
        "ended": "end",
        "truncated": False,
        "answer_rouge_l": score,
        "reasoning_rouge_l": 0.0,
        "both_rouge_l": 0.0,
        "before_answer": False,
        "strict": False,
        "lenient": True,
        "length_ratio": 1.0,
    }


def example(text: str, base: float = 0.1, tuned: float = 0.2) -> dict:
    return {
        "record": 1,
        "question": f"question {text}",
        "reference": {"reasoning": "r", "answer": f"reference {text}"},
        "base": arm(text, base),
        "tuned": arm(text, tuned),
        "gain": tuned - base,
    }


def render(summary: dict, examples: list[dict], samples: list[dict]) -> str:
    read = Summary.model_validate(summary)
    return report.render(read, list(map(EXAMPLE.validate_python, examples)), list(map(SAMPLE.validate_python, samples)))


def summary_of(examples: list[dict], source: str = "starter") -> dict:
    """summary.json, as a worker writes it."""
    scores = {name: [metrics.RecordScore(**e[name]) for e in examples] for name in ("base", "tuned")}
    return {
        "schema": 1,
        "run": f"run {source}",
        "data": {"source": source, "revision": None, "records": len(examples), "fingerprint": "f"},
        "decoding": {
            "max_new_tokens": 64,
            "temperature": 0.0,
            "top_p": 1.0,
            "seed": 1,
            "batch_size": 2,
            "contract": "chat",
        },
        "metric": str(VARIANT),
        "arms": {name: metrics.summarise(s) for name, s in scores.items()},
        "floors": {"echo": 0.27, "shuffled": 0.12, "empty": 0.0, "gold_reasoning": 0.17},
        "paired": {
            "tuned-base": metrics.compare(
                *[[s.answer_rouge_l for s in scores[a]] for a in ("base", "tuned")]
            ).model_dump(exclude_unset=True)
        },
        "seconds": 1.0,
        "tokens": {"base": 5, "tuned": 5},
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_data_or_a_model_is_shown_and_never_run(text):
    harmless = Page(render(summary_of([example("")], "x"), [example("")], [example("")]))
    html = render(summary_of([example(text)], text), [example(text)], [{**example(text), "group": text}])
    page = Page(html)
    assert page.tags == harmless.tags, "no tag and no attribute comes from the text"
    assert not {"script", "img", "iframe", "object", "link", "form"} & {tag for tag, _ in page.tags}
    for part in ("question", "reference", "reasoning", "answer", "problem"):
        assert f"{part} {text}" in page.text
    assert f"run {text}" in page.text


def test_the_page_stands_alone():
    page = Page(render(summary_of([example("a")]), [example("a")], []))
    links = [value for _, attributes in page.tags for a, value in attributes.items() if a in ("src", "href", "srcset")]
    assert links == ["#record-1"], "a bar leads to its record, and nothing leads out of the file"
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]


def test_figures_floors_and_decoding_are_all_there():
    examples = [example("a", 0.1, 0.2), example("b", 0.3, 0.7)]
    text = Page(render(summary_of(examples), examples, [])).text
    for figure in (
        "0.200",
        "0.450",
        "0.270",
        "0.120",
        "0.170",
        "+0.250",
        str(VARIANT),
        "64 new tokens",
        "greedy",
    ):
        assert figure in text
    assert "For research only" in text
    assert "2 higher, 0 equal, 0 lower" in text


def test_the_largest_loss_comes_first():
    examples = [example("middle", 0.2, 0.2), example("gain", 0.1, 0.9), example("loss", 0.9, 0.1)]
    text = Page(render(summary_of(examples), examples, [])).text
    assert text.index("question loss") < text.index("question middle") < text.index("question gain")


def said(base: list[float], tuned: list[float]) -> str:
    whole = summary_of([example("a")])
    return verdict_text(Summary.model_validate({**whole, "paired": {"tuned-base": metrics.compare(base, tuned)}}))


def test_the_verdict_claims_no_more_than_the_interval_allows():
    base, tuned = [0.1, 0.3, 0.2, 0.4] * 3, [0.3, 0.1, 0.4, 0.21] * 3
    noise, text = metrics.compare(base, tuned), said(base, tuned)
    assert text.startswith("Not distinguishable")
    assert f"{noise.records_needed} records would tell such a difference" in text
    assert "better" not in text
    same = said([0.5, 0.6] * 6, [0.5, 0.6] * 6)
    assert same.startswith("Not distinguishable")
    assert "would tell" not in same
    low, high = [0.1, 0.12, 0.11] * 4, [0.3, 0.31, 0.33] * 4
    gain = metrics.compare(low, high)
    assert "better than base" in said(low, high)
    assert f"{gain.low:+.3f} to {gain.high:+.3f}" in said(low, high)
    assert "worse than base" in said(high, low)
    assert said(low[:3], high[:3]).startswith("Too few records for a verdict (3 of at least 10)")


def cautioned(summary: dict) -> list[str]:
    return cautions(Summary.model_validate(summary))


def test_a_further_comparison_without_a_verdict_names_its_arms():
    whole = summary_of([example("a")])
    paired = whole["paired"]["tuned-base"]
    arms = {**whole["arms"], "base-told": whole["arms"]["base"]}
    both = {"tuned-base": paired, "base-told-base": paired}
    summary = Summary.model_validate({**whole, "arms": arms, "paired": both})
    assert verdict_text(summary).startswith("Too few records")
    assert verdict_text(summary, "base-told-base").startswith("Base told the format against base: Too few records")


def test_cautions_name_what_else_could_have_made_the_headline():
    summary = summary_of([example("a", 0.5, 0.6)])
    assert cautioned(summary) == []
    below_floor = summary_of([example("a", 0.1, 0.2)])
    (note,) = cautioned(below_floor)
    assert "echo" in note
    assert "0.270" in note
    long, cut = example("a", 0.5, 0.6), example("a", 0.5, 0.6)
    long["base"]["length_ratio"] = 4.0
    cut["tuned"]["truncated"] = True
    assert "4.0 times as long" in cautioned(summary_of([long]))[0]
    (note,) = cautioned(summary_of([cut]))
    assert note.startswith("Tuned was cut")
    assert note in Page(render(summary_of([cut]), [cut], [])).text


def test_csv_is_one_figure_a_line():
    rows = list(
        csv.DictReader(
            io.StringIO(csv_text(Summary.model_validate(summary_of([example("a", 0.1, 0.2), example("b", 0.3, 0.7)]))))
        )
    )
    assert rows[0] | {} == {
        "kind": "score",
        "measure": "answer_rouge_l",
        "arm": "base",
        "value": "0.2",
        "low": "",
        "high": "",
        "note": "rougeL F1, stemmer",
    }
    (difference,) = [r for r in rows if r["kind"] == "difference"]
    assert float(difference["value"]) == pytest.approx(0.25)
    assert float(difference["low"]) < 0.25 < float(difference["high"])
    assert {r["arm"] for r in rows if r["kind"] == "floor"} == {"echo", "shuffled", "empty", "gold_reasoning"}


def with_facts(text: str) -> tuple[dict, dict]:
    """A summary and its example, whose record lists facts."""
    row = example(text)
    row["base"]["facts"] = {"named": [], "missed": [f"named {text}"], "forbidden": [f"forbidden {text}"]}
    row["tuned"]["facts"] = {"named": [f"named {text}"], "missed": [], "forbidden": []}
    floors = {"echo": 0.125, "shuffled": 0.0, "empty": 0.0, "gold_reasoning": 0.5}
    ceiling = {"answer_rouge_l": 1.0, "facts_named": 0.975, "forbidden_stated": 0.0, "truncated": 0.0}
    further = {"facts_named": floors, "forbidden_stated": dict.fromkeys(floors, 0.0)}
    return {**summary_of([row]), "further_floors": further, "ceiling": ceiling}, row


def test_facts_come_first_with_their_floors_and_ceiling_and_what_they_do_not_say():
    summary, row = with_facts("x")
    page = Page(render(summary, [row], [])).text
    assert "found by matching words" in page
    page = page[page.index("All figures") :]
    assert page.index("Facts named") < page.index("Records with a forbidden statement") < page.index("Answer ROUGE-L")
    for words in ("12.5%", "97.5%", "Facts named, 1 of 1: named x.", "Missed: named x."):
        assert words in page
    assert "States what it must not: forbidden x." in page
    assert "answer ROUGE-L differs by" in verdict_text(Summary.model_validate(summary)), (
        "the verdict stays on the headline"
    )
    lines = csv_text(Summary.model_validate(summary)).splitlines()
    assert "score,facts_named,tuned,1.0,,," in lines
    assert "floor,facts_named,echo,0.125,,,the question as answer" in lines
    assert "ceiling,facts_named,,0.975,,,the references cut at the token budget" in lines
    assert "floor,answer_rouge_l,echo,0.27,,,the question as answer" in lines


@pytest.mark.parametrize("text", HOSTILE)
def test_names_of_facts_are_shown_and_never_run(text):
    harmless, hostile = (with_facts(words) for words in ("", text))
    pages = [Page(render(summary, [row], [row])) for summary, row in (harmless, hostile)]
    assert pages[0].tags == pages[1].tags
    assert pages[1].text.count(f"named {text}") == 4, "found and missed, in the record and in the sample"


def test_each_arm_has_a_column_and_each_comparison_its_sentence():
    examples = [example("a", 0.1, 0.2), example("b", 0.3, 0.7)]
    for e in examples:
        e["checkpoint-2"] = arm("curve", 0.15)
    summary = summary_of(examples)
    summary["arms"]["checkpoint-2"] = summary["arms"]["base"]
    summary["paired"]["checkpoint-2-base"] = metrics.compare([0.1, 0.3], [0.15, 0.15]).model_dump()
    page = Page(render(summary, examples, []))
    assert page.text.count("answer curve") == 2
    assert page.text.count("Every comparison on answer ROUGE-L") == 1
    assert "checkpoint-2 against base" in page.text
    assert [a["aria-label"] for tag, a in page.tags if tag == "svg"] == [
        "2 records sorted by difference in answer ROUGE-L: 0 lower, 0 equal, 2 higher; mean +0.250, 95% interval "
        f"{summary['paired']['tuned-base']['low']:+.3f} to {summary['paired']['tuned-base']['high']:+.3f}."
    ]


def test_scores_intervals_and_table_go_to_the_runs_own_record_in_w_and_b():
    from medcot.engine.tracking import Tracker
    from medcot.engine.tracking.wandb_run import WandbRun

    class Logged:
        summary: ClassVar[dict] = {}

    record = WandbRun.__new__(WandbRun)  # as it is once W&B has begun a run
    record._run = Logged
    tracker = Tracker(lambda event: None, {"wandb": record}, 0, [])
    summary = summary_of([example("a", 0.1, 0.2), example("b", 0.3, 0.7)])
    tracker.figures(Summary.model_validate(summary))
    sent = Logged.summary
    assert sent["evaluation/arms/tuned/answer_rouge_l"] == pytest.approx(0.45)
    assert sent["evaluation/paired/tuned-base/low"] == summary["paired"]["tuned-base"]["low"]
    assert sent["evaluation/table"] == csv_text(Summary.model_validate(summary))
    right = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "truncated": 0.0, "unparsed": 0.0}
    tracker.figures(Summary.model_validate({**summary, "kind": "choice", "arms": {"base": right, "tuned": right}}))
    assert "choice/paired/tuned-base/low" in sent
    assert sent["evaluation/arms/tuned/answer_rouge_l"] == pytest.approx(0.45), "the other measure stays"


def test_a_further_measure_needs_its_class_and_its_entry_and_every_face_shows_it(monkeypatch):
    class Cited(Records):
        kind: ClassVar = "cited"
        words: ClassVar = Words(
            rows=(Row("cited", "Sources cited", ".1%"),),
            headline="cited",
            score="sources cited",
            asked="claims",
            label="citations",
            floors={"none": "no source at all"},
            meaning="A source may say something else.",
        )

        @classmethod
        def cautions(cls, figures):
            return ["No source was opened."]

    monkeypatch.setitem(MEASURES, "cited", Cited)
    arms = {arm: {"cited": 0.5, "truncated": 0.0} for arm in ("base", "tuned")}
    written = {**summary_of([example("a")]), "kind": "cited", "arms": arms, "floors": {"none": 0.0}}
    summary = Summary.model_validate(written)
    page = Page(report.render(summary, [], [])).text
    for words in ("Sources cited", "50.0%", "1 claims", "none: no source at all", "No source was opened."):
        assert words in page
    assert "sources cited differs by" in verdict_text(summary)
    assert "score,cited,tuned,0.5" in csv_text(summary)


def test_an_arm_that_is_called_like_a_formula_is_text_in_the_table():
    found = summary_of([example("a", 0.1, 0.2), example("b", 0.3, 0.7)])
    found["arms"]["=cmd"] = found["arms"]["base"]
    rows = list(csv.reader(io.StringIO(csv_text(Summary.model_validate(found)))))
    assert {row[2] for row in rows if row[0] == "score"} == {"base", "tuned", "'=cmd"}
    assert not [cell for row in rows for cell in row if cell.startswith("=")]


def compared(rows: list[tuple[str, float, float, float]], records: int = 12) -> Summary:
    """A summary with these rows' differences and intervals, the headline's among them."""
    examples = [example("a", 0.4, 0.5) for _ in range(records)]
    summary = summary_of(examples)
    known = {key: {"difference": d, "low": low, "high": high} for key, d, low, high in rows}
    paired = summary["paired"]["tuned-base"]
    paired |= known.pop("answer_rouge_l", {})
    paired["measures"] = known
    return Summary.model_validate(summary)


def forest_rows(summary: Summary) -> dict[str, str]:
    """Each row's name with what is said of it aloud."""
    found = re.findall(r'<tr class="is-[^"]*"><th scope="row">([^<]*).*?class="aloud">([^<]*)<', forest(summary), re.S)
    return dict(found)


def test_the_plot_says_better_or_worse_only_where_the_interval_does_and_knows_of_which_less_is_better():
    rows = [
        ("answer_rouge_l", 0.1, 0.05, 0.15),
        ("format_strict", 0.4, -0.1, 0.9),
        ("truncated", -0.2, -0.3, -0.1),
        ("truncated_before_answer", 0.2, 0.1, 0.3),
        ("length_ratio", 0.5, 0.2, 0.7),
    ]
    assert forest_rows(compared(rows)) == {
        "Answer ROUGE-L": "better",
        "Format, strict tags": "not distinguishable",
        "Cut at the token limit": "better",
        "Cut before its answer": "worse",
        "Answer length / reference": "differs",
    }
    few = forest_rows(compared(rows, records=5))
    assert set(few.values()) == {"not distinguishable"}, "few records never carry a verdict"


def test_the_plot_has_zero_in_the_middle_and_the_floors_where_they_stand_against_base():
    drawn = forest(compared([("answer_rouge_l", 0.1, 0.0, 0.2), ("format_strict", 0.0, 0.0, 0.0)]))
    axis = Axis(0.4 * 1.06, ".3f")  # the lowest floor is 0, and base 0.4
    ticks = re.findall(r'class="floor" style="left:([\d.]+)%" data-number="([\d,]+)"', drawn)
    wanted = [(3, 0.0), (2, 0.12), (4, 0.17), (1, 0.27)]
    assert [(float(place), numbers) for place, numbers in ticks] == [(axis.place(v - 0.4), str(n)) for n, v in wanted]
    assert 'class="grid zero" style="left:50.0%"' in drawn
    assert f'class="mean" style="left:{axis.place(0.1)}%"' in drawn
    assert "3 nothing" in drawn
    assert "−" in drawn
    assert not re.search(r">[^<]*-\d", drawn), "true minus signs"


@pytest.mark.parametrize("figure", ["0.123", "12.5%", "100%", "75.6", "118", "−3", "0.349 (0.300 to 0.400)", "nan", ""])
def test_figures_are_split_at_their_point_and_lose_nothing(figure):
    text = Page(str(at_point(figure))).text
    assert text == figure.replace(" (", "").replace(")", "")
    assert at_point(figure).split("<i>")[0].lstrip("−").isdigit() or not figure[:1].isdigit()


def test_the_words_marked_are_those_that_rouge_counts():
    answer, reference = "Rest & fluids; then a macrolide, if <allergic>.", "Fluids then rest, a macrolide if allergic"
    found = re.findall("<mark>(.*?)</mark>", marked(answer, reference))
    assert "".join(found).count("fluids") == 1
    words_ = [word for text in found for word in rouge.words(text)]
    said, wanted = len(rouge.words(answer)), len(rouge.words(reference))
    assert rouge.rouge_l(answer, reference) == pytest.approx(2 * len(words_) / (said + wanted))
    assert Page(str(marked(answer, reference))).text == answer
    assert Page(str(marked(answer, reference, 0, 9) + marked(answer, reference, 9))).text == answer
    assert "<mark>" not in marked(answer, "")
    assert marked("", reference) == ""


def test_thousands_of_words_are_marked_without_a_wait():
    assert len(rouge.shared("糖尿病的治疗" * 500, "治疗糖尿病" * 500)) > 1000
