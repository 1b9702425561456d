"""Answers of base and tuned: for a whole evaluation, or streamed for one question."""
