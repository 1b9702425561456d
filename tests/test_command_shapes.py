"""The names that scripts rely on: every command's options, and the keys of what `--json` prints.

`command_shapes.json` is the record; a name may be added to it, and one that leaves it breaks somebody's script. To
write it anew: `python -m tests.test_command_shapes`.
"""

import json
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from medcot.cli import app

RECORD = Path(__file__).with_name("command_shapes.json")
KEPT = Path(__file__).with_name("written_before")
RUNS = ("--runs-dir", str(KEPT / "kept"))
ASKED = {
    "runs": ("runs", *RUNS),
    "show": ("show", "finished", *RUNS),
    "results": ("results", "finished", *RUNS),
    "publish": ("publish", "finished", "--repo", "somebody/adapter", "--dry-run", *RUNS),
    "doctor": ("doctor", *RUNS),
}


def options() -> dict[str, list[str]]:
    """Every command with its arguments and options."""
    commands = typer.main.get_command(app).commands
    return {name: sorted(o for p in commands[name].params for o in [*p.opts, *p.secondary_opts]) for name in commands}


def keys(value: object, path: str = "") -> set[str]:
    """The path of every key, lists as one."""
    if isinstance(value, list):
        return set().union(*(keys(item, path) for item in value)) if value else set()
    if isinstance(value, dict):
        return {f"{path}.{k}".lstrip(".") for k in value}.union(*(keys(v, f"{path}.{k}") for k, v in value.items()))
    return set()


def printed(*arguments: str) -> set[str]:
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return keys(json.loads(done.stdout))


def test_every_command_takes_what_it_took():
    recorded, now = json.loads(RECORD.read_text(encoding="utf-8"))["options"], options()
    missing = {name: sorted(set(known) - set(now.get(name, ()))) for name, known in recorded.items()}
    assert {name: gone for name, gone in missing.items() if gone} == {}


@pytest.mark.parametrize("name", ASKED)
def test_every_key_is_still_printed(name):
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))["keys"][name]
    assert sorted(set(recorded) - printed(*ASKED[name])) == []


if __name__ == "__main__":
    shapes = {"options": options(), "keys": {name: sorted(printed(*asked)) for name, asked in ASKED.items()}}
    RECORD.write_text(json.dumps(shapes, indent=1, sort_keys=True) + "\n", encoding="utf-8")
