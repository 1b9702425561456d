"""Decoding of base and tuned together: one set of weights, LoRA on for some rows.

The layers of transformers are patched here and nowhere else: their forward for compiled graphs (compiled_layers), their
linear layers and attention for small batches on a CPU (eager). docs/performance.md has what each patch brings. None is
used where it makes base or tuned say something else than the libraries alone do (reference).
"""
