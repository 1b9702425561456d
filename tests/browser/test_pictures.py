"""The program that makes the README's pictures: each is the page as it is, and small."""

import re
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.pictures import MOST_BYTES, SHOTS, take
from medcot.runs.events import Step
from tests.browser.test_evaluate import write_evaluated
from tests.fakes import FakeClient

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def test_every_picture_is_made_from_the_page_and_is_small(serve, chromium, runs_dir, tmp_path):
    evaluation = write_evaluated(runs_dir, [0.1, 0.2, -0.1] * 6)
    run = evaluation.path.parents[1]
    figures = {
        "epoch": 0.1,
        "learning_rate": 1e-3,
        "tokens_seen": 9,
        "tokens_per_second": 9.0,
        "eta_seconds": 1.0,
        "gpu_memory_gib": 0.0,
    }
    steps = [Step(step=i, total_steps=9, loss=3 / i, grad_norm=1.0, **figures) for i in range(1, 9)]
    (run / "events.jsonl").write_text("".join(step.model_dump_json() + "\n" for step in steps))
    url = serve(
        runs_dir, FakeClient("<think>a</think>\n<response>b</response>", "<think>c</think>\n<response>d</response>")
    )
    made = list(take(url, tmp_path, chromium))
    assert [path.stem for path in made] == [shot.name for shot in SHOTS]
    for path, shot in zip(made, SHOTS, strict=True):
        with Image.open(path) as image:
            assert image.size == (shot.width, shot.height)
            assert len(image.convert("RGB").getcolors(100_000)) > 20, "it shows something"
        assert path.stat().st_size <= MOST_BYTES


def test_the_readme_shows_only_what_the_program_makes():
    shown = re.findall(r"docs/images/(\w+)\.png", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown
    assert set(shown) <= {shot.name for shot in SHOTS}
