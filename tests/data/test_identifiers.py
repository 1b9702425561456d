"""What could identify a person in records: refused or masked by kind and place, and never shown."""

import json
import unicodedata

import pytest

from medcot import data, safety
from medcot.data import identifiers
from medcot.errors import BadInput
from medcot.settings import DataSettings
from tests.conftest import make_records

NAME, MAIL, NUMBER = "Mrs. Delacroix", "jo.smith@example.org", "MRN 4471 2290"


def written(tmp_path, rows) -> str:
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def personal(tmp_path):
    rows = make_records(12)
    rows[0]["Question"] += f" It is {NAME}."
    rows[5]["Complex_CoT"] += f" Write to {MAIL} about {NAME}."
    rows[7]["Response"] += f" See {NUMBER}."
    return written(tmp_path, rows)


def loaded(source: str, how: str) -> data.Split:
    return data.load(DataSettings(source=source, held_out=4, identifiers=how))


def test_places_are_record_numbers_by_kind(personal):
    split = loaded(personal, "warn")
    found = identifiers.places([*split.held_out, *split.train])
    assert found == {"a name": [1, 6], "an e-mail address": [6], "a record number": [8]}
    told = identifiers.in_words(identifiers.counted({"a name": list(range(1, 31)), "a full date": [7]}))
    assert told.startswith("a name in 30 records (1, 2, ")
    assert told.endswith("19, 20 and more); a full date in 1 record (7)")


def test_refusing_names_kind_and_record_and_no_text(personal):
    with pytest.raises(BadInput) as refused:
        loaded(personal, "refuse")
    said = str(refused.value)
    for words in ("a name in 2 records (1, 6)", "a record number in 1 record (8)", "data.identifiers=mask"):
        assert words in said
    assert not any(text in said for text in ("Delacroix", MAIL, "4471"))


def test_masking_changes_what_is_learned_and_the_fingerprint(personal):
    plain, masked = loaded(personal, "warn"), loaded(personal, "mask")
    assert masked.fingerprint != plain.fingerprint
    learned = {e.record: e for e in [*masked.held_out, *masked.train]}
    assert learned[1].question.endswith(" It is Mrs. [name].")
    assert learned[6].reasoning.endswith("Write to [e-mail address] about Mrs. [name].")
    assert learned[8].answer.endswith("See MRN [record number].")
    assert masked.masked == {"a name": [1, 6], "an e-mail address": [6], "a record number": [8]}
    others = [(e, learned[e.record]) for e in [*plain.held_out, *plain.train] if e.record not in (1, 6, 8)]
    assert all(before == after for before, after in others)


def test_data_without_identifiers_is_the_same_however_they_are_handled(tmp_path):
    source = written(tmp_path, make_records(12))
    splits = [loaded(source, how) for how in ("warn", "refuse", "mask")]
    assert len({split.fingerprint for split in splits}) == 1
    assert all(split == splits[0] for split in splits)


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10² cells/µl, Mr. Meyer, ½ tablet", "10² cells/µl, Mr. [name], ½ tablet"),
        (decomposed("Größe 10⁻³; Mrs Mayer has fever"), decomposed("Größe 10⁻³; Mrs [name] has fever")),
        (decomposed("한국 Mr. Kim 10²"), decomposed("한국 Mr. [name] 10²")),
        ("ﬁbrosis ① born on 3.4.1961", "ﬁbrosis ① born on [date of birth]"),
        ("no one at all, 10² of them", "no one at all, 10² of them"),
        ("", ""),
    ],
)
def test_masking_leaves_all_else_as_it_was_written(text, expected):
    assert safety.masked(text) == expected
    assert safety.masked(expected) == expected
