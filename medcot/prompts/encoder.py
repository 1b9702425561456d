"""Records as token ids for training, and what becomes of those that are longer than a sequence may be."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from medcot.prompts.contract import Exchange, PromptContract, Spelling, encode_prompt, make_contract
from medcot.prompts.tags import Turn, completion_text
from medcot.settings import Overlong, RunSettings

# Behind a full stop, a question or exclamation mark (with quotes and brackets that close there), or a line.
END = re.compile(r"""[.!?…]["'”’)\]]*(?=\s)|[。！？]["”’」』）]*|(?<=\S)(?=\s*\n)""")
# A full stop behind these ends no sentence.
ABBREVIATED = re.compile(r"(?:\b(?:Dr|Mr|Mrs|Ms|Prof|St|vs|e\.g|i\.e|cf|ca|approx|No|Fig|al)|\b[A-Z])$")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A sequence of token ids; `trained` marks the ids that the loss sees, `truncated` a sequence that lost its end.

    `left_off` is how many tokens a reasoning lost instead, so that answer and end token stay.
    """

    input_ids: list[int]
    trained: list[bool]
    truncated: bool
    left_off: int = 0

    @property
    def labels(self) -> list[int]:
        return [i if t else -100 for i, t in zip(self.input_ids, self.trained, strict=True)]


@dataclass(frozen=True, slots=True)
class Encoder:
    """Turns records into token ids for training: prompt, tagged completion, end-of-turn token."""

    tokenizer: Any
    contract: PromptContract
    loss_on: Literal["completion", "all"]
    max_length: int
    overlong: Overlong = "cut"  # what becomes of a longer record; one to leave out is `truncated`

    @classmethod
    def of(cls, settings: RunSettings, tokenizer: Any) -> "Encoder":
        """The encoder of a run. Raises BadInput where the tokenizer cannot have the run's contract."""
        contract = make_contract(settings.prompt, tokenizer)
        return cls(tokenizer, contract, settings.prompt.loss_on, settings.training.max_length, settings.data.overlong)

    def sequences(self, turns: Sequence[Turn], system: str = "", *, joined: bool = True) -> list[Encoded]:
        """A sequence for each turn to learn, asked as Chat asks a follow-up; `system` stands in the contract's place.

        Chat's template may show earlier turns otherwise than they were learned, most often without their reasoning.
        Where it does not, a turn's sequence is how the next one begins, and the two are `joined`.
        """
        encoder = replace(self, contract=self.contract.model_copy(update={"system": system})) if system else self
        found, said = list[Encoded](), list[Exchange]()
        for turn in turns:
            if turn.reasoning:
                one = encoder.encode(turn.question, turn.reasoning, turn.answer, said)
                whole = joined and (self.overlong == "cut" or not one.truncated)
                found[-1:] = _joined(found[-1], one) if found and whole else [*found[-1:], one]
            said.append(Exchange(turn.question, turn.output))
        return found

    def encode(self, question: str, reasoning: str, answer: str, said: Sequence[Exchange] = ()) -> Encoded:
        """One turn, asked after what was `said`."""
        prompt, left_off = encode_prompt(self.tokenizer, self.contract, question, said), 0
        completion, room = self._completion(reasoning, answer), self.max_length - len(prompt)
        if len(completion) > room and self.overlong == "shorten":
            shorter = self._shortened(reasoning, answer, room) or completion
            left_off, completion = len(completion) - len(shorter), shorter
        ids = [*prompt, *completion]
        trained = [self.loss_on == "all"] * len(prompt) + [True] * len(completion)
        truncated = len(ids) > self.max_length
        return Encoded(ids[: self.max_length], trained[: self.max_length], truncated, left_off)

    def _completion(self, reasoning: str, answer: str) -> list[int]:
        spelling = Spelling.of(self.tokenizer, reasoning, answer)
        parts = spelling.out(reasoning), spelling.out(answer)
        return [*spelling.ids(completion_text(*parts, opened=self.contract.opened)), self.contract.eos_id]

    def _shortened(self, reasoning: str, answer: str, room: int) -> list[int] | None:
        """The completion with the most of the reasoning's sentences that fit; None if not even the first one does."""
        ends = sentence_ends(reasoning)

        def completion(end: int) -> list[int]:
            return self._completion(reasoning[:end], answer)

        fitting = bisect_right(ends, room, key=lambda end: len(completion(end)))
        while fitting and len(found := completion(ends[fitting - 1])) > room:
            fitting -= 1  # a longer text may have fewer tokens
        return found if fitting else None


def _joined(earlier: Encoded, later: Encoded) -> list[Encoded]:
    """The later sequence learned in both places if the earlier one is how it begins, else both."""
    size = len(earlier.input_ids)
    if earlier.truncated or later.input_ids[:size] != earlier.input_ids:
        return [earlier, later]
    return [replace(later, trained=[*earlier.trained, *later.trained[size:]])]


def sentence_ends(text: str) -> list[int]:
    """Where the sentences of a text end, its own end left out."""
    ends = (m.end() for m in END.finditer(text) if m[0][:1] != "." or not ABBREVIATED.search(text[: m.start()]))
    return [end for end in dict.fromkeys(ends) if 0 < end < len(text.rstrip())]
