"""Loading an adapter under the chat template that it was trained under; a base whose template opens the tag itself."""

import json
import shutil
from pathlib import Path

import pytest

from medcot.adapters.open import of_run, open_adapter
from medcot.errors import BadInput
from medcot.runs.events import Sample, Warned
from medcot.runs.store import RunStore
from medcot.settings import build
from tests import tiny
from tests.conftest import tiny_raw, write_records
from tests.engine_tools import changed, train

OWN = "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}<|im_end|>\n{% endfor %}### assistant:"
OPENING = tiny.CHAT_TEMPLATE + "{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}"


def of_template(model, folder, template) -> Path:
    """The tiny model, saved with another chat template."""
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("templates")
    return train(folder / "runs", build(tiny_raw(tiny_model, write_records(folder / "records.jsonl"))))


def in_folder(path):
    (path / "chat_template.jinja").write_text(OWN, encoding="utf-8")


def in_config(path):
    (path / "chat_template.jinja").unlink()
    config = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": OWN}))


def opened(adapter, **options):
    """The decoder and the warnings of an adapter that is loaded."""
    from medcot.engine.answer.load import open_decoder
    from medcot.engine.backends.peft import PeftBackend

    said = []
    decoder = open_decoder(adapter, PeftBackend(), said.append, max_length=512, **options)
    return decoder, [event.message for event in said if isinstance(event, Warned)]


def prompt_of(decoder) -> str:
    return decoder.tokenizer.decode(decoder.rows_for("Why?")[0].prompt)


@pytest.mark.parametrize("save", [in_folder, in_config])
def test_an_adapter_without_a_contract_is_asked_under_the_template_saved_with_it(trained, tiny_model, tmp_path, save):
    folder = Path(shutil.copytree(trained.adapter_dir, tmp_path / "theirs"))
    (folder / "prompt_contract.json").unlink()
    save(folder)
    adapter = open_adapter(str(folder), RunStore(tmp_path), style="chat", base=str(tiny_model))
    decoder, warnings = opened(adapter)
    assert prompt_of(decoder) == "### user:\nWhy?<|im_end|>\n### assistant:"
    assert [w for w in warnings if "asked with the adapter's" in w]
    plain, warnings = opened(open_adapter(str(folder), RunStore(tmp_path), style="plain", base=str(tiny_model)))
    assert "###" not in prompt_of(plain)
    assert not [w for w in warnings if "template" in w]


@pytest.mark.parametrize("left", ["no template", "the base's", "not text", "no JSON"])
def test_an_adapter_without_a_template_of_its_own_is_asked_under_its_bases(trained, tiny_model, tmp_path, left):
    folder = Path(shutil.copytree(trained.adapter_dir, tmp_path / "theirs"))
    (folder / "prompt_contract.json").unlink()
    if left != "the base's":
        (folder / "chat_template.jinja").unlink()
    if left in ("not text", "no JSON"):
        broken = "{" if left == "no JSON" else json.dumps({"chat_template": 7})
        (folder / "tokenizer_config.json").write_text(broken)
    decoder, warnings = opened(open_adapter(str(folder), RunStore(tmp_path), style="chat", base=str(tiny_model)))
    assert prompt_of(decoder).startswith("<|im_start|>user\nWhy?")
    assert not [w for w in warnings if "template" in w]


def test_the_contract_says_which_of_two_templates_the_adapter_was_trained_under(trained, tiny_model, tmp_path):
    run = Path(shutil.copytree(trained.path, tmp_path / "runs" / trained.id))
    adapter = of_run(RunStore(run.parent).get(trained.id))
    other = adapter.base.model_copy(update={"id": str(of_template(tiny_model, tmp_path / "other" / "tiny-model", OWN))})
    decoder, warnings = opened(adapter.model_copy(update={"base": other}), strict=True)
    assert prompt_of(decoder).startswith("<|im_start|>user\nWhy?"), "the base's has changed since; the adapter's is it"
    assert [w for w in warnings if "asked with the adapter's" in w]
    in_folder(run / "adapter")
    decoder, warnings = opened(adapter, strict=True)
    assert prompt_of(decoder).startswith("<|im_start|>user\nWhy?"), "the adapter's has changed since; the base's is it"
    assert not [w for w in warnings if "template" in w]
    with pytest.raises(BadInput, match="template_hash: the adapter was trained with"):
        opened(adapter.model_copy(update={"base": other}), strict=True)


def test_an_adapters_broken_template_is_words(trained, tiny_model, tmp_path):
    folder = Path(shutil.copytree(trained.adapter_dir, tmp_path / "theirs"))
    (folder / "prompt_contract.json").unlink()
    (folder / "chat_template.jinja").write_text("{% for m in", encoding="utf-8")
    with pytest.raises(BadInput, match="chat template cannot be used"):
        opened(open_adapter(str(folder), RunStore(tmp_path), style="chat", base=str(tiny_model)))


def test_answers_hold_the_tag_that_the_template_opens_in_training_and_when_asked(tmp_path, tiny_model, records):
    model = of_template(tiny_model, tmp_path / "opening", OPENING)
    settings = changed(build(tiny_raw(model, records)), "training", sample_tokens=8)
    run = train(tmp_path / "runs", settings)
    assert json.loads((run.adapter_dir / "prompt_contract.json").read_text())["opened"] == "<think>\n"
    samples = [event.output for event in run.events()[0] if isinstance(event, Sample)]
    assert samples
    assert all(text.startswith("<think>\n") and text.count("<think>") == 1 for text in samples)
    decoder, _ = opened(of_run(run))
    assert prompt_of(decoder).endswith("<|im_start|>assistant\n<think>\n")
    rows = decoder.rows_for("Why?")
    assert [decoder.text(row) for row in rows] == ["<think>\n", "<think>\n"]
    rows[0].tokens += decoder.tokenizer("Gout.\n</think>\n<response>\nYes.\n</response>")["input_ids"]
    assert decoder.text(rows[0]) == "<think>\nGout.\n</think>\n<response>\nYes.\n</response>"
