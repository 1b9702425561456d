"""A record's turns: the texts in its columns as questions with their reasoning and answers, checked one by one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medcot.data import columns
from medcot.data.files import FIX_SURROGATE, SURROGATE, BadRow, Row, has_surrogate
from medcot.data.nested import ASSISTANT, Turns
from medcot.data.one_text import question_inside
from medcot.prompts.tags import TAG, Turn, parse, unwrapped
from medcot.settings import DataSettings

FIX_EMPTY = "Fill or remove the record, or set data.empty_records=skip."
FIX_TURN = "Fill it, or set data.empty_records=skip: a turn without reasoning is then read by later ones, not learned."
Wanted = Mapping[str, str]  # {part: column}


@dataclass(frozen=True, slots=True)
class Read:
    """A record's turns, or what is wrong with it; neither if the settings skip it."""

    turns: list[Turn] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    untagged: bool = False  # whether tags around reasoning or answer were taken off


def read(row: Any, wanted: Wanted, settings: DataSettings) -> Read:
    """Read and check a row as its reader left it. Under data.empty_records=skip a conversation loses a last question
    that has no answer, and keeps turns without reasoning as long as one has it."""
    if isinstance(row, BadRow):
        return Read(problems=[str(row)])
    if not isinstance(row, dict):
        return Read(problems=[f"is a JSON {type(row).__name__}, not an object with columns."])
    rows, found, untagged = _by_turn(row, wanted, settings.context_column), Read(), False
    for place, (part_of_row, its) in enumerate(rows, start=1):
        written = _parts(part_of_row, its)
        parts = _untagged(written, its)
        untagged |= parts != written
        wrong = _problem(part_of_row, parts, settings.context_column, several=len(rows) > 1)
        if wrong is None:
            found.turns.append(_turn(part_of_row, parts, its, settings))
        elif settings.empty_records == "refuse" or not _is_empty(parts):
            found.problems.append(f"turn {place} {wrong}" if len(rows) > 1 else wrong)
        elif bare := _without_reasoning(parts, its) if len(rows) > 1 else None:
            found.turns.append(bare)
        elif place < len(rows) or place == 1:
            return Read()
    learned = "reasoning" not in wanted or any(turn.reasoning for turn in found.turns)
    return Read(found.turns if learned else [], found.problems, untagged)


def _by_turn(row: Row, wanted: Wanted, context: str | None) -> list[tuple[Row, Wanted]]:
    """A row for each turn, with what is wanted of it; the row itself unless its question has several turns.

    A column that is no conversation belongs to the last turn. Where the answer is such a one, as a completion beside
    the messages of its prompt, earlier answers stand in the prompt, and are read without their reasoning.
    """
    asked = row.get(wanted["question"])
    if not isinstance(asked, Turns):
        return [(row, wanted)]
    beside = f"{wanted['question'].rpartition('.')[0]}.{ASSISTANT}"
    earlier = wanted if isinstance(row.get(wanted["answer"]), Turns) else {**wanted, "answer": beside}
    if earlier is not wanted:
        earlier = {part: column for part, column in earlier.items() if part != "reasoning"}
    found = []
    for place in range(len(asked)):
        is_last = place + 1 == len(asked)
        its = wanted if is_last else earlier
        texts = {column: _at(row.get(column), place, is_last=is_last) for column in its.values()}
        if "reasoning" not in its and isinstance(said := texts[its["answer"]], str) and TAG.search(said):
            texts[its["answer"]] = parse(said).answer
        found.append((texts | ({context: row.get(context)} if context and place == 0 else {}), its))
    return found


def _at(value: Any, place: int, *, is_last: bool) -> Any:
    if isinstance(value, Turns):
        return value[place] if place < len(value) else None
    return value if is_last else None


def _label(part: str, wanted: Wanted) -> str:
    """What a part is called to whoever brought the data: its column, or its place in the column of the answer."""
    column = wanted[part]
    if part == "answer" or column != wanted["answer"]:
        return column
    return f"<think> in {column}" if part == "reasoning" else f"question before <think> in {column}"


def _parts(row: Row, wanted: Wanted) -> Row:
    """What each part holds, by its label; parts that share the column of the answer are told apart by tags."""
    answer, thought = wanted["answer"], wanted.get("reasoning")
    parts = {column: _as_text(row.get(column), steps=column == thought != answer) for column in wanted.values()}
    text = parts[answer]
    if wanted["question"] == answer and isinstance(text, str):
        try:
            parts[_label("question", wanted)], text = question_inside(text)
        except BadRow as bad:
            return {answer: bad}
    if thought == answer and isinstance(text, str):
        parsed = parse(text)
        parts[_label("reasoning", wanted)], parts[answer] = parsed.reasoning, parsed.answer
    return parts


def _untagged(parts: Row, wanted: Wanted) -> Row:
    """The parts without tags around reasoning and answer: what is trained on writes them itself."""
    answer, thought = wanted["answer"], wanted.get("reasoning")
    if thought in (None, answer) or not all(isinstance(parts.get(c), str) for c in (thought, answer)):
        return parts
    texts = parts[thought].strip(), parts[answer].strip()
    plain = unwrapped(*texts)
    return parts if plain == texts else {**parts, thought: plain[0], answer: plain[1]}


def _as_text(value: Any, *, steps: bool) -> Any:
    """A list of one text, or of the steps of a reasoning, as one text; no number as nothing; else what it is."""
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return "\n".join(text.strip() for text in value) if steps or len(value) == 1 else value
    return None if isinstance(value, float) and value != value else value


def _turn(row: Row, parts: Row, wanted: Wanted, settings: DataSettings) -> Turn:
    question, reasoning, answer = (
        str(parts[_label(part, wanted)]).strip() if part in wanted else "" for part in columns.PARTS
    )
    context = row.get(settings.context_column) if settings.context_column else None
    if columns.is_text(context):
        question = f"{question}\n\n{str(context).strip()}"
    return Turn(question, reasoning, answer)


def _without_reasoning(parts: Row, wanted: Wanted) -> Turn | None:
    """The turn as later ones read it; None if it lacks question or answer too."""
    question, answer = parts.get(_label("question", wanted)), parts[wanted["answer"]]
    if columns.is_text(question) and columns.is_text(answer):
        return Turn(str(question).strip(), "", str(answer).strip())
    return None


def _is_empty(parts: Row) -> bool:
    """Whether a record is well formed and only lacks the text of a column, so that it may be skipped."""
    empty = (value is None or (isinstance(value, str) and not columns.is_text(value)) for value in parts.values())
    return any(empty) and not any(isinstance(value, BadRow) for value in parts.values())


def _problem(row: Row, parts: Row, context: str | None, *, several: bool) -> str | None:
    fix = FIX_TURN if several else FIX_EMPTY
    if unread := next((f"{column} {value}" for column, value in parts.items() if isinstance(value, BadRow)), None):
        return unread
    if absent := [column for column, value in parts.items() if value is None]:
        return f"has no {', '.join(absent)}. {fix}"
    texts = {**parts, context: row[context]} if context and row.get(context) is not None else parts
    if not_text := [column for column, value in texts.items() if not isinstance(value, str)]:
        return f"{', '.join(not_text)} is not text. Make it a string."
    if empty := [_in_words(column, value) for column, value in parts.items() if not columns.is_text(value)]:
        return f"has an empty {', '.join(empty)}. {fix}"
    broken = [column for column, value in texts.items() if has_surrogate(value)]
    return f"{SURROGATE} in {', '.join(broken)}. {FIX_SURROGATE}" if broken else None


def _in_words(column: str, value: str) -> str:
    return f"{column} ({value.strip()!r:.20} is no text)" if value.strip() else column
