"""What of a form that a browser kept is restored: values that a field can show, and nothing else."""

import json
from typing import get_args

import pytest

from medcot.settings.sources import MOST_LINE
from medcot.ui.form import FIELDS, Form
from medcot.ui.train.draft import Draft


@pytest.fixture
def draft(page):
    with page.demo:
        return Draft(page, Form("starter"))


def restored(draft, kept):
    """The values by path that a kept text restores."""
    names = dict(zip(draft.form.components, draft.form.paths, strict=True))
    updates = draft.restore(kept)
    if not isinstance(updates, dict) or updates.get("__type__"):
        return {}
    return {names[c]: u["value"] for c, u in updates.items() if c in names and "value" in u}


def test_what_was_typed_comes_back_though_it_be_wrong(draft):
    typed = {"recipe": "starter", "training.epochs": "x", "name": "Käse <b>", "training.packing": True}
    typed = {path: value for path, value in typed.items() if path in draft.form.paths}
    assert restored(draft, json.dumps(typed)) == typed


def test_whatever_a_field_takes_comes_back_at_its_full_length(draft):
    limits = {path: longest(field) for path, field in FIELDS.items() if path in draft.form.paths}
    limits["data.more"] = MOST_LINE  # in the form it is one line
    typed = {path: "x" * limit for path, limit in limits.items() if limit}
    assert len(typed["prompt.system"]) == 4000
    assert restored(draft, json.dumps(typed)).keys() == typed.keys()


def longest(field) -> int:
    """The most characters that a text field takes; 0 where it has no limit, or holds no text."""
    limits = [one.max_length for one in field.metadata if hasattr(one, "max_length")]
    return max(limits, default=0) if str in {field.annotation, *get_args(field.annotation)} else 0


@pytest.mark.parametrize(
    "kept",
    [
        *(None, "", "{", "[]", "7", '"x"', "null", "[" * 100_000, '{"gone.setting": "1"}', '{"name": 7}'),
        *('{"recipe": "of-an-older-version"}', '{"prompt.style": "none such"}', '{"name": "%s"}' % ("x" * 50_000)),
        *('{"name": {"a": []}}', '{"training.gradient_checkpointing": []}'),
    ],
    ids=lambda kept: str(kept)[:30],
)
def test_what_no_field_can_show_is_left_out(draft, kept):
    assert restored(draft, kept) == {}
