"""Several data sets: each under its own columns, as often as its weight says, in an order that the seed fixes."""

import hashlib
import json
import tomllib

import pytest

from medcot import data
from medcot.errors import BadInput
from medcot.settings import DataSettings, FurtherSource, RunSettings, build
from medcot.settings.recipes import changed_settings, compose, to_toml
from medcot.settings.sources import MOST_LINE, as_line, from_line
from medcot.workers import preflight
from tests.conftest import make_records, tiny_raw, write_records
from tests.data.test_examples import write


def general(folder, n=10, name="general.jsonl"):
    return write(
        folder, [{"query": f"Sum {i}?", "cot": f"Count {i}.", "output": f"It is {i}."} for i in range(n)], name
    )


def settings_with(folder, *more, **settings):
    """Ten medical records of which four are held out, and these beside them."""
    return DataSettings(source=str(write_records(folder / "medical.jsonl", 10)), held_out=4, more=more, **settings)


def beside(path, **fields):
    columns = {"question_column": "query", "reasoning_column": "cot", "answer_column": "output"}
    return FurtherSource(source=str(path), **columns, **fields)


@pytest.mark.parametrize(("weight", "times"), [(1, [1] * 10), (2, [2] * 10), (0.5, [0, 1]), (1.5, [1, 2]), (0.01, [0])])
def test_each_record_is_learned_as_often_as_the_weight_says_and_none_is_held_out(tmp_path, weight, times):
    alone = data.load(settings_with(tmp_path))
    mixed = settings_with(tmp_path, beside(general(tmp_path), weight=weight))
    split = data.load(mixed)
    assert split.held_out == alone.held_out
    assert split.train[:6] == alone.train, "the first data set is whole, and stands first"
    further = [e.record for e in split.train[6:]]
    counted = [further.count(number) for number in range(11, 21)]
    assert len(further) == round(10 * weight)
    assert counted == times or set(counted) == set(times), "records are counted on behind the first data set's"
    assert {e.question for e in split.train[6:]} <= {f"Sum {i}?" for i in range(10)}
    again = data.load(mixed)
    assert (again.train, again.fingerprint) == (split.train, split.fingerprint)
    other = data.load(mixed.model_copy(update={"shuffle_seed": 7}))
    assert (other.fingerprint == split.fingerprint) == (weight in (1, 2, 0.01)), "the seed chooses what is over"


def test_one_data_set_is_what_it_was(tmp_path):
    """The fingerprint that the version before wrote for these records."""
    split = data.load(settings_with(tmp_path))
    assert split.shares == []
    texts = (json.dumps([r["Question"], r["Complex_CoT"], r["Response"]]) for r in make_records(10))
    assert split.fingerprint == hashlib.sha256("".join(["4 held out\n", *texts]).encode()).hexdigest()


def test_columns_of_each_are_guessed_told_and_kept(tmp_path):
    chat = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "<think>A greeting.</think>Hello."}]
    chats = write(tmp_path, [{"messages": chat}] * 3, "chats.jsonl")
    plain = FurtherSource(source=str(general(tmp_path, 3))), FurtherSource(source=str(chats))
    fitted, split = data.load_fitted(settings_with(tmp_path, *plain))
    assert [(one.question_column, one.answer_column) for one in fitted.more] == [
        ("query", "output"),
        ("messages.user", "messages.assistant"),
    ]
    assert [e.answer for e in split.train[6:]] == ["It is 0.", "It is 1.", "It is 2.", *["Hello."] * 3]
    assert any(note.startswith("Columns of chats.jsonl guessed") for note in split.notes)
    assert data.load(fitted).fingerprint == split.fingerprint
    assert [str(share) for share in split.shares] == [
        "general.jsonl: 3 an epoch (records 11 to 13)",
        "chats.jsonl: 3 an epoch (records 14 to 16)",
    ]


def test_problems_of_each_come_at_once_and_name_their_file(tmp_path):
    bad = write(tmp_path, [{"query": "q", "cot": "r", "output": ""}], "bad.jsonl")
    missing = FurtherSource(source=str(tmp_path / "missing.jsonl"))
    named = FurtherSource(source=str(general(tmp_path)), question_column="frage")
    with pytest.raises(BadInput) as refused:
        data.load_fitted(settings_with(tmp_path, beside(bad), missing, named))
    told = [str(problem) for problem in refused.value.problems]
    assert told[0].startswith("bad.jsonl, record 1: has an empty output")
    assert told[1].startswith("data.more: there is no file")
    assert told[2].startswith("data.more: no record of")
    assert "'frage'" in told[2]


def test_what_repeats_test_data_is_not_learned_from_a_further_data_set(tmp_path):
    repeat = {"query": make_records(1)[0]["Question"], "cot": "r", "output": "a"}
    leaky = write(tmp_path, [repeat, {**repeat, "query": "Another question altogether?"}], "leaky.jsonl")
    split = data.load(settings_with(tmp_path, beside(leaky, weight=2), validation="2", test="2"))
    assert [e.record for e in split.train[-2:]] == [12, 12]
    assert [(one.part, one.record) for one in split.repeated] == [("train", 11)]


LINES = {
    "a.jsonl": [{"source": "a.jsonl"}],
    " a.jsonl weight=0.5;b/c split=test weight=2 ": [
        {"source": "a.jsonl", "weight": "0.5"},
        {"source": "b/c", "split": "test", "weight": "2"},
    ],
    "'my file.csv' 'question_column=the question'": [{"source": "my file.csv", "question_column": "the question"}],
    r"C:\data\a.csv": [{"source": r"C:\data\a.csv"}],
    "": [],
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_names_data_sets_and_comes_back_from_every_face(line, tmp_path):
    assert from_line(line) == LINES[line]
    settings = build({"data": {"more": line}})
    assert from_line(as_line(settings.data.more)) == from_line(line)
    pairs = [pair for pair in changed_settings(settings) if pair.startswith("data.more=")]
    assert compose(None, None, pairs).data.more == settings.data.more
    assert build(tomllib.loads(to_toml(settings))).data.more == settings.data.more
    assert RunSettings.model_validate_json(settings.model_dump_json()) == settings


def test_tables_of_a_toml_file_name_them_too(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('[[data.more]]\nsource = "a.jsonl"\nweight = 0.5\n\n[[data.more]]\nsource = "b/c"\n', "utf-8")
    assert as_line(compose(None, path).data.more) == "a.jsonl weight=0.5; b/c"
    with pytest.raises(BadInput, match=r"belongs to a Hub data set; a\.jsonl is not one"):
        build({"data": {"more": "a.jsonl config=en"}})
    with pytest.raises(BadInput, match=r"data.more: 'sauce=b' is not NAME=VALUE"):
        build({"data": {"more": "a.jsonl sauce=b"}})


@pytest.mark.parametrize("kind", ["one name", "one value", "many sets", "nested", "tables"])
def test_a_line_that_is_too_long_is_refused_before_it_takes_time_by_the_square_of_its_length(kind, monkeypatch):
    long = MOST_LINE + 1
    line = {
        "one name": "x" * long,
        "one value": f"a split='{'x' * long}'",
        "many sets": "a;" * long,
        "nested": f"[{{{'.'.join('a' * long)}=1}}]",
        "tables": f"[{'{a=1},' * long}]",
    }[kind]
    for reader in ("tomllib.loads", "shlex.shlex"):
        monkeypatch.setattr(reader, lambda *_, **__: pytest.fail("it is read"))
    with pytest.raises(BadInput, match=rf"data.more: must have at most {MOST_LINE} characters"):
        compose(None, None, [f"data.more={line}"])


def test_a_run_keeps_their_whole_paths_and_their_columns(tmp_path, tiny_model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    general(tmp_path)
    raw = tiny_raw(tiny_model, write_records(tmp_path / "medical.jsonl", 10))
    settings, told = preflight.check(build({**raw, "data": {**raw["data"], "more": "general.jsonl weight=0.5"}}))
    (kept,) = settings.data.more
    assert (kept.source, kept.question_column, kept.weight) == (
        str((tmp_path / "general.jsonl").resolve()),
        "query",
        0.5,
    )
    assert told.train == 11
    assert told.shares == ["general.jsonl: 5 an epoch, 0.5 times each (records 11 to 20)"]
    assert told.first[-1].question.startswith("Sum ")
