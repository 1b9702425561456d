"""Few rooms, imports in one direction, modules that one reads in a sitting.

Each rule is a function of a package's folder, so that a test can break each of them in a small package.
"""

import ast
import json
import re
import statistics
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import medcot

HOUSE = Path(medcot.__file__).parent
# Bottom up: a room imports from rooms before it, and from no other.
FLOORS = (
    ("errors",),
    ("machine", "safety"),
    ("settings",),
    ("hub", "prompts"),
    ("data",),
    ("evaluation",),
    ("runs",),
    ("adapters",),
    ("workers",),
    ("engine", "cli", "ui"),
)
LONGEST, SHORTEST = 300, 60
# Shorter than a module should be, and why it is one.
SHORT: dict[str, str] = {
    "data/one_text.py": "what a text of all parts looks like, apart from records that have columns",
    "data/uploads.py": "files that the page keeps; all else in data only reads",
    "engine/rank.py": "the entry point of one of a job's processes",
    "evaluation/rouge_metric.py": "an evaluate.Metric for others, apart because of what it imports",
    "runs/ids.py": "what a job is called, which runs, evaluations and exports share",
    "ui/fast_import.py": "a patch that must stand before everything else that imports gradio",
    "ui/train/queue.py": "a card of its own, whose words the page has",
    "ui/progress.py": "how a job stands, which the cards of all tabs say in the same words",
}
# Where JSON, TOML or another program's object is read or written, a plain dict is what it is.
EDGES: dict[str, str] = {
    "evaluation/choice_files.py:_as_plain": "a row of somebody's question file",
    "evaluation/score_files.py:_match": "rows of a predictions file",
    "evaluation/score_files.py:_read_outputs": "rows of a predictions file",
    "evaluation/summary.py:as_json": "summary.json",
}
HEAVY = ("torch", "transformers", "evaluate", "trl", "peft", "accelerate", "unsloth", "bitsandbytes")
# The one module outside engine/ that stands on `evaluate`, for other people's code; nothing here imports it.
APART = "evaluation/rouge_metric.py"


def modules(house: Path) -> list[Path]:
    return sorted(house.rglob("*.py"))


def name(house: Path, path: Path) -> str:
    return path.relative_to(house).as_posix()


def room(house: Path, path: Path) -> str:
    return path.relative_to(house).parts[0].removesuffix(".py")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(house: Path, path: Path) -> set[str]:
    """Every dotted name that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name(house, path)}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def target(house: Path, dotted: str) -> Path | None:
    """The file below the house that a dotted name means, or that holds it; None for other packages' names."""
    if dotted.split(".")[0] != "medcot":
        return None
    path = house.joinpath(*dotted.split(".")[1:])
    places = (
        path.with_suffix(".py"),
        path / "__init__.py",
        path.parent.with_suffix(".py"),
        path.parent / "__init__.py",
    )
    return next((p for p in places if p.is_file() and p.is_relative_to(house)), None)


def imports(house: Path, path: Path) -> set[Path]:
    return {found for dotted in imported(house, path) if (found := target(house, dotted))} - {path}


# ---- the rules: what breaks them, in words


def strange_rooms(house: Path) -> list[str]:
    known = {r for floor in FLOORS for r in floor} | {"__init__", "__main__"}
    return sorted({room(house, p) for p in modules(house)} - known)


def upward_imports(house: Path) -> list[str]:
    floor_of = {r: i for i, floor in enumerate(FLOORS) for r in floor}
    found = []
    for path in modules(house):
        for other in imports(house, path):
            one, two = room(house, path), room(house, other)
            if one != two and floor_of.get(two, 0) >= floor_of.get(one, len(FLOORS)):
                found.append(f"{name(house, path)} -> {name(house, other)}")
    return sorted(found)


def package_circles(house: Path) -> list[str]:
    """Of packages, and of the modules that lie directly in the house or in a room with packages."""

    def node(path: Path) -> str:
        package = path.parent
        return (
            name(house, path)
            if package == house or any(p.is_dir() and (p / "__init__.py").is_file() for p in package.iterdir())
            else name(house, package)
        )

    graph: dict[str, set[str]] = {}
    for path in modules(house):
        others = {node(other) for other in imports(house, path)}
        graph.setdefault(node(path), set()).update(others - {node(path)})
    return circle(graph)


def module_circles(house: Path) -> list[str]:
    graph = {
        name(house, p): {name(house, o) for o in imports(house, p) if o.name != "__init__.py"} for p in modules(house)
    }
    return circle(graph)


def circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(reversed(error.args[1]))]
    return []


def wrong_sizes(house: Path) -> list[str]:
    found = []
    for path in modules(house):
        lines, here = len(path.read_text(encoding="utf-8").splitlines()), name(house, path)
        if lines > LONGEST:
            found.append(f"{here}: {lines} lines")
        if (lines < SHORTEST and path.name not in ("__init__.py", "__main__.py")) != (here in SHORT):
            found.append(f"{here}: {lines} lines, {'and' if here in SHORT else 'not'} on the short list")
    return found + sorted(f"{here}: on the short list, and not there" for here in SHORT if not (house / here).is_file())


def untyped_signatures(house: Path) -> list[str]:
    found = []
    for path in modules(house):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            said = [a.annotation for a in arguments if a.annotation] + ([node.returns] if node.returns else [])
            if any("dict[str, Any]" in ast.unparse(annotation) for annotation in said):
                found.append(f"{name(house, path)}:{node.name}")
    return sorted(set(found) ^ (set(EDGES) if house == HOUSE else set()))


def counted_skips(house: Path) -> list[str]:
    counted = re.compile(r"skip\(\)\s*\]\s*\*|\*\s*\[\s*gr\.skip\(\)|\[\s*gr\.skip\(\)\s*for ")
    return [name(house, p) for p in modules(house) if counted.search(p.read_text(encoding="utf-8"))]


RULES = (
    strange_rooms,
    upward_imports,
    package_circles,
    module_circles,
    wrong_sizes,
    untyped_signatures,
    counted_skips,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_nothing_breaks_the_rule(rule):
    assert rule(HOUSE) == []


def test_there_are_at_most_fourteen_rooms():
    assert len({r for floor in FLOORS for r in floor}) <= 14


def test_half_of_all_functions_have_at_most_eight_lines():
    nodes = (node for path in modules(HOUSE) for node in ast.walk(parsed(path)))
    lengths = [n.end_lineno - n.lineno + 1 for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert statistics.median(lengths) <= 8


BROKEN = {
    strange_rooms: {"attic.py": ""},
    upward_imports: {"settings/build.py": "from medcot.runs import run", "runs/run.py": ""},
    package_circles: {
        "engine/one/a.py": "from medcot.engine.two import b",
        "engine/two/b.py": "from medcot.engine.one import c",
        "engine/one/c.py": "",
    },
    module_circles: {"ui/a.py": "from medcot.ui.b import x", "ui/b.py": "def x():\n    from medcot.ui import a"},
    wrong_sizes: {"ui/long.py": "x = 1\n" * 301},
    untyped_signatures: {"ui/a.py": "def f(x: int) -> list[dict[str, Any]]: ..."},
    counted_skips: {"ui/a.py": "y = [gr.skip()] * 7"},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_finds_what_breaks_it(rule, tmp_path):
    for here, text in BROKEN[rule].items():
        path = tmp_path / here
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        for package in path.parents:
            if package != tmp_path and package.is_relative_to(tmp_path):
                (package / "__init__.py").touch()
    assert rule(tmp_path)


# ---- what is loaded


def within(names: set[str], *packages: str) -> list[str]:
    return sorted(n for n in names if any(n == p or n.startswith(p + ".") for p in packages))


@pytest.mark.parametrize(
    "path", [p for p in modules(HOUSE) if room(HOUSE, p) != "engine"], ids=lambda p: name(HOUSE, p)
)
def test_a_model_library_is_imported_in_the_engine_alone(path):
    if name(HOUSE, path) != APART:
        assert within(imported(HOUSE, path), *HEAVY, "medcot.evaluation.rouge_metric") == []
    if room(HOUSE, path) != "ui":
        assert within(imported(HOUSE, path), "gradio") == []


@pytest.mark.parametrize("path", modules(HOUSE / "engine"), ids=lambda p: name(HOUSE, p))
def test_the_engine_does_not_import_gradio(path):
    assert within(imported(HOUSE, path), "gradio") == []


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
from medcot.settings.recipes import compose
from medcot.workers import preflight
preflight.check(compose("starter"))
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
        ".".join(("medcot", *p.relative_to(HOUSE).with_suffix("").parts)).removesuffix(".__init__")
        for p in modules(HOUSE)
        if room(HOUSE, p) not in ("engine", "ui", "__main__") and name(HOUSE, p) != APART
    ]
    assert loads([*HEAVY, "gradio", "pandas", "datasets"], names) == {}


def test_the_page_loads_no_model_library():
    assert loads([*HEAVY], ["medcot.ui"]) == {}
