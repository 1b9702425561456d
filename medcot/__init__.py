"""medcot: fine-tune a small language model on medical chain-of-thought, and measure whether it helped."""

__version__ = "0.1.0"
