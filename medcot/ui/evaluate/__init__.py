"""Evaluate: base against tuned, with floors and intervals, and every answer to read."""
