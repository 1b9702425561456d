"""LoRA adapters: opened, verified, described, published."""
