"""The files that an evaluation leaves: summary.json, examples.jsonl, samples.jsonl, report.html, table.csv."""

from typing import Any

from medcot.evaluating.table import csv_text
from medcot.jobdirs import write_atomically
from medcot.report import render
from medcot.runs import Evaluation


def write_reports(
    job: Evaluation, summary: dict[str, Any], examples: list[dict[str, Any]], samples: list[dict[str, Any]]
) -> None:
    """Everything else before summary.json: whoever sees that one may take the rest for whole."""
    job.write_lines("examples", examples)
    job.write_lines("samples", samples)
    write_atomically(job.path / "report.html", render(summary, examples, samples))
    write_atomically(job.path / "table.csv", csv_text(summary))
    job.write_summary(summary)
