"""Libraries that cannot load are kept out of the way of those that would fail with them, or take too long."""

import subprocess
import sys


def test_a_torchvision_that_cannot_load_is_tried_only_where_models_are_and_looks_absent_then(tmp_path):
    broken, tried = tmp_path / "torchvision", tmp_path / "tried"
    broken.mkdir()
    (broken / "__init__.py").write_text(f"open({str(tried)!r}, 'a').close()\nraise RuntimeError('no such operator')\n")
    script = f"""
import sys, pathlib
sys.path.insert(0, {str(tmp_path)!r})
import medcot.engine.worker, medcot.engine.service
tried = pathlib.Path({str(tried)!r})
print(tried.exists(), 'torch' in sys.modules)
medcot.engine.without_broken_torchvision()
medcot.engine.without_broken_torchvision()
import importlib.util
print(tried.exists(), importlib.util.find_spec('torchvision'))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["False False", "True None"]


def test_unsloth_finds_the_one_trainer_that_is_used_and_nobody_misses_the_others_later():
    script = """
import importlib
from medcot.engine import no_trainer_but_sft, without_broken_torchvision, without_wandb
without_broken_torchvision(), without_wandb()
def found(name):
    try:
        importlib.import_module(name)
        return 'found'
    except ModuleNotFoundError:
        return 'hidden'
others = ['trl.trainer.dpo_trainer', 'trl.trainer.reward_trainer', 'trl.experimental.orpo.orpo_trainer']
with no_trainer_but_sft():
    print(*map(found, others), found('trl.trainer.sft_trainer'))
print(*map(found, others))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["hidden hidden hidden found", "found found found"]
