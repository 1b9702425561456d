"""Training in the test's own process: the real engine, without a worker around it."""

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medcot.runs.events import Step
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import RunSettings

Fault = Callable[[Any, int, int], None]


class Stop:
    """A stop signal that a test pulls."""

    requested = False

    def graceful(self):
        return contextlib.nullcontext()


def train(
    root: Path, settings: RunSettings, *, stop_at: int | None = None, run: Run | None = None, fault: Fault | None = None
) -> Run:
    """Train a new run (or go on with one), asking it to stop once a step is reported.

    `fault` is called with the model and the number of the training forward pass that begins, and its rows.
    """
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.train import training

    class Faulty(PeftBackend):
        def attach(self, *arguments, **named):
            model, count = super().attach(*arguments, **named), itertools.count(1)

            def before(_module, _arguments, inputs):
                fault(model, next(count) if model.training else 0, len(inputs["input_ids"]))

            model.register_forward_pre_hook(before, with_kwargs=True)
            return model

    run = run or RunStore(root).create(settings)
    stop = Stop()

    def report(event):
        run.append(event)
        if isinstance(event, Step) and stop_at is not None and event.step >= stop_at:
            stop.requested = True

    training.train(run, settings, Faulty() if fault else PeftBackend(), report, stop)
    run.write_status("stopped" if stop.requested else "finished")
    return run


def changed(settings: RunSettings, section: str, **values) -> RunSettings:
    return settings.replacing(section, **values)


def steps(run: Run) -> list[Step]:
    return [e for e in run.events()[0] if isinstance(e, Step)]


def adapter_tensors(run: Run):
    from safetensors.torch import load_file

    return load_file(run.adapter_dir / "adapter_model.safetensors")


def assert_same_weights(one, other):
    import torch

    assert one.keys() == other.keys()
    assert [k for k in one if not torch.equal(one[k], other[k])] == []


def cancelled_at_the_first(client, request) -> list:
    """All replies to a request that is cancelled as soon as one of them has come."""
    replies = []
    for reply in client.request(request):
        replies.append(reply)
        if len(replies) == 1:
            client.cancel(request.id)
    return replies
