"""A judge: a model on a server, or one on this machine, that is given messages and gives text."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from typing import NamedTuple, Protocol

import httpx

from medcot.engine.answer.server import OTHER_SHAPE, Body, Declined, Server, parts_of, threads
from medcot.errors import BadInput, Problem
from medcot.evaluation.judge.asking import Ask
from medcot.settings.evaluation import ServerSettings

FIRST_DECLINED = 8  # refusals of single requests, with nothing else, after which all will be refused


class Said(NamedTuple):
    """A judge's text, and the tokens that it took, as far as they are known."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    kept: bool = True  # false for a refusal, which may be another one next time


Take = Callable[[Ask, Said], None]


class Judge(Protocol):
    """Answers requests, in any order, each given to `take` as soon as it is there."""

    writes: bool  # whether it can be asked for a text, and not for a verdict alone

    def ask(self, asks: Sequence[Ask], named: Callable[[Ask], str], take: Take) -> None: ...

    def close(self) -> None: ...


class ServerJudge:
    """A model on a server; as many requests at once as are set."""

    writes = True

    def __init__(
        self, settings: ServerSettings, model: str, max_new_tokens: int, transport: httpx.BaseTransport | None = None
    ):
        self._server, self._model, self._most = Server(settings, transport), model, max_new_tokens
        self._declined, self._answered = 0, 0

    def close(self) -> None:
        self._server.close()

    def require_model(self) -> None:
        """Raise BadInput if the server does not answer, or refuses the key."""
        self._server.listed()

    def ask(self, asks: Sequence[Ask], named: Callable[[Ask], str], take: Take) -> None:
        """Raises BadInput, with what was asked about, as soon as the server gives up; what it said before is kept."""

        def one(ask: Ask) -> None:
            take(ask, self._said(ask, named))

        with threads(self._server.settings.concurrency) as pool:
            futures = [pool.submit(one, ask) for ask in asks]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BadInput:
                pool.shutdown(cancel_futures=True)  # what the server answers of the requests under way is kept
                raise

    def _said(self, ask: Ask, named: Callable[[Ask], str]) -> Said:
        try:
            said = self._complete(ask)
        except Declined as declined:
            self._declined += 1
            if not self._answered and self._declined >= FIRST_DECLINED:
                raise _about(named(ask), declined) from None
            return Said("; ".join(p.what for p in declined.problems), kept=False)
        except BadInput as bad:
            raise _about(named(ask), bad) from None
        self._answered += 1
        return said

    def _complete(self, ask: Ask) -> Said:
        messages = [{"role": "system", "content": ask.system}, {"role": "user", "content": ask.user}]
        body: Body = {"model": self._model, "messages": messages, "temperature": 0.0, "max_tokens": self._most}
        found = self._server.asked("/chat/completions", body)
        try:
            reasoning, text = parts_of(found["choices"][0]["message"])
            used = found.get("usage") or {}
            sent, got = (int(used.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise self._server.problem(OTHER_SHAPE) from None
        return Said(text or reasoning, sent, got)


def _about(what: str, bad: BadInput) -> BadInput:
    """The same problems, with what was being asked about."""
    return BadInput([Problem(p.where, f"{what}: {p.what}", p.fix) for p in bad.problems])
