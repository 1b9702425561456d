"""What a Space reads: the front matter of README.md, and requirements.txt beside gradio's own demands."""

import re
from pathlib import Path

from huggingface_hub import SpaceCard

from medcot.recipes import RECIPES
from medcot.settings import STARTER

ROOT = Path(__file__).parents[1]


def pinned() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line))


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


def test_the_requirements_leave_room_for_what_a_space_adds():
    """A Space installs gradio[oauth,mcp] beside them, whose mcp extra wants pydantic 2.12."""
    assert "pydantic" not in pinned()
