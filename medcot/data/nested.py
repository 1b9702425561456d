"""Records within records: an object's fields as columns of their own, and a conversation as a column for each speaker.

{"input": {"question": ...}} has the column `input.question`. {"messages": [{"role": "user", "content": ...}, ...]} has
the columns `messages.user` and `messages.assistant`, and `messages.system` where it begins with a system turn. Of
several questions and answers each of these columns holds Turns.
"""

from collections.abc import Iterator
from typing import Any

from medcot.data.files import BadRow, Row

DEEPEST = 8  # objects within objects
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = {
    **dict.fromkeys(("system", "developer"), SYSTEM),
    **dict.fromkeys(("user", "human", "prompter"), USER),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt"), ASSISTANT),
}
# A turn's own names for who speaks, what is said, and what was thought before.
SPEAKER, SAID = ("role", "from"), ("content", "value")
THOUGHT = ("reasoning_content", "reasoning", "thinking")
IN_TURN = "Let user and assistant speak in turn, after at most one system message, or remove the record."


class Turns(tuple[str | None, ...]):
    """What one speaker says, turn by turn, in a conversation of several; None where a turn has nothing of the kind."""


def flat(row: Any) -> Any:
    """The row with all of its text in columns; BadRow in those of a conversation that is not in turn."""
    return dict(_fields(row)) if isinstance(row, dict) else row


def _fields(row: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and prefix.count(".") < DEEPEST:
            yield from _fields(value, f"{name}.")
        elif _is_conversation(value):
            yield from ((f"{name}.{part}", text) for part, text in _spoken(value))
        else:
            yield name, value


def _is_conversation(value: Any) -> bool:
    turns = isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value)
    return bool(turns) and all(_first(turn, SPEAKER) is not None and any(n in turn for n in SAID) for turn in value)


def _first(turn: Row, names: tuple[str, ...]) -> Any:
    return next((turn[name] for name in names if turn.get(name) is not None), None)


def _spoken(turns: list[Row]) -> list[tuple[str, str | Turns | BadRow]]:
    try:
        return list(_turns(turns))
    except BadRow as bad:
        return [(USER, bad), (ASSISTANT, bad)]


def _turns(turns: list[Row]) -> Iterator[tuple[str, str | Turns]]:
    """(role, what it says) of a conversation. Raises BadRow where a role is unknown, or speaks out of turn."""
    order = [_role(turn) for turn in turns]
    spoken = order[order[:1] == [SYSTEM] :]
    in_turn = [USER if place % 2 == 0 else ASSISTANT for place in range(len(spoken))]
    if not spoken or spoken not in (in_turn, [ASSISTANT]):
        counts = ", ".join(f"{order.count(role)} of the {role}" for role in dict.fromkeys(order))
        raise BadRow(f"holds a conversation of {len(turns)} turns ({counts}) out of turn. {IN_TURN}")
    for role in dict.fromkeys(order):
        said = [turn for turn, its in zip(turns, order, strict=True) if its == role]
        texts = [_text(_first(turn, SAID)) for turn in said]
        yield role, Turns(texts) if len(spoken) > 2 and role != SYSTEM else texts[0]
        thoughts = [thought if isinstance(thought := _first(turn, THOUGHT), str) else None for turn in said]
        if role == ASSISTANT and any(thought is not None for thought in thoughts):
            yield THOUGHT[0], Turns(thoughts) if len(spoken) > 2 else str(thoughts[0])


def _role(turn: Row) -> str:
    said = str(_first(turn, SPEAKER))
    if (role := ROLES.get(said.strip().lower())) is None:
        raise BadRow(f"holds a turn of {said!r:.40}, which is no user and no assistant. {IN_TURN}")
    return role


def _text(said: Any) -> str:
    """What a turn says: a text, or its parts of text. Raises BadRow for an image, a call of a tool and the like."""
    parts = said if isinstance(said, list) else [said]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    written = [text for text in texts if isinstance(text, str)]
    if len(written) < len(texts):
        raise BadRow("holds a turn that is not text. Remove the record, or give the turn's text.")
    return "\n".join(written)
