"""What an evaluation asks and how its answers become a table; the answering itself is engine/evaluate.py's.

Two measures share one way: the held-out records (records.py) and multiple choice (choice.py). No model library here.
"""
