"""Who may import whom, and that the page and the command line start without any model library."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import medcot

ROOT = Path(medcot.__file__).parent
HEAVY = ("torch", "transformers", "evaluate", "trl", "peft", "accelerate", "unsloth", "bitsandbytes")
# The one module above engine/ that stands on `evaluate`, for other people's code; nothing here imports it.
APART = "rouge_metric.py"


def files(*parts: str) -> list[Path]:
    return sorted(ROOT.joinpath(*parts).rglob("*.py"))


ABOVE = [f for f in files() if not {"engine", "ui"} & set(f.relative_to(ROOT).parts)]


def imported(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    package = ("medcot", *path.relative_to(ROOT).parts[:-1])
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def within(names: set[str], *packages: str) -> list[str]:
    return sorted(n for n in names if any(n == p or n.startswith(p + ".") for p in packages))


def test_the_files_are_found():
    assert {"jobs.py", "sections.py", "runs.py", APART} <= {f.name for f in ABOVE}
    assert files("engine")


@pytest.mark.parametrize("path", ABOVE, ids=lambda p: str(p.relative_to(ROOT)))
def test_above_the_engine(path):
    names = imported(path)
    assert within(names, "medcot.engine") == []
    assert within(names, "gradio") == []
    if path.name != APART:
        assert within(names, *HEAVY, "medcot.rouge_metric") == []
    if path.parent.name != "cli":
        assert within(names, "medcot.ui") == []


@pytest.mark.parametrize("path", files("engine"), ids=lambda p: str(p.relative_to(ROOT)))
def test_in_the_engine(path):
    assert within(imported(path), "medcot.cli", "medcot.terminal", "medcot.ui", "gradio") == []


@pytest.mark.parametrize("path", files("ui") or [pytest.param(None, marks=pytest.mark.skip(reason="no page yet"))])
def test_in_the_page(path):
    assert within(imported(path), "medcot.engine", "medcot.cli", "medcot.rouge_metric", *HEAVY) == []


_LOADS = """
import importlib, json, sys
heavy, names = json.loads(sys.argv[1]), json.loads(sys.argv[2])
loaded = {}
def look(what):
    for name in heavy:
        if name in sys.modules:
            loaded.setdefault(name, what)
for name in names:
    importlib.import_module(name)
    look(name)
from medcot import preflight, recipes
preflight.check(recipes.compose("starter"))
look("preflight.check")
print(json.dumps(loaded))
"""


def loads(heavy: list[str], names: list[str]) -> dict[str, str]:
    command = [sys.executable, "-c", _LOADS, json.dumps(heavy), json.dumps(names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_command_line_and_all_it_stands_on_load_no_model_library():
    names = ["medcot.cli"] + [
        ".".join(("medcot", *f.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for f in ABOVE
        if f.name not in (APART, "__main__.py")
    ]
    assert loads([*HEAVY, "gradio", "pandas", "datasets"], names) == {}


@pytest.mark.skipif(not files("ui"), reason="no page yet")
def test_the_page_loads_no_model_library():
    assert loads([*HEAVY], ["medcot.ui"]) == {}
