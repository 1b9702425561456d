"""Forward and backward passes of a training on a GPU as CUDA graphs.

A pass of few sequences is thousands of small kernels, and a GPU waits for its host to launch each of them. Grouped
records padded to few lengths repeat their shapes: a shape's pass is captured once, and launched as one from then on.
"""

import traceback
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, distributed

from medcot.engine.distributed import world_size
from medcot.errors import first_line
from medcot.runs.events import Report, Warned

Batch = dict[str, Tensor]
Loss = Callable[[Batch, Tensor], Tensor]  # of a micro-batch, given the tokens that its optimizer step learns from
Shape = tuple[tuple[str, torch.Size], ...]
WARM = 2  # passes of a shape before its capture: kernels are compiled and their plans built in them
ATTEMPTS = 3  # captures that may fail: a kernel that is still compiled for another shape fails one


class Passes:
    """Gradients of micro-batches, summed over an optimizer step.

    The sum is one flat tensor, and a slice of it is each parameter's `grad`. Of several processes it is averaged by
    `finish`, and the model must not be in DDP: it ties parameters to a stream on which nothing can be captured. They
    begin with rank 0's parameters. Where captures fail, passes go on without.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], report: Report):
        self._parameters, self._report = parameters, report
        sizes, first = [p.numel() for p in parameters], parameters[0]
        self._flat = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device)
        pieces = zip(self._flat.split(sizes), parameters, strict=True)
        self._sums = [piece.view_as(parameter) for piece, parameter in pieces]
        if world_size() > 1:
            for parameter in parameters:
                distributed.broadcast(parameter.data, 0)
        self._seen = Counter[Shape]()
        self._graphs: dict[Shape, tuple[torch.cuda.CUDAGraph, Batch, Tensor, Tensor]] = {}
        self._attempts = ATTEMPTS if first.is_cuda else 0
        self._pool = torch.cuda.graph_pool_handle() if self._attempts else None

    def begin(self) -> None:
        """Begin an optimizer step, with a gradient of 0."""
        self._flat.zero_()
        for parameter, total in zip(self._parameters, self._sums, strict=True):
            parameter.grad = total

    def add(self, inputs: Batch, items: Tensor, loss: Loss) -> Tensor:
        """Add the gradient of one micro-batch; returns its loss."""
        shape = tuple((name, tensor.shape) for name, tensor in inputs.items())
        if self._attempts and shape not in self._graphs and self._seen[shape] >= WARM:
            self._try_to_capture(shape, inputs, items, loss)
        self._seen[shape] += 1
        if shape not in self._graphs:
            return self._computed(inputs, items, loss)
        graph, own, own_items, found = self._graphs[shape]
        for name, tensor in inputs.items():
            own[name].copy_(tensor, non_blocking=True)
        own_items.copy_(items)
        graph.replay()
        return found.clone()

    def finish(self) -> None:
        """End an optimizer step: average the gradient over the job's processes."""
        if world_size() > 1:
            distributed.all_reduce(self._flat)
            self._flat /= world_size()

    def forget(self) -> None:
        """Give up what was captured and its memory, and capture no more."""
        self._graphs.clear()
        self._attempts = 0

    def _computed(self, inputs: Batch, items: Tensor, loss: Loss) -> Tensor:
        found = loss(inputs, items)
        torch._foreach_add_(self._sums, torch.autograd.grad(found, self._parameters))
        return found.detach()

    def _try_to_capture(self, shape: Shape, inputs: Batch, items: Tensor, loss: Loss) -> None:
        try:
            self._graphs[shape] = self._captured(inputs, items, loss)
        except RuntimeError as error:  # torch's own, whatever the driver or a kernel refused
            traceback.print_exc()  # for the worker's log
            self._attempts -= 1
            self._pool = torch.cuda.graph_pool_handle()  # the other is still being recorded to
            if not self._attempts:
                self.forget()
                self._report(Warned(message=f"Training runs uncaptured, somewhat slower: {first_line(error)[:200]}"))

    def _captured(self, inputs: Batch, items: Tensor, loss: Loss) -> tuple[torch.cuda.CUDAGraph, Batch, Tensor, Tensor]:
        """The graph of one pass, its inputs, and the loss that a replay writes. Capturing itself computes nothing."""
        own, own_items = {name: tensor.clone() for name, tensor in inputs.items()}, items.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            found = self._computed(own, own_items, loss)
        return graph, own, own_items, found
