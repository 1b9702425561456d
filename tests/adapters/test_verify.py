"""An adapter's files that mean harm: words, soon, whatever stands in them."""

import json
import os
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcot import hub
from medcot.adapters.verify import require_safe
from medcot.errors import BadInput
from tests.adapters import hostile

COSTLY = "(([a-z_.0-9]+)+)+!"
DEEP = b'{"peft_type": "LORA", "x": ' + b"[" * 100_000


def refused(folder) -> str:
    with pytest.raises(BadInput) as raised:
        require_safe(folder)
    assert all(p.what and len(str(p)) < 1000 for p in raised.value.problems)
    return str(raised.value)


def test_a_sound_adapter_is_read_off_its_weights(tmp_path):
    found = require_safe(hostile.folder(tmp_path / "a", alpha_pattern={"v_proj": 8}))
    layers = [f"model.layers.0.self_attn.{name}" for name in ("q_proj", "v_proj")]
    assert found.ranks == dict.fromkeys(layers, 2)
    assert found.alphas == dict(zip(layers, (4, 8), strict=True))
    assert (found.targets, found.base) == (("q_proj", "v_proj"), "someone/tiny-instruct")


@pytest.mark.parametrize(
    "said",
    [
        {"target_modules": COSTLY},
        {"target_modules": [COSTLY]},
        {"target_modules": ["q_proj"] * 5000},
        {"target_modules": "all-linear"},
        {"target_modules": None},
        {"target_modules": 7},
        {"exclude_modules": COSTLY},
        {"layers_to_transform": [0], "layers_pattern": COSTLY},
    ],
    ids=str,
)
def test_what_could_cost_without_end_is_not_used_and_the_weights_say_which_layers(tmp_path, said):
    found = require_safe(hostile.folder(tmp_path / "a", **said))
    assert found.targets == tuple(f"model.layers.0.self_attn.{name}" for name in ("q_proj", "v_proj"))


@pytest.mark.parametrize(
    "said",
    [
        {"r": 2_000_000},
        {"r": 3},
        {"r": 2.5},
        {"r": 10**400},
        {"r": "8"},
        {"rank_pattern": {COSTLY: 2**40}},
        {"rank_pattern": [2]},
        {"rank_pattern": 2.0},
        {"alpha_pattern": True},
        {"lora_alpha": 10**300},
        {"alpha_pattern": {COSTLY: 4}},
        {"alpha_pattern": {"q" * 100_000: 4}},
        {"alpha_pattern": {f"layer{i}": i + 1 for i in range(1001)}},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_99999"},
        {"init_lora_weights": {"x": 1}},
        {"peft_type": "IA3" * 100_000},
        {"kasa_config": {"x": 1}},
        {"use_dora": 1},
    ],
    ids=lambda said: str(said)[:40],
)
def test_a_value_that_could_do_harm_is_refused(tmp_path, said):
    refused(hostile.folder(tmp_path / "a", **said))


@pytest.mark.parametrize(
    "shapes",
    [
        {"q_proj_A": (2, 4)},
        {"q_proj_A": (2, 4), "q_proj_B": (4, 1)},
        {"q_proj_A": (2, 4), "q_proj_B": (4, 2), "v_proj_A": (1, 4), "v_proj_B": (4, 1)},
        {"q_proj_B": (4, 2), "v_proj_A": (2, 4)},
    ],
    ids=["one side", "no pair", "a rank that nothing names", "two halves"],
)
def test_layers_that_do_not_fit_their_configuration_are_refused(tmp_path, shapes):
    found = hostile.tensors(**shapes)
    assert "layers" in refused(
        hostile.folder(tmp_path / "a", found, size=max(t["data_offsets"][1] for t in found.values()))
    )


def test_layers_of_other_ranks_that_the_configuration_names_are_taken(tmp_path):
    shapes = hostile.tensors(q_proj_A=(2, 4), q_proj_B=(4, 2), v_proj_A=(1, 4), v_proj_B=(4, 1))
    found = require_safe(hostile.folder(tmp_path / "a", shapes, size=96, rank_pattern={"v_proj": 1}))
    assert list(found.ranks.values()) == [2, 1]


@pytest.mark.parametrize(
    "content", [b"", b"[]", DEEP, b'{"r": ' + b"9" * 5000 + b"}", b"\xff\xfe", b'"x"', b" " * 10_000_001]
)
def test_a_configuration_that_is_none_is_refused(tmp_path, content):
    folder = hostile.folder(tmp_path / "a")
    (folder / "adapter_config.json").write_bytes(content)
    assert "has no readable adapter_config.json" in refused(folder)


@pytest.mark.parametrize("name", hub.ADAPTER_FILES)
@pytest.mark.parametrize("kind", ["pipe", "link out", "link to nothing", "folder"])
def test_a_file_that_is_none_of_the_folder_is_refused_and_not_read(tmp_path, name, kind):
    folder, secret = hostile.folder(tmp_path / "a"), tmp_path / "secret"
    secret.write_text("{}")
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "folder":
        (folder / name).mkdir()
    else:
        (folder / name).symlink_to(secret if kind == "link out" else tmp_path / "nothing")
    assert "is no file of this folder" in refused(folder)


def test_links_of_the_hubs_cache_and_within_the_folder_are_followed(tmp_path):
    snapshot, blobs = hostile.folder(tmp_path / "snapshots" / "abc"), tmp_path / "blobs"
    blobs.mkdir()
    for file in list(snapshot.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(f"../../blobs/{file.name}")
    require_safe(snapshot)
    here = hostile.folder(tmp_path / "here")
    (here / "adapter_config.json").rename(here / "own.json")
    (here / "adapter_config.json").symlink_to("own.json")
    require_safe(here)


@pytest.mark.parametrize("name", ["evil.bin", "evil.BIN", "Evil.Pkl", "x.PT"])
def test_a_pickle_is_refused_however_its_name_is_written(tmp_path, name):
    folder = hostile.folder(tmp_path / "a")
    (folder / name).write_bytes(b"\x80\x04.")
    assert f"holds pickled files ({name})" in refused(folder)


# ---- damage of any kind

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=4,
)
FIELDS = [*hostile.CONFIG, "rank_pattern", "alpha_pattern", "exclude_modules", "layers_to_transform", "revision"]


def check_configuration(folder, raw: bytes) -> None:
    (folder / "adapter_config.json").write_bytes(raw)
    with suppress(BadInput):
        require_safe(folder)


def damaged(raw: bytes, place: int, kind: int, new: bytes) -> bytes:
    """The bytes cut off, overwritten or with something put between."""
    place %= len(raw) + 1
    return (raw[:place], raw[:place] + new + raw[place + len(new) :], raw[:place] + new + raw[place:])[kind]


DAMAGE = (st.integers(0, 10**6), st.integers(0, 2), st.binary(max_size=6) | st.sampled_from([b"[", b"9" * 50, b'"']))


def configurations(count):
    @settings(max_examples=count, derandomize=True, deadline=None, database=None)
    @given(st.dictionaries(st.sampled_from(FIELDS), JSON), *DAMAGE)
    def check(folder, values, place, kind, new):
        whole = json.dumps({**hostile.CONFIG, **values}).encode()
        check_configuration(folder, whole)
        check_configuration(folder, damaged(whole, place, kind, new))

    return check


def test_any_configuration_is_taken_or_refused_in_words(tmp_path):
    folder = hostile.folder(tmp_path / "a")
    configurations(100)(folder)


@pytest.mark.thorough
def test_thousands_of_configurations_are_taken_or_refused_in_words(tmp_path):
    folder = hostile.folder(tmp_path / "a")
    configurations(5000)(folder)
