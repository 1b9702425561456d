"""Chat: one question to base and tuned, side by side. What is typed lives in the page alone, unless it is judged."""
