"""`medcot doctor`: what this machine has, whether the Hub answers, and which recipe fits."""

import importlib.metadata
import platform
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medcot import __version__, hub, starter
from medcot.device import device
from medcot.messages import DeviceRequest, Result
from medcot.service import ServiceClient, new_id

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "unsloth",
    "bitsandbytes",
    "gradio",
    "huggingface_hub",
    "wandb",
)
GPU_GIB = 7.0  # the 3B recipes in 4-bit at 2 x 8 sequences with checkpointing, with room for the driver


def examine(runs_dir: Path) -> dict[str, Any]:
    """Asks a worker what torch sees, and the Hub whether it answers; takes some seconds."""
    here = device()
    client = ServiceClient(runs_dir)
    try:
        reply = list(client.request(DeviceRequest(id=new_id())))[-1]
    finally:
        client.close()
    torch = reply.value if isinstance(reply, Result) else {"problem": " ".join(getattr(reply, "problems", []))}
    reason = "HF_HUB_OFFLINE is set" if hub.is_offline() else hub.unreachable()
    folder = next(p for p in [runs_dir.resolve(), *runs_dir.resolve().parents] if p.exists())
    return {
        "device": {"name": here.name, **asdict(here), "torch": torch},
        "versions": {
            "medcot": __version__,
            "python": platform.python_version(),
            **{p: v for p in PACKAGES if (v := version(p))},
        },
        "disk_free_gib": round(shutil.disk_usage(folder).free / 2**30, 1),
        "hub": {"endpoint": hub.endpoint(), "reachable": reason is None, "reason": reason or ""},
        "starter_cached": any((folder / "medcot.json").is_file() for folder in starter.model_folders()),
        "recipe": "llama-3.2-3b-medical-cot"
        if torch.get("cuda") and any(g.free_gib >= GPU_GIB for g in here.gpus)
        else "starter",
    }


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """For people: (heading, text) pairs."""
    here, hub_state, torch = found["device"], found["hub"], found["device"]["torch"]
    computes = (
        f"computes in {torch['compute_dtype']}"
        if "compute_dtype" in torch
        else f"torch cannot start: {torch.get('problem')}"
    )
    return [
        ("device", f"{here['name']}; {computes}"),
        ("memory", f"{here['free_memory_gib']:.1f} of {here['memory_gib']:.1f} GiB free"),
        ("disk", f"{found['disk_free_gib']} GiB free for runs"),
        (
            "Hub",
            f"{hub_state['endpoint']} answers"
            if hub_state["reachable"]
            else f"{hub_state['endpoint']} does not answer: {hub_state['reason']}",
        ),
        ("starter", "is cached" if found["starter_cached"] else "will be fetched at first use (93 MB)"),
        ("versions", ", ".join(f"{name} {number}" for name, number in found["versions"].items())),
        ("recipe", f"{found['recipe']} fits this machine"),
    ]
