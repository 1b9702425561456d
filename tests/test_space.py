"""What a Space reads: the front matter of README.md, and requirements.txt beside gradio's own demands."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medcot.settings import STARTER
from medcot.settings.recipes import RECIPES

ROOT = Path(__file__).parents[1]


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GPU = PROJECT["optional-dependencies"]["gpu"]
BUILDERS = {"pip"}  # the builder's own
FOR_MCP = {"pydantic", "pydantic-core"}  # a Space adds gradio's mcp extra, which wants older ones


def pinned(file: str = "requirements.txt") -> dict[str, str]:
    lines = [line for line in (ROOT / file).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    found = [re.fullmatch(r"([\w.-]+)(?:==([\w.]+)(?:; .+)?|>=.+)", line) for line in lines]
    assert None not in found, "a line of another form"
    return {canonicalize_name(match[1]): match[2] or "" for match in found}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def test_the_card_is_whole_and_agrees_with_the_requirements():
    data = SpaceCard((ROOT / "README.md").read_text(encoding="utf-8")).data
    assert (data.sdk, data.sdk_version, data.app_file) == ("gradio", pinned()["gradio"], "app.py")
    assert data.python_version == "3.12"
    assert (ROOT / data.app_file).is_file()
    assert data.hf_oauth is True
    assert set(data.hf_oauth_scopes) == {"gated-repos", "contribute-repos"}
    assert len(data.short_description) <= 60, "the Hub's limit"
    assert data.suggested_hardware
    wanted = {s.get("model", {}).get("id") for s in RECIPES.values()} - {None, STARTER}
    assert wanted <= set(data.models)
    assert {s["data"]["source"] for s in RECIPES.values() if "data" in s} - {STARTER} <= set(data.datasets)


def test_a_space_installs_one_pinned_set():
    space, whole = pinned(), pinned("constraints.txt")
    assert {name for name, version in space.items() if not version} == BUILDERS
    assert names(PROJECT["dependencies"]) | names(GPU) <= space.keys()
    assert {n: v for n, v in space.items() if whole.get(n, v) != v}.keys() == FOR_MCP


def test_all_that_is_brought_along_is_pinned_too():
    environment = {**default_environment(), "extra": ""}
    waiting, seen = names(PROJECT["dependencies"]), set()
    while waiting:
        seen.add(name := waiting.pop())
        for text in metadata.requires(name) or []:
            wanted = Requirement(text)
            if not wanted.marker or wanted.marker.evaluate(environment):
                waiting |= names([text]) - seen
    assert seen - pinned().keys() == set()
    assert seen - pinned("constraints.txt").keys() == BUILDERS


def test_the_requirements_leave_room_for_what_a_space_adds():
    """A Space installs gradio[oauth,mcp] beside them."""
    for text in metadata.requires("gradio"):
        wanted = Requirement(text)
        if wanted.marker and any(wanted.marker.evaluate({"extra": extra}) for extra in ("oauth", "mcp")):
            assert wanted.specifier.contains(pinned()[canonicalize_name(wanted.name)]), text


@pytest.mark.parametrize("file", ["Dockerfile", "Dockerfile.gpu"])
def test_an_image_is_built_of_the_pinned_set(file):
    [install] = re.findall(r"^RUN pip install (.+)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert "-r requirements.txt" in install or "-c constraints.txt" in install
    for name in re.findall(r'"?([a-z]+)(?:\[[\w,]+\])?(?:==|>=)', install):
        assert re.search(rf"{name}(\[[\w,]+\])?==", install), f"{name} in any version"


def test_every_direct_dependency_is_in_the_table_of_licences_with_its_own_words():
    text = (ROOT / "docs" / "licenses.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w[\w-]*) \| (.+?) \| ", text, re.MULTILINE)
    table = {canonicalize_name(name): licence for name, licence in rows if name != "package"}
    extras = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
    assert table.keys() == names([*PROJECT["dependencies"], *extras])
    for name in table.keys() - names(GPU):
        said = metadata.metadata(name).get("License-Expression")
        assert table[name] == (said or table[name]), name
