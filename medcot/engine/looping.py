"""Notices that a text goes round in circles, which greedy decoding of a small model never leaves again."""

from collections.abc import Sequence

LONGEST_CYCLE = 100  # tokens: a paragraph that comes again and again
LEAST_TOKENS = 60  # that repeat, however short the cycle: a row of dots or a short list is no loop
LEAST_ROUNDS = 3


def loops(tokens: Sequence[int]) -> bool:
    """Whether the end of `tokens` is one cycle, at most LONGEST_CYCLE long, told LEAST_ROUNDS times or more."""
    for cycle in range(1, LONGEST_CYCLE + 1):
        length = max(LEAST_TOKENS, LEAST_ROUNDS * cycle)
        if length > len(tokens):
            return False
        if tokens[-1] == tokens[-1 - cycle]:
            end = list(tokens[-length:])
            if end[cycle:] == end[:-cycle]:
                return True
    return False
