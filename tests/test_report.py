"""report.html: one file that shows what was measured, claims no more, and runs nothing that a model wrote."""

import csv
import io
from html.parser import HTMLParser
from typing import ClassVar

import pytest

from medcot import metrics
from medcot.evaluating.table import csv_text
from medcot.evaluating.words import cautions, verdict_text
from medcot.report import render

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


def summary_of(examples: list[dict], source: str = "starter") -> dict:
    scores = {
        name: [metrics.RecordScore(**{k: e[name][k] for k in metrics.RecordScore.__slots__}) for e in examples]
        for name in ("base", "tuned")
    }
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
        "metric": str(metrics.VARIANT),
        "arms": {name: metrics.summarise(s) for name, s in scores.items()},
        "floors": {"echo": 0.27, "shuffled": 0.12, "empty": 0.0, "gold_reasoning": 0.17},
        "paired": {"tuned-base": metrics.compare(*[[s.answer_rouge_l for s in scores[a]] for a in ("base", "tuned")])},
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
    assert not [a for _, attributes in page.tags for a in attributes if a in ("src", "href", "srcset")]
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
        str(metrics.VARIANT),
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
    arms = {"base": {}, "tuned": {}}
    return verdict_text({"arms": arms, "paired": {"tuned-base": metrics.compare(base, tuned)}})


def test_the_verdict_claims_no_more_than_the_interval_allows():
    base, tuned = [0.1, 0.3, 0.2, 0.4] * 3, [0.3, 0.1, 0.4, 0.21] * 3
    noise, text = metrics.compare(base, tuned), said(base, tuned)
    assert text.startswith("Not distinguishable")
    assert f"{noise['records_needed']} records would tell such a difference" in text
    assert "better" not in text
    same = said([0.5, 0.6] * 6, [0.5, 0.6] * 6)
    assert same.startswith("Not distinguishable")
    assert "would tell" not in same
    low, high = [0.1, 0.12, 0.11] * 4, [0.3, 0.31, 0.33] * 4
    gain = metrics.compare(low, high)
    assert "better than base" in said(low, high)
    assert f"{gain['low']:+.3f} to {gain['high']:+.3f}" in said(low, high)
    assert "worse than base" in said(high, low)
    assert said(low[:3], high[:3]).startswith("Too few records for a verdict (3 of at least 10)")


def test_cautions_name_what_else_could_have_made_the_headline():
    summary = summary_of([example("a", 0.5, 0.6)])
    assert cautions(summary) == []
    below_floor = summary_of([example("a", 0.1, 0.2)])
    (note,) = cautions(below_floor)
    assert "echo" in note
    assert "0.270" in note
    long, cut = example("a", 0.5, 0.6), example("a", 0.5, 0.6)
    long["base"]["length_ratio"] = 4.0
    cut["tuned"]["truncated"] = True
    assert "4.0 times as long" in cautions(summary_of([long]))[0]
    (note,) = cautions(summary_of([cut]))
    assert note.startswith("Tuned was cut")
    assert note in Page(render(summary_of([cut]), [cut], [])).text


def test_csv_is_one_figure_a_line():
    rows = list(csv.DictReader(io.StringIO(csv_text(summary_of([example("a", 0.1, 0.2), example("b", 0.3, 0.7)])))))
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


def test_each_arm_has_a_column_and_each_comparison_its_sentence():
    examples = [example("a", 0.1, 0.2), example("b", 0.3, 0.7)]
    for e in examples:
        e["checkpoint-2"] = arm("curve", 0.15)
    summary = summary_of(examples)
    summary["arms"]["checkpoint-2"] = summary["arms"]["base"]
    summary["paired"]["checkpoint-2-base"] = metrics.compare([0.1, 0.3], [0.15, 0.15])
    page = Page(render(summary, examples, []))
    assert page.text.count("answer curve") == 2
    assert "checkpoint-2 against base" in page.text
    assert [a["aria-label"] for tag, a in page.tags if tag == "svg"] == [
        "2 records sorted by difference in answer ROUGE-L: 0 lower, 0 equal, 2 higher; mean +0.250, 95% interval "
        f"{summary['paired']['tuned-base']['low']:+.3f} to {summary['paired']['tuned-base']['high']:+.3f}."
    ]


def test_scores_intervals_and_table_go_to_the_runs_own_record_in_w_and_b(tmp_path):
    from medcot.engine.tracking import Tracker

    class Logged:
        summary: ClassVar[dict] = {}

    summary = summary_of([example("a", 0.1, 0.2), example("b", 0.3, 0.7)])
    Tracker(lambda event: None, Logged, tmp_path).figures(summary)
    sent = Logged.summary
    assert sent["evaluation/arms/tuned/answer_rouge_l"] == pytest.approx(0.45)
    assert sent["evaluation/paired/tuned-base/low"] == summary["paired"]["tuned-base"]["low"]
    assert sent["evaluation/table"] == csv_text(summary)
    right = {"accuracy": 0.5, "low": 0.4, "high": 0.6}
    Tracker(lambda event: None, Logged, tmp_path).figures(
        {**summary, "kind": "choice", "arms": {"base": right, "tuned": right}}
    )
    assert "choice/paired/tuned-base/low" in sent
    assert sent["evaluation/arms/tuned/answer_rouge_l"] == pytest.approx(0.45), "the other measure stays"
