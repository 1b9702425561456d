"""What blinded comparisons have shown so far: a table, and a file for a spreadsheet."""

from medcot import comparisons as k
from medcot.ui import components as c
from medcot.ui.chat.judging import LABELS

RUBRIC_HEADS = ("Tuned", "Equal", "Base", "Tuned preferred")
# A file made in the browser: the server writes no copy for it.
DOWNLOAD = """(csv) => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob(['\\ufeff' + csv], {type: 'text/csv'}));
  link.download = 'comparisons.csv'; link.click(); URL.revokeObjectURL(link.href);
  return '';
}"""


def results(found: list[k.Comparison]) -> str:
    """Preference shares with their intervals, by group of question; empty where nothing was judged."""
    if not found:
        return '<p class="mc-soft">Nothing was judged in this run yet.</p>'
    by_group = {**k.groups(found), **({"all": found} if len(k.groups(found)) > 1 else {})}
    rows = "".join(
        f"<tr><th scope=row>{c.text(name).capitalize()}</th><td>{len(members)}</td>"
        f"<td>{_share(k.share(members, 'answer'))}</td><td>{_share(k.share(members, 'reasoning'))}</td>"
        f"<td>{_harm(members, 'base')}</td><td>{_harm(members, 'tuned')}</td></tr>"
        for name, members in by_group.items()
    )
    rubric = "".join(
        f"<tr><th scope=row>{LABELS[name]}</th><td>{s.tuned}</td><td>{s.equal}</td><td>{s.base}</td>"
        f"<td>{_share(s)}</td></tr>"
        for name in k.ASPECTS
        for s in [k.share(found, name)]
    )
    heads = ("Judged", "Answer: tuned preferred", "Reasoning: tuned preferred", "Base could harm", "Tuned could harm")
    return (
        '<p class="mc-soft">Shares are of those who preferred either; the 95% interval is Wilson\'s. Judgements of one '
        "reader are not independent of each other, so the real doubt is larger.</p>"
        + c.table("comparison-groups", "Blinded preferences by group of question", heads, rows)
        + c.table(
            "comparison-rubric", "All questions, by criterion", ("Tuned", "Equal", "Base", "Tuned preferred"), rubric
        )
    )


def _share(share: k.Share) -> str:
    if share.share is None:
        return f"none of {share.equal} decided" if share.equal else "not judged"
    low, high = share.interval
    return f"{share.share:.0%} <small>({low:.0%} to {high:.0%}, of {share.decided})</small>"


def _harm(members: list[k.Comparison], arm: str) -> int:
    return sum(arm in c.judgement.harm for c in members)
