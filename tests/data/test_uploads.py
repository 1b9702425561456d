"""Uploaded data files: kept once, under safe names, in the runs folder alone."""

import errno
import os
from pathlib import Path

import pytest

from medcot.data import uploads
from medcot.errors import BadInput
from medcot.runs.store import RunStore
from tests.conftest import write_records


def test_the_same_content_is_kept_once_and_is_no_run(tmp_path, runs_dir):
    file = write_records(tmp_path / "records.jsonl")
    kept = uploads.keep(runs_dir, file)
    assert uploads.keep(runs_dir, file) == kept
    assert kept.read_bytes() == file.read_bytes()
    assert [p.name for p in (runs_dir / ".uploads").iterdir()] == [kept.name]
    assert RunStore(runs_dir).list() == []


@pytest.mark.parametrize("name", ["..;touch y.jsonl", "n" * 240 + ".csv", "--help.JSON", "名前.parquet"])
def test_names_are_made_safe(tmp_path, runs_dir, name):
    file = tmp_path / name
    file.write_text("[]")
    kept = uploads.keep(runs_dir, file)
    assert kept.parent == (runs_dir / ".uploads").resolve()
    assert len(kept.name) < 80
    assert kept.name.isascii()
    assert not set(kept.name) & set(" ;/\\")
    assert kept.suffix == file.suffix.lower()


@pytest.mark.parametrize("name", ["model.pkl", "data.jsonl.exe", "noending", ".jsonl"])
def test_another_kind_of_file_is_refused(tmp_path, runs_dir, name):
    file = tmp_path / name
    file.write_text("x")
    with pytest.raises(BadInput):
        uploads.keep(runs_dir, file)
    assert not runs_dir.exists()


def test_what_is_too_large_is_refused(tmp_path, runs_dir, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 10)
    with pytest.raises(BadInput) as refused:
        uploads.keep(runs_dir, write_records(tmp_path / "records.jsonl"))
    assert "an upload may have 10" in str(refused.value)
    assert not runs_dir.exists()


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path, runs_dir, monkeypatch):
    def full_disk(source, target):
        Path(target).write_text("half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfile", full_disk)
    with pytest.raises(BadInput, match="No space left"):
        uploads.keep(runs_dir, write_records(tmp_path / "records.jsonl"))
    assert list((runs_dir / uploads.FOLDER).iterdir()) == []
