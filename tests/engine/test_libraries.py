"""Libraries that cannot load are kept out of the way of those that would fail with them."""

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
