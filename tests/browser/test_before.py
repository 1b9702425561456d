"""Before a start: an upload, its columns, the preview, the audit, the plan and the tokens; settings as files."""

import json
import tomllib

import pytest
from playwright.sync_api import Page, expect

from medcot.runs.store import RunStore
from medcot.settings import recipes
from medcot.settings.recipes import compose
from tests.browser.conftest import PATIENCE, field, fill, unfold
from tests.browser.test_states import NASTY
from tests.fakes import FakeClient

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)


def other_names(path, n=12):
    """Records under other column names; one question stands twice, nearly, on both sides of the split."""
    rows = [
        {
            "instruction": f"What is sign {i} with fever?",
            "cot": f"Think {i}.",
            "output": "Flu.",
        }
        for i in range(n)
    ]
    rows[0]["instruction"] = "A man of 60 has had a painful red swollen toe since last night after a meal. What is it?"
    rows[n - 1]["instruction"] = rows[0]["instruction"].replace(". What is it?", ", what is it")
    rows[4]["output"] = NASTY
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def choose(page: Page, button: str, file) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button, exact=True).click()
    chooser.value.set_files(file)


def test_upload_mapping_preview_audit_plan_and_tokens(serve, open_page, runs_dir, tiny_model, tmp_path):
    page = open_page(serve(runs_dir))
    expect(page.get_by_text("An uploaded file is kept with the runs (.uploads)")).to_be_visible()
    fill(page, {"model.id": tiny_model, "data.held_out": 4, "training.max_length": 256})
    choose(page, "Upload a data file", other_names(tmp_path / "My data (1).jsonl"))
    preview = page.locator("#preview")
    expect(preview).to_contain_text("question from 'instruction', reasoning from 'cot', answer from 'output'")
    expect(page.locator("#columns-guessed")).to_contain_text("Guessed by the columns' names.")
    for part, column in (("question", "instruction"), ("reasoning", "cot"), ("answer", "output")):
        expect(field(page, f"data.{part}_column")).to_have_value(column)
    expect(preview.locator(".mc-turn-assistant .mc-text").first).to_contain_text("window.pwned=1")
    (kept,) = (runs_dir / ".uploads").iterdir()
    assert kept.name.startswith("my-data-1-")
    expect(field(page, "data.source")).to_have_value(str(kept))
    expect(page.locator("#command")).to_contain_text("--set data.question_column=instruction")

    expect(page.locator("#plan")).to_contain_text("Trained parameters")
    expect(page.locator("#histograms figure")).to_have_count(4)
    near = page.locator("#audit details", has_text="nearly repeat a training question: 1")
    near.locator("summary").click()
    expect(near).to_contain_text("Training 12: A man of 60")
    tokens = page.locator("#tokens")
    expect(tokens.locator(".mc-tokens-prompt b")).to_have_text("Read, not learned")
    expect(tokens.locator(".mc-tokens-trained b")).to_have_text("Learned")
    expect(tokens.locator(".mc-tokens-end")).to_contain_text("<|im_end|>")
    page.locator("#record").locator("input, textarea").fill("7")
    page.get_by_role("button", name="Show its tokens", exact=True).click()
    expect(tokens.get_by_role("heading")).to_have_text("What the model learns from: record 7")
    page.locator("#record").locator("input, textarea").fill("99")
    page.get_by_role("button", name="Show its tokens", exact=True).click()
    expect(tokens).to_contain_text("there is no record 99 in use. They go from 1 to 12.")
    assert page.evaluate("window.pwned") is None

    page.locator("#settings button.label-wrap", has_text="Data").click()
    fill(page, {"data.validation": 2, "data.test": 4})
    page.locator("#check").click()
    expect(preview).to_contain_text("5 records to train on, 2 to validate with, 4 to test with")
    expect(page.locator("#audit details", has_text="since they repeat one of another part: 1")).to_be_visible()
    assert not RunStore(runs_dir).list()


def test_an_upload_of_chat_messages_shows_every_turn_and_further_data_beside_it(serve, open_page, runs_dir, tmp_path):
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why fever?"},
        {"role": "assistant", "content": "<think>A virus.</think>Flu."},
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": "<think>It passes.</think>Rest."},
    ]
    file = tmp_path / "chat.jsonl"
    file.write_text(f"{json.dumps({'messages': said})}\n" * 30, encoding="utf-8")
    page = open_page(serve(runs_dir, FakeClient()))
    choose(page, "Upload a data file", file)
    preview = page.locator("#preview")
    expect(preview).to_contain_text("question from 'messages.user', reasoning from 'messages.assistant'")
    expect(preview).to_contain_text("All records begin with the same system message")
    turns = preview.locator("details").first.locator(".mc-turn")
    expect(turns.locator("b")).to_have_text(["System", "User", "Assistant", "User", "Assistant"])
    expect(turns.nth(3)).to_contain_text("And then?")
    expect(turns.nth(4)).to_contain_text("It passes.")

    further = tmp_path / "general.jsonl"
    rows = [{"query": f"Sum {i}?", "cot": "Count.", "answer": "It is so."} for i in range(6)]
    further.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    unfold(page)
    page.locator("#settings button.label-wrap", has_text="Data").click()
    fill(page, {"data.more": f"{further} weight=0.5"})
    page.locator("#check").click()
    expect(preview).to_contain_text("Beside the data is learned: general.jsonl: 3 an epoch, 0.5 times each")
    expect(preview.locator("summary").last).to_contain_text("Sum ")


def test_an_upload_of_another_kind_is_refused_and_not_kept(empty_page, tmp_path):
    page = empty_page
    pickle = tmp_path / "records.pkl"
    pickle.write_bytes(b"\x80\x04.")
    choose(page, "Upload a data file", pickle)
    page.wait_for_timeout(1500)
    expect(field(page, "data.source")).to_have_value("starter")
    archive = tmp_path / "records.tar.gz"
    archive.write_bytes(b"\x1f\x8b")
    choose(page, "Upload a data file", archive)
    refused = page.locator("#train-problems")
    expect(refused).to_contain_text("records.tar.gz")
    page.wait_for_timeout(1500)
    expect(refused).to_contain_text("records.tar.gz")
    expect(page.get_by_role("tab", name="The run", exact=True)).to_have_attribute("aria-selected", "true")


def test_problems_are_told_instead_of_a_plan(serve, open_page, runs_dir):
    page = open_page(serve(runs_dir, FakeClient()))
    fill(page, {"training.epochs": "-1", "data.source": "missing.csv"})
    page.get_by_role("button", name="Check data and plan", exact=True).click()
    expect(page.locator("#train-problems")).to_contain_text("2 things have to be fixed first")
    expect(page.locator("#train-problems")).to_be_in_viewport(ratio=1)
    expect(page.locator("#set-training-epochs")).to_contain_text("greater than 0")
    expect(page.get_by_role("heading", name="Nothing was looked at")).to_be_attached()


def test_settings_go_to_a_file_and_come_back(serve, open_page, runs_dir, tmp_path):
    page = open_page(serve(runs_dir))
    fill(page, {"lora.rank": "8", "name": "from a file"})
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as TOML", exact=True).click()
    saved = tmp_path / "run.toml"
    download.value.save_as(saved)
    assert tomllib.loads(saved.read_text())["lora"]["rank"] == 8
    saved.write_text(saved.read_text().replace("rank = 8", "rank = 9"))
    page.reload()
    choose(page, "Load a TOML file", saved)
    told = "Loaded run.toml. Settings that differ from the recipe starter: 2."
    expect(page.locator("#train-problems")).to_have_text(told)
    unfold(page)
    expect(field(page, "lora.rank")).to_have_value("9")
    expect(page.locator("#command")).to_contain_text("--set lora.rank=9")
    saved.write_text("rank = [")
    choose(page, "Load a TOML file", saved)
    expect(page.locator("#train-problems")).to_contain_text("run.toml: is not TOML")
    saved.write_text(recipes.to_toml(compose("llama-3.2-3b-medical-cot")))
    choose(page, "Load a TOML file", saved)
    expect(field(page, "model.id")).to_have_value("unsloth/Llama-3.2-3B-Instruct")
    expect(page.locator("#command")).to_contain_text("--recipe llama-3.2-3b-medical-cot")


def test_copy_says_on_its_button_that_it_has_copied(empty_page):
    page = empty_page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copy = page.locator("#copy-command")
    copy.click()
    expect(copy).to_have_text("Copied")
    copy.click()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#command pre").inner_text()
    expect(copy).to_have_text("Copy the command")


def test_a_high_learning_rate_gets_a_note_and_no_refusal(empty_page):
    page = empty_page
    page.get_by_role("radio", name="Llama 3.2 3B, medical reasoning").check()
    unfold(page)
    expect(field(page, "model.id")).to_have_value("unsloth/Llama-3.2-3B-Instruct")
    fill(page, {"training.learning_rate": "2e-3"})
    expect(page.locator("#form-notes")).to_contain_text("10 times the upper end of published LoRA advice")
    fill(page, {"training.learning_rate": "1e-4"})
    expect(page.locator("#form-notes")).not_to_contain_text("published")


def test_columns_of_names_of_their_own_are_chosen_from_lists_and_shown_as_they_are_read(
    serve, open_page, runs_dir, tmp_path
):
    file = tmp_path / "mine.csv"
    rows = [f"Why sign {i}?,First {i}.,Flu {i}.,note {i}" for i in range(40)]
    file.write_text("\n".join(["ask,steps,final,more", *rows]), encoding="utf-8")
    page = open_page(serve(runs_dir, FakeClient()))
    expect(field(page, "data.answer_column")).to_be_hidden()
    choose(page, "Upload a data file", file)
    question, answer = field(page, "data.question_column"), field(page, "data.answer_column")
    expect(field(page, "data.reasoning_column")).to_have_value("steps")
    expect(page.locator("#train-problems")).to_contain_text("Choose the right one")
    assert "--" not in page.locator("#train-problems").inner_text()
    for box, name in ((question, "ask"), (answer, "final")):
        box.click()
        expect(page.get_by_role("option")).to_have_count(4)
        page.get_by_role("option", name=name, exact=True).click()
    expect(page.locator("#preview .mc-turn-assistant .mc-text").first).to_contain_text("Flu")
    expect(page.locator(".mc-wrong")).to_have_count(0)
    expect(page.locator("#train-problems")).to_have_text("")


def test_a_click_on_a_problem_unfolds_and_focuses_its_field_and_a_field_is_checked_when_it_is_left(empty_page):
    page = empty_page
    fill(page, {"training.epochs": "many"})
    field(page, "lora.rank").focus()
    epochs = page.locator("#set-training-epochs")
    expect(epochs).to_contain_text("must be a number")
    expect(page.locator(".mc-wrong")).to_have_count(1)
    page.locator("#start").click()
    name = page.locator("#train-problems button", has_text="Epochs")
    expect(name).to_be_visible()
    page.locator("#settings > button").click()
    expect(epochs).to_be_hidden()
    name.click()
    expect(field(page, "training.epochs")).to_be_focused()
    field(page, "training.epochs").fill("1")
    expect(page.locator(".mc-wrong")).to_have_count(0)
