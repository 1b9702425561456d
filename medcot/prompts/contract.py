"""The prompt contract: how a question becomes the model's input.

The contract is chosen when a run is made and saved with its adapter, because an adapter asked under another contract
gives other answers. Nothing here imports a model library: the tokenizer is an argument.
"""

import functools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from medcot.errors import BadInput, Problem
from medcot.prompts.chat_template import DATE_STRING, ChatTemplate, Examined, examine, template_hash
from medcot.prompts.native import form_of, native_tags
from medcot.prompts.tags import TAGS, completion_text, parse
from medcot.settings import PromptSettings, PromptStyle


@dataclass(frozen=True, slots=True)
class Style:
    """A way to put a question to a model: a fixed text, or where `text` is None the tokenizer's chat template."""

    heading: str  # over a question in the page
    text: str | None = None  # with {question}
    stops: tuple[str, ...] = ()  # texts that end an answer, beside the end token
    follow_ups: bool = False

    def shown(self, question: str) -> str:
        """The question as it stands in the prompt, without a template's markup."""
        return self.text.format(question=question) if self.text else question


STYLES: dict[PromptStyle, Style] = {
    "chat": Style("User", follow_ups=True),
    # What AzzamShahid/llama-3b-medical-cot was trained on. Some adapters of this kind never learned an end token.
    "plain": Style(
        "Text before the answer",
        text="Below is a medical question. Think step by step to solve it.\nQuestion: {question}\n",
        stops=("</response>",),
    ),
}


class PromptContract(BaseModel):
    """What an adapter was trained under; saved beside it as prompt_contract.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1
    style: PromptStyle
    system: str | None
    template_hash: str | None
    tags: tuple[str, str, str, str] = TAGS
    eos_id: int
    eos_token: str
    date_string: str = DATE_STRING
    # Few chat templates need these, and a file without them is one that earlier versions read.
    switches: dict[str, bool] = {}  # given to the chat template, so that it writes no tags of its own
    opened: str = ""  # the tag that the chat template opens itself: the prompt ends, and the answer begins, with it
    native: tuple[str, ...] = ()  # around the reasoning that the base writes by itself, if not <think>; read alone

    @model_serializer(mode="wrap")
    def _without_what_is_not_needed(self, fields: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {k: v for k, v in fields(self).items() if v or k not in ("switches", "opened", "native")}

    @property
    def rules(self) -> Style:
        return STYLES[self.style]

    def whole(self, text: str) -> str:
        """What a server generated, after the tag that its prompt opened."""
        return text if text.lstrip().startswith(TAGS[0]) else self.opened + text

    @property
    def title(self) -> str:
        """The style, with the switches that the chat template must be given."""
        return ", ".join([self.style, *(f"{name}={str(value).lower()}" for name, value in self.switches.items())])


EARLIER = "medcot reasoning marker"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and one arm's whole answer to it."""

    question: str
    output: str

    @property
    def told(self) -> str:
        """The output as a later prompt repeats it: of a family's own form the answer, as templates write marks."""
        if form_of(self.output) is None:
            return self.output
        parsed = parse(self.output)
        return parsed.answer or parsed.reasoning


def make_contract(prompt: PromptSettings, tokenizer: Any) -> PromptContract:
    """The tokenizer's contract. Raises BadInput without an end token, or without a fit chat template."""
    templated = STYLES[prompt.style].text is None
    template = tokenizer.chat_template if templated else None
    if templated and not template:
        fix = "Set prompt.style=plain, or choose an instruction-tuned model."
        raise BadInput.of("prompt.style", "this model's tokenizer has no chat template.", fix)
    found = examine(tokenizer, prompt.system) if template else Examined({}, "", None)
    eos_id = tokenizer.eos_token_id if found.eos_id is None else found.eos_id
    if eos_id is None:
        what = "this model's tokenizer has no end token, so it could never stop."
        raise BadInput.of("model.id", what, "Choose another model.")
    return PromptContract(
        style=prompt.style,
        system=prompt.system,
        template_hash=template_hash(template) if template else None,
        eos_id=eos_id,
        eos_token=tokenizer.convert_ids_to_tokens(eos_id),
        switches=found.switches,
        opened=found.opened,
        native=native_tags(tokenizer.get_added_vocab()),
    )


def chat_messages(question: str, system: str | None, history: Sequence[Exchange] = ()) -> list[dict[str, str]]:
    """The history and a question as the messages that a chat template renders."""
    head = [{"role": "system", "content": system}] if system else []
    turns = [
        {"role": role, "content": text.strip()}
        for exchange in history
        for role, text in (("user", exchange.question), ("assistant", exchange.told))
    ]
    return [*head, *turns, {"role": "user", "content": question.strip()}]


def prompt_text(tokenizer: Any, contract: PromptContract, question: str, history: Sequence[Exchange] = ()) -> str:
    """The text before the completion, earlier exchanges included. Raises BadInput if the contract has no follow-ups."""
    rules = contract.rules
    if history and not rules.follow_ups:
        raise BadInput.of("question", f"the {contract.style} contract has no follow-ups.", "Ask it as a new question.")
    if rules.text:
        return (tokenizer.bos_token or "") + rules.shown(question.strip())
    template = ChatTemplate(tokenizer, contract.date_string, contract.switches)
    alone = template.render(chat_messages(question, contract.system), ask=True)
    if not history:
        return alone
    refuses = "this model's chat template refuses what was said before"
    blamed = Problem("question", refuses, "Start a new conversation.")
    text = template.render(chat_messages(question, contract.system, history), ask=True, blamed=blamed)
    given = "".join([alone, *(e.question + e.output for e in history)])
    if text.count(TAGS[0]) <= given.count(TAGS[0]):
        return text
    # It writes an empty reasoning before each earlier answer, also of those that have their own.
    bare = [replace(e, output=e.output.rpartition(TAGS[1])[2] or e.output) for e in history]
    return template.render(chat_messages(question, contract.system, bare), ask=True, blamed=blamed)


def keeps_earlier_reasoning(tokenizer: Any, contract: PromptContract) -> bool:
    """Whether a follow-up shows the model the reasoning of earlier answers, which is up to its chat template.

    Raises BadInput if the contract or its template has no follow-ups.
    """
    said = Exchange("Why?", completion_text(EARLIER, "Because."))
    return EARLIER in prompt_text(tokenizer, contract, "And then?", [said])


def encode_prompt(
    tokenizer: Any, contract: PromptContract, question: str, history: Sequence[Exchange] = ()
) -> list[int]:
    """Token ids of the prompt. Special tokens come from the template alone, so there is never a second BOS.

    The name of a special token that somebody typed, or that a model wrote, is ordinary text and ends no turn. Tags that
    a model wrote, or that the system text names, are the tokens that they may be. Raises BadInput if the contract or
    its template has no follow-ups.
    """
    system = contract.system or ""
    spelling = Spelling.of(tokenizer, question, system, *(t for e in history for t in (e.question, e.output)))
    said = [Exchange(spelling.out(e.question), spelling.out(e.told, but=TAGS)) for e in history]
    contract = contract.model_copy(update={"system": spelling.out(system, but=TAGS)})
    return spelling.ids(prompt_text(tokenizer, contract, spelling.out(question), said))


@dataclass(frozen=True, slots=True)
class Spelling:
    """Encodes text in which typed names of special tokens, and typed tags, are spelt out like any other word.

    A tokenizer turns such a name into its token wherever it stands. So a gap, which no typed text holds and every
    template passes on, is put into each name, and text is encoded piece by piece between the gaps.
    """

    tokenizer: Any
    gap: str

    @classmethod
    def of(cls, tokenizer: Any, *typed: str) -> "Spelling":
        private_use = map(chr, range(0xF0000, 0xFFFFE))
        return cls(tokenizer, next(c for c in private_use if not any(c in text for text in typed)))

    def out(self, text: str, but: Collection[str] = ()) -> str:
        """The text with a gap in each name; `but` names are left."""
        names = [name for name in _token_names(self.tokenizer) if name in text and name not in but]
        inside = "|".join(f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in names)
        return re.sub(inside, self.gap, text) if names else text

    def ids(self, text: str) -> list[int]:
        pieces = text.split(self.gap)
        return [i for piece in pieces for i in self.tokenizer(piece, add_special_tokens=False)["input_ids"]]


@functools.lru_cache(maxsize=8)
def _token_names(tokenizer: Any) -> tuple[str, ...]:
    """Names of special tokens, and of tags that are tokens; without other added tokens, which are ordinary words."""
    added = tokenizer.added_tokens_decoder.values()
    return tuple(t.content for t in added if (t.special or t.content in TAGS) and len(t.content) > 1)


def contract_differences(trained: PromptContract, asked: PromptContract) -> list[str]:
    """What differs between the contract of an adapter and the one about to be used, both sides shown."""
    return [
        f"{name}: the adapter was trained with {getattr(trained, name)!r}, this is {getattr(asked, name)!r}"
        for name in differing(trained, asked)
    ]


def differing(one: PromptContract, other: PromptContract) -> list[str]:
    """The names of the fields that differ, of those that say how a model is asked."""
    asked = (name for name in PromptContract.model_fields if name != "native")
    return [name for name in asked if getattr(one, name) != getattr(other, name)]
