"""A model's chat template: rendered alike on every day, and examined once before a contract stands on it.

A template is a program of the model's authors. It may refuse a message, read the clock, drop a text, or write reasoning
tags itself; so it is rendered with markers, and what cannot be asked and trained under is refused in words.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from medcot.errors import BadInput, Failure, Problem, first_line
from medcot.prompts.tags import TAG, TAGS
from medcot.safety.foreign import in_a_copy, read_json, read_small, within

# Some templates insert today's date unless one is given; a prompt must not change overnight.
DATE_STRING = "26 Jul 2024"
DATE_FORMAT = "%d %b %Y"
MOST_SECONDS, MOST_BYTES = 20.0, 2**30  # a template takes some milliseconds
# What looked harmless when it was examined may still be meant for one question.
RENDER_SECONDS, MOST_ADDED = 10.0, 1_000_000
OTHER_MODEL = "Choose another model, or set prompt.style=plain."
QUESTION = 'medcot\'s "question" marker: <1 & 2>\nin two lines'
ANSWER = "medcot answer marker"
# Names by which templates turn a model's own reasoning on or off, such as enable_thinking.
SWITCH = re.compile(r"\b\w*(?:think|reason)\w*\b", re.IGNORECASE)
OPENED = re.compile(re.escape(TAGS[0]) + r"\s*\Z")

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A tokenizer's chat template with the date and the switches that it is rendered under."""

    tokenizer: Any
    date: str = DATE_STRING
    switches: Mapping[str, bool] = field(default_factory=dict)

    def render(self, messages: Messages, *, ask: bool, blamed: Problem | None = None) -> str:
        """The messages as text; `ask` opens the assistant's turn. Raises BadInput, where `blamed` says, if it fails."""
        options = {"date_string": self.date, "strftime_now": self._now, **self.switches}
        try:
            with within(RENDER_SECONDS):
                rendered = str(
                    self.tokenizer.apply_chat_template(
                        list(messages), tokenize=False, add_generation_prompt=ask, **options
                    )
                )
            if len(rendered) > MOST_ADDED + sum(len(text) for message in messages for text in message.values()):
                raise ValueError(f"it adds more than {MOST_ADDED:,} characters")
        except Exception as error:  # a template is a program, and may raise anything
            problem = blamed or Problem("prompt.style", "this model's chat template cannot be used", OTHER_MODEL)
            what = f"{problem.what}: {first_line(error).removesuffix('.')}."
            raise BadInput.of(problem.where, what, problem.fix) from error
        return rendered

    def _now(self, form: str) -> str:
        """What a template gets that asks the clock."""
        return datetime.strptime(self.date, DATE_FORMAT).strftime(form)


@dataclass(frozen=True, slots=True)
class Examined:
    """What a contract has to know of a chat template."""

    switches: dict[str, bool]  # what to give it so that it writes no reasoning tags of its own
    opened: str  # the tag that it opens before the answer all the same
    eos_id: int | None  # the first special token after an answer; None if there is none


_ANSWER = TypeAdapter[Examined | Failure](Examined | Failure)


def examine(tokenizer: Any, system: str | None) -> Examined:
    """Render the template with markers. Raises BadInput if question, tags or end would not come out as they must.

    It runs for the first time here, so it does in a copy of this process that is ended if it takes too much.
    """

    def work() -> bytes:
        try:
            return _ANSWER.dump_json(_examined(tokenizer, system))
        except BadInput as bad:
            return _ANSWER.dump_json(Failure.of(bad))

    answer = in_a_copy(work, seconds=MOST_SECONDS, more_bytes=MOST_BYTES)
    if answer is None:
        what = f"this model's chat template needs more than {MOST_SECONDS:.0f} seconds or {MOST_BYTES >> 20} MiB."
        raise BadInput.of("prompt.style", what, OTHER_MODEL)
    found = _ANSWER.validate_json(answer)
    if isinstance(found, Failure):
        raise found.exception()
    return found


def _examined(tokenizer: Any, system: str | None) -> Examined:
    user = {"role": "user", "content": QUESTION}
    template = ChatTemplate(tokenizer)
    _tail(template, [user])
    messages = [user]
    if system:
        messages.insert(0, {"role": "system", "content": system})
        _require_system(template, messages, system)
    template, opened = _without_tags(tokenizer, messages)
    answered = template.render([*messages, {"role": "assistant", "content": ANSWER}], ask=False)
    _, found, rest = answered.rpartition(ANSWER)
    if not found:
        raise BadInput.of("prompt.style", "this model's chat template leaves out the assistant's text.", OTHER_MODEL)
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    ids = tokenizer(rest, add_special_tokens=False)["input_ids"]
    return Examined(dict(template.switches), opened, next((i for i in ids if i in special), None))


def _tail(template: ChatTemplate, messages: Messages) -> str:
    """What the template writes after the question. Raises BadInput unless the question comes out once, as it is."""
    rendered = template.render(messages, ask=True)
    if rendered != template.render(messages, ask=True):
        what = "this model's chat template writes another prompt each time."
        raise BadInput.of("prompt.style", what, OTHER_MODEL)
    if (times := rendered.count(QUESTION)) != 1:
        did = "repeats" if times else "changes or leaves out"
        raise BadInput.of("prompt.style", f"this model's chat template {did} the question.", OTHER_MODEL)
    return rendered.rpartition(QUESTION)[2]


def _require_system(template: ChatTemplate, messages: Messages, system: str) -> None:
    fix = "Leave prompt.system out (data.system_messages=leave_out, if it is from the data), or choose another model."
    blamed = Problem("prompt.system", "this model's chat template refuses a system text", fix)
    if system.strip() not in template.render(messages, ask=True, blamed=blamed):
        what = "this model's chat template changes a system text, or leaves it out."
        raise BadInput.of("prompt.system", what, fix)


def _without_tags(tokenizer: Any, messages: Messages) -> tuple[ChatTemplate, str]:
    """The template switched to write no tags, or else to open <think> and nothing more; and what it opens.

    Raises BadInput where it writes tags otherwise: they would be learned twice.
    """
    tails = []
    for template, tail in _tails(tokenizer, messages):
        if not TAG.search(tail):
            return template, ""
        tails.append((template, tail))
    for template, tail in tails:
        tags = TAG.findall(tail)
        if len(tags) == 1 and (opened := OPENED.search(tail)):
            return template, opened[0]
    written = TAG.search(tails[0][1])
    assert written, "a tail without tags is returned above"
    twice = "before the answer, and so does the training text, so the tag would be learned twice."
    what = f"this model's chat template already writes {written[0]} {twice}"
    raise BadInput.of("prompt.style", what, "Choose a model whose template does not, or set prompt.style=plain.")


def _tails(tokenizer: Any, messages: Messages) -> Iterator[tuple[ChatTemplate, str]]:
    """What the template writes after a question: by itself, then with each of its switches off and on."""
    yield (plain := ChatTemplate(tokenizer)), _tail(plain, messages)
    for name in dict.fromkeys(SWITCH.findall(template_of(tokenizer))):
        for value in (False, True):
            template = ChatTemplate(tokenizer, switches={name: value})
            with suppress(BadInput):  # a name that is no switch
                yield template, _tail(template, messages)


def template_of(tokenizer: Any) -> str:
    """The chat template that conversations are rendered by; some tokenizers have others beside it, by name."""
    return str(tokenizer.get_chat_template())


def template_hash(template: object) -> str:
    """What tells one chat template from another in a contract."""
    return hashlib.sha256(str(template).encode()).hexdigest()


def saved_template(folder: Path) -> str | None:
    """The chat template that was saved in a folder, as trainers leave it beside an adapter; None if there is none."""
    with suppress(OSError, ValueError):
        return read_small(folder / "chat_template.jinja")
    with suppress(OSError, ValueError):
        config = read_json(folder / "tokenizer_config.json")
        found = config.get("chat_template") if isinstance(config, dict) else None
        return found if isinstance(found, str) else None
    return None
