"""The contract's prompt as a template in Go's language, for Ollama's Modelfile.

It is put together from what the model's template writes around a question, an answer and a system text, and taken only
if it renders ten conversations as the model's own template does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medcot.engine.gguf.vocabulary import adds_bos
from medcot.errors import BadInput
from medcot.prompts.chat_template import ChatTemplate
from medcot.prompts.contract import PromptContract

Messages = list[dict[str, str]]
SYSTEM, ASKED, ANSWERED = "medcot-system-text", "medcot-question-text", "medcot-answer-text"
# Between triple quotes and outside of actions a Go template may hold anything else.
UNSPEAKABLE = ('"""', "{{", "}}")


@dataclass(frozen=True, slots=True)
class GoTemplate:
    """What stands around the parts of a conversation; `render` is what its Go text makes of one."""

    plain: str  # the whole head without a system text
    system: tuple[str, str]  # before and after one
    asked: tuple[str, str]
    answered: tuple[str, str]
    opening: str  # of the answer
    in_question: bool = False  # whether a system text stands within the first question

    @property
    def text(self) -> str:
        before, after = self.system
        head = f"{{{{ if .System }}}}{before}{{{{ .System }}}}{after}{{{{ else }}}}{self.plain}{{{{ end }}}}"
        question = f"{self.asked[0]}{{{{ .Content }}}}{self.asked[1]}"
        if self.in_question:  # Ollama leaves the system message among the messages, as the first
            first = f"{self.asked[0]}{{{{ if and (eq $i 1) $.System }}}}{before}{{{{ $.System }}}}{after}{{{{ end }}}}"
            head, question = self.plain, f"{first}{{{{ .Content }}}}{self.asked[1]}"
        answer = f"{self.answered[0]}{{{{ .Content }}}}{self.answered[1]}"
        turn = f'{{{{ if eq .Role "user" }}}}{question}{{{{ else if eq .Role "assistant" }}}}{answer}{{{{ end }}}}'
        return f"{head}{{{{ range $i, $_ := .Messages }}}}{turn}{{{{ end }}}}{self.opening}"

    def render(self, messages: Messages) -> str:
        system = next((m["content"] for m in messages if m["role"] == "system"), "")
        turns = [m for m in messages if m["role"] != "system"]
        whole = f"{self.system[0]}{system}{self.system[1]}"
        said = whole if system and not self.in_question else self.plain
        for number, turn in enumerate(turns):
            before, after = self.asked if turn["role"] == "user" else self.answered
            inside = whole if system and self.in_question and not number and turn["role"] == "user" else ""
            said += f"{before}{inside}{turn['content']}{after}"
        return said + self.opening


def go_template(tokenizer: Any, contract: PromptContract) -> str:
    """The contract's prompt for a Modelfile. Raises BadInput if the model's template follows another rule."""
    if text := contract.rules.text:
        return text.replace("{question}", "{{ .Prompt }}")
    template = ChatTemplate(tokenizer, contract.date_string, contract.switches)
    skipped = tokenizer.bos_token if adds_bos(tokenizer, contract) else ""

    def rendered(messages: Messages, ask: bool = True) -> str:
        return template.render(messages, ask=ask).removeprefix(skipped or "")

    for made in _candidates(rendered):
        if not any(mark in made.render([_turn("user", "")]) + "".join(made.system) for mark in UNSPEAKABLE) and all(
            rendered(talk) == made.render(talk) for talk in conversations(_takes_system(rendered))
        ):
            return made.text
    what = "this model's chat template follows a rule that the Modelfile's language does not have."
    raise BadInput.of("Modelfile", what, "Use llama-server, which renders the template in the file.")


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _takes_system(rendered: Any) -> bool:
    try:
        return SYSTEM in rendered([_turn("system", SYSTEM), _turn("user", ASKED)])
    except BadInput:
        return False


def _candidates(rendered: Any) -> list[GoTemplate]:
    """The ways in which a template may put a conversation together, by what it makes of marked ones."""
    user, answer, system = _turn("user", ASKED), _turn("assistant", ANSWERED), _turn("system", SYSTEM)
    closed, opened = rendered([user], False), rendered([user])
    two = rendered([user, answer, user])
    head, _, tail = opened.partition(ASKED)
    between = two.split(ANSWERED)
    if len(between) != 2 or ASKED not in between[1]:
        return []
    # Where the question's end cannot be told from the answer's beginning, it counts to that: they follow each other.
    ending = tail[: len(tail) - len(opened) + len(closed)] if opened.startswith(closed) else ""
    opening = tail[len(ending) :]
    before_answer = between[0].removeprefix(head + ASKED + ending)
    found = []
    second = between[1].partition(ASKED)[0]
    for cut in range(len(second) + 1):  # where the answer's end is, and the next question begins
        start = second[cut:]
        if not head.endswith(start):
            continue
        made = {"asked": (start, ending), "answered": (before_answer, second[:cut]), "opening": opening}
        plain = head[: len(head) - len(start)]
        if not _takes_system(rendered):
            found.append(GoTemplate(plain, ("", ""), **made))
            continue
        before, _, after = rendered([system, user]).partition(ASKED)[0].partition(SYSTEM)
        if after.endswith(start):
            found.append(GoTemplate(plain, (before, after[: len(after) - len(start)]), **made))
        if before.startswith(plain + start):
            inside = before.removeprefix(plain + start), after
            found.append(GoTemplate(plain, inside, **made, in_question=True))
    return found


def conversations(system: bool) -> list[Messages]:
    """Ten conversations to prove a template by: one question, several, with a system text where one is taken."""
    questions = (
        "What suggests gout?",
        "糖尿病有哪些早期症状？",
        "Is 38.5 °C a fever?\n\nYes?",
        "a",
        "{x} & 'y'",
    )
    answers = ("A swollen big toe.", "Thirst, and often passing water.\nSee a doctor.")
    alone = [[_turn("user", q)] for q in questions]
    first, second = ([_turn("user", q), _turn("assistant", a)] for q, a in zip(questions, answers, strict=False))
    longer = [[*first, *alone[1]], [*first, *second, *alone[2]]]
    if not system:
        return [*alone, *longer, [*second, *alone[3]], [*second, *first, *alone[4]], [*first, *first, *alone[0]]]
    told = [_turn("system", "Answer briefly.")]
    return [*alone, *longer, [*told, *alone[0]], [*told, *alone[1]], [*told, *first, *alone[2]]]


def stops(tokenizer: Any, contract: PromptContract) -> Sequence[str]:
    """Every text that ends an answer."""
    return [s for s in dict.fromkeys([contract.eos_token, tokenizer.eos_token, *contract.rules.stops]) if s]
