"""The data as the page shows it before a start."""

import re
from html import escape

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


def test_a_conversation_shows_its_system_message_and_every_turn(tmp_path):
    said = [
        {"role": "system", "content": "Be <b>brief</b>."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "No reasoning."},
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": "<think>Since.</think>So."},
    ]
    path = write(tmp_path, [{"messages": said}] * 3)
    settings = build({"data": {"source": str(path), "held_out": 1, "empty_records": "skip"}})
    fitted, split = data.load_fitted(settings.data)
    shown = preview(settings.model_copy(update={"data": fitted}), Preview.of(split))
    turns = re.findall(
        r'<div class="mc-turn mc-turn-(\w+)"><b>([^<]*)</b><div class="mc-text">(.*?)</div>', shown, re.S
    )
    assert turns[:5] == [
        ("system", "System", "Be &lt;b&gt;brief&lt;/b&gt;."),
        ("user", "User", "Why?"),
        ("assistant", "Assistant (read, not learned)", escape("<response>\nNo reasoning.\n</response>")),
        ("user", "User", "And then?"),
        ("assistant", "Assistant", escape("<think>\nSince.\n</think>\n<response>\nSo.\n</response>")),
    ]
    assert "All records begin with the same system message" in shown
