"""The data as the page shows it before a start."""

from medcot import data
from medcot.settings import build
from medcot.ui.train.plan import preview
from medcot.workers.reading import Preview
from tests.conftest import make_records
from tests.data.test_examples import write


def test_columns_with_text_that_nothing_uses_are_named(tmp_path):
    path = write(tmp_path, [{**r, "<b>note</b>": "see the chart"} for r in make_records(4)])
    settings = build({"data": {"source": str(path), "held_out": 1}})
    shown = preview(settings, Preview.of(data.load(settings.data)))
    assert "Not used, though they hold text: &#x27;&lt;b&gt;note&lt;/b&gt;&#x27;" in shown.replace("&#39;", "&#x27;")
    path = write(tmp_path, make_records(4))
    assert "Not used" not in preview(settings, Preview.of(data.load(settings.data)))
