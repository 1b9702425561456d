"""Which column holds what, guessed from a data set's own column names where the default ones are absent.

A guess is never silent: it is written into the run's settings and reported, and so is text that nothing uses.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from medcot.data.files import BadRow, Row
from medcot.data.nested import ASSISTANT, SYSTEM, THOUGHT, USER, Turns
from medcot.data.one_text import question_inside
from medcot.prompts.tags import TAG
from medcot.settings import DataSettings

# Names that published data sets use for each part, the likelier first.
NAMES = {
    "question": (
        *("question", "instruction", "prompt", "query", "problem", "input", "user"),
        *("问题", "提问", "题目", "指令", "输入"),
    ),
    "reasoning": (
        *("complex_cot", "cot", "chain_of_thought", "reasoning", "rationale", "thought", "thoughts", "thinking"),
        *("think", "explanation", "analysis", "steps"),
        *("思维链", "思考过程", "推理过程", "思考", "推理", "解析"),
    ),
    "answer": (
        *("response", "answer", "final_answer", "output", "completion", "solution", "target", "assistant"),
        *("回答", "答案", "答复", "输出"),
    ),
}
# A column with such a word in its name holds no text of the part that it is named after, or not the wanted one.
NEVER = {"id", "ids", "idx", "index", "uuid", "hash", "url", "type", "lang", "language", "rejected"}
PARTS = tuple(NAMES)
# What a speaker of a conversation says is one part and no other, whatever the conversation is called.
SPEAKERS = {USER: "question", ASSISTANT: "answer", THOUGHT[0]: "reasoning", SYSTEM: "none"}
SYSTEMS = ("system", "system_prompt")  # columns of a system message, beside that of a conversation
CONTEXTS = {"instruction": "input"}  # a question's column: the column of its context (Alpaca)
SHOWN = {"context": "the question's context"}
# What programs write where there is no text, as the whole of a field.
NO_TEXT = {"nan", "NaN", "-nan", "#N/A", "#NA", "<NA>", "N/A", "n/a", "NaT", "None", "null", "NULL"}
UNSEEN = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols that leave a blank


def is_text(value: Any) -> bool:
    """Whether a value is text that a reader would see, and not what a program writes for nothing."""
    if not isinstance(value, str) or value.strip() in NO_TEXT:
        return False
    return any(unicodedata.category(c) not in ("Cc", "Cf", "Zs", "Zl", "Zp") and c not in UNSEEN for c in value)


def of(settings: DataSettings) -> dict[str, str]:
    """{part: column} of the settings."""
    return {part: str(getattr(settings, f"{part}_column")) for part in PARTS}


def named(settings: DataSettings) -> dict[str, str]:
    """{part: column}, with the question's context and the facts where the settings name such columns."""
    further = {"context": settings.context_column, "facts": settings.facts_column}
    return {**of(settings), **{part: column for part, column in further.items() if column}}


def known(rows: Iterable[tuple[int, Any]]) -> list[str]:
    """Every column of any row: those with the most text first, else in the order of first appearance."""
    amounts: Counter[str] = Counter()
    for _, row in rows:
        if isinstance(row, dict):
            amounts.update({str(key): sum(map(len, _texts(value))) for key, value in row.items()})
    return [name for name, _ in amounts.most_common()]


def _texts(value: Any) -> list[str]:
    return [text for text in (value if isinstance(value, Turns) else (value,)) if isinstance(text, str)]


def systems(settings: DataSettings) -> list[str]:
    """The columns that may hold a record's system message, the likelier first; none if they are left out."""
    conversation = str(settings.question_column).rpartition(".")[0]
    names = [f"{conversation}.{SYSTEMS[0]}"] if conversation else []
    free = (name for name in (*names, *SYSTEMS) if name not in named(settings).values())
    return list(free) if settings.system_messages == "keep" else []


def system_of(row: Row, settings: DataSettings) -> str:
    """A record's own system message; empty if it has none, or data.system_messages leaves it out."""
    return next((str(row[name]).strip() for name in systems(settings) if is_text(row.get(name))), "")


def unused(rows: Iterable[tuple[int, Any]], settings: DataSettings) -> list[str]:
    """The columns that hold words and that the settings do not use, in the order of first appearance."""
    used, found = {*named(settings).values(), *systems(settings)}, dict[str, None]()
    for _, row in rows:
        if isinstance(row, dict):
            found |= {name: None for name in row if name not in used and name not in found and _has_words(row[name])}
    return list(found)


def _has_words(value: Any) -> bool:
    texts: Sequence[Any] = value if isinstance(value, list | Turns) else [value]
    return any(is_text(text) and any(c.isalpha() for c in text) for text in texts)


def fitted(settings: DataSettings, rows: list[tuple[int, Any]]) -> DataSettings:
    """Replace default column names that the data lacks by a guess. A named column stays, right or wrong."""
    columns, wanted = known(rows), of(settings)
    taken = {column for column in wanted.values() if column in columns}
    for part, column in wanted.items():
        usual = is_default(part, column)
        if column not in columns and usual and (found := guess(part, [c for c in columns if c not in taken])):
            wanted[part] = found
            taken.add(found)
    if wanted["answer"] not in columns and is_default("answer", wanted["answer"]):
        tagged = (c for c in columns if c not in taken and _has_tags(rows, c))
        wanted["answer"] = next(tagged, wanted["answer"])
    reasoning, answer = wanted["reasoning"], wanted["answer"]
    if wanted["question"] not in columns and is_default("question", wanted["question"]) and _asks(rows, answer):
        wanted["question"] = answer
    if reasoning not in columns and is_default("reasoning", reasoning) and _has_tags(rows, answer):
        wanted["reasoning"] = answer
    guess_of: dict[str, str | None] = {f"{part}_column": column for part, column in wanted.items()}
    if wanted["question"] != settings.question_column and settings.context_column is None:
        context = CONTEXTS.get(wanted["question"].casefold())
        there = (c for c in columns if c.casefold() == context and c not in wanted.values())
        guess_of["context_column"] = next(there, None)
    return settings.model_copy(update=guess_of)


def is_default(part: str, column: str) -> bool:
    return bool(column == DataSettings.model_fields[f"{part}_column"].default)


def _has_tags(rows: list[tuple[int, Any]], column: str) -> bool:
    return any(TAG.search(text) for text in _all(rows, column))


def _asks(rows: list[tuple[int, Any]], column: str) -> bool:
    """Whether texts of a column hold a question before the reasoning, or a chat template's markup."""
    try:
        return any(question_inside(text)[0] for text in _all(rows, column))
    except BadRow:
        return True


def _all(rows: list[tuple[int, Any]], column: str) -> Iterator[str]:
    return (text for _, row in rows if isinstance(row, dict) for text in _texts(row.get(column)))


def guess(part: str, columns: list[str]) -> str | None:
    """The column most likely to hold a part, by its whole name or else by a word of it; None if no name fits."""
    words = {column: re.sub(r"[\W_]+", "_", column.casefold()).strip("_") for column in columns}
    words = {column: own for column, own in words.items() if not NEVER & set(own.split("_"))}
    spoken = {column: SPEAKERS.get(column.rpartition(".")[2], part) if "." in column else part for column in words}
    words = {column: own for column, own in words.items() if spoken[column] == part}
    for fits in (lambda name, own: name == own, lambda name, own: f"_{name}_" in f"_{own}_"):
        for name in NAMES[part]:
            if column := next((c for c, own in words.items() if fits(name, own)), None):
                return column
    return None


def guessed(before: DataSettings, after: DataSettings) -> dict[str, str]:
    """{part: column} of what `fitted` changed."""
    old, new = named(before), named(after)
    return {SHOWN.get(part, part): column for part, column in new.items() if column != old.get(part)}


def in_words(guesses: dict[str, str], of: str = "", fix: str = "Set data.*_column") -> str:
    """One line that shows the guesses, `of` what, and what to do where they are wrong; empty where there are none."""
    if not guesses:
        return ""
    named = ", ".join(f"{part} from {column!r}" for part, column in guesses.items())
    return f"Columns{of and f' of {of}'} guessed by their names: {named}. {fix} where that is wrong."
