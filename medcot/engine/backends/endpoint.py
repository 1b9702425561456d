"""A model server that speaks OpenAI's protocol (vLLM with LoRA modules, `transformers serve`): text in, text out.

The prompt contract is kept: chat goes as messages through the server's own template, with the contract's date string;
plain goes as text. Only what the server generated comes back. The key is read from the environment, put into one
header, and never into a message or a log.
"""

import json
import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from medcot.endpoints import KEY_VARIABLE, EndpointSettings
from medcot.engine.generation import Decoding
from medcot.errors import BadInput, Problem
from medcot.events import Ending
from medcot.prompts import PLAIN_PROMPT, Exchange, PromptContract, chat_messages, stop_strings

CONNECT_SECONDS = 10.0
FIRST_WAIT = 0.5  # seconds before the first retry; doubled for each further one
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
DENIED = frozenset({401, 403})
MOST_SAID = 300  # characters of a server's own words
OTHER_SHAPE = "gave an answer of another shape than OpenAI's"


@dataclass(frozen=True, slots=True)
class Completion:
    """One generated text. `tokens` is the server's count, 0 where it gives none; `seconds` is the request's time."""

    text: str
    tokens: int
    ended: Ending
    seconds: float


class Endpoint:
    """A client of one server; safe to use from several threads. Close it when done."""

    def __init__(self, settings: EndpointSettings, transport: httpx.BaseTransport | None = None):
        self.settings = settings
        self._key = os.environ.get(KEY_VARIABLE, "")
        address = settings.url if settings.url.endswith("/v1") else f"{settings.url}/v1"
        self._http = httpx.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(settings.timeout, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=settings.concurrency),
            follow_redirects=False,  # a redirect could carry the key elsewhere
            trust_env=False,
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    def require_models(self) -> None:
        """Raises BadInput where the server is not there, refuses the key, or lists its models without base or tuned."""
        try:
            response = self._http.get("/models")
        except httpx.TransportError as error:
            raise self._problem(f"did not answer: {type(error).__name__}", "Start it, or mend the address.") from None
        if response.status_code in DENIED:
            raise self._refused(response)
        try:
            listed = [str(m["id"]) for m in response.json()["data"]]
        except (ValueError, KeyError, TypeError):
            return  # it keeps no list; the first question will tell
        # `transformers serve` lists what it has cached and loads others by name, so only a pinned server is believed.
        wanted = {"base": self.settings.base, "tuned": self.settings.tuned}
        if not set(wanted.values()) & set(listed):
            return
        missing = {arm: name for arm, name in wanted.items() if name not in listed}
        if missing:
            raise BadInput(
                [
                    Problem(
                        f"endpoint.{arm}",
                        f"the server at {self.settings.url} serves no model {name!r}; it has {', '.join(listed[:10])}.",
                        "Name one of these.",
                    )
                    for arm, name in missing.items()
                ]
            )

    def complete(self, model: str, contract: PromptContract, question: str, decoding: Decoding) -> Completion:
        """The whole answer of `model` to a question. Raises BadInput where the server does not give one."""
        started = time.monotonic()
        path, body = self._request(model, contract, question, decoding)
        found = self._asked(path, body)
        try:
            choice = found["choices"][0]
            text = _whole(choice, contract)
            tokens = int((found.get("usage") or {}).get("completion_tokens") or 0)
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._problem(OTHER_SHAPE) from None
        ended: Ending = "limit" if choice.get("finish_reason") == "length" else "finished"
        return Completion(text, tokens, ended, time.monotonic() - started)

    def stream(
        self,
        model: str,
        contract: PromptContract,
        question: str,
        decoding: Decoding,
        cancelled: Callable[[], bool] = lambda: False,
        history: Sequence[Exchange] = (),
    ) -> Generator[str, None, Ending]:
        """The answer piece by piece, for a reader; returns how it ended. No retries: pieces may have been shown."""
        path, body = self._request(model, contract, question, decoding, history)
        ended: Ending = "finished"
        apart = False  # whether the piece before was reasoning that the server gives apart
        try:
            with self._http.stream("POST", path, json={**body, "stream": True}) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise self._refused(response)
                for line in response.iter_lines():
                    if cancelled():
                        return "stopped"
                    if not line.startswith("data:") or line.endswith("[DONE]"):
                        continue
                    reasoning, text, cut = self._piece(json.loads(line[5:]))
                    if reasoning:
                        yield reasoning if apart else f"<think>{reasoning}"
                    if text:
                        yield f"</think>{text}" if apart or reasoning else text
                    apart = bool(reasoning or apart) and not text
                    ended = "limit" if cut else ended
        except (httpx.HTTPError, ValueError) as error:
            raise self._problem(f"broke off: {type(error).__name__}") from None
        return ended

    def _piece(self, event: Any) -> tuple[str, str, bool]:
        """(reasoning, text, whether the limit ended it) of one event of a stream; empty where it has no choice.

        Raises BadInput where the server tells an error, which it can only here once an answer has begun.
        """
        try:
            if error := event.get("error"):
                said = error.get("message") if isinstance(error, dict) else error
                raise self._problem(f"broke off: {self._quoted(said)}")
            choice = (event.get("choices") or [{}])[0]
            return *_parts_of(choice.get("delta") or choice), choice.get("finish_reason") == "length"
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._problem(OTHER_SHAPE) from None

    def _request(
        self,
        model: str,
        contract: PromptContract,
        question: str,
        decoding: Decoding,
        history: Sequence[Exchange] = (),
    ) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": decoding.seed,
        }
        if stops := stop_strings(contract):
            body["stop"] = list(stops)
        if contract.style == "plain":
            # Without its BOS token: the server's tokenizer puts one there.
            return "/completions", {**body, "prompt": PLAIN_PROMPT.format(question=question.strip())}
        messages = chat_messages(question, contract.system, history)
        template = {"date_string": contract.date_string}
        return "/chat/completions", {**body, "messages": messages, "chat_template_kwargs": template}

    def _asked(self, path: str, body: dict[str, Any]) -> Any:
        """The server's JSON, after as many retries as are set."""
        wait = FIRST_WAIT
        for left in range(self.settings.retries, -1, -1):
            try:
                response = self._http.post(path, json=body)
            except httpx.TransportError as error:  # time-outs are among these
                if not left:
                    raise self._problem(f"did not answer: {type(error).__name__}") from None
            else:
                if response.status_code == httpx.codes.OK:
                    try:
                        return response.json()
                    except ValueError:
                        raise self._problem("answered with something that is not JSON") from None
                if response.status_code not in AGAIN or not left:
                    raise self._refused(response)
                wait = max(wait, _wish(response))
            time.sleep(wait)
            wait *= 2
        raise AssertionError("unreachable: the last try returns or raises")

    def _refused(self, response: httpx.Response) -> BadInput:
        if response.status_code in DENIED:
            return self._problem(f"refuses the key (HTTP {response.status_code})", f"Set {KEY_VARIABLE}.")
        return self._problem(f"answered HTTP {response.status_code}: {self._quoted(response.text)}")

    def _quoted(self, said: object) -> str:
        """A server's own words, short and without the key."""
        text = " ".join(str(said or "").split())
        return (text.replace(self._key, "[key]") if self._key else text)[:MOST_SAID] or "no reason given"

    def _problem(self, what: str, fix: str = "Look at the server's log, then go on with --resume.") -> BadInput:
        return BadInput(Problem("endpoint", f"{self.settings.url} {what}.", fix))


def _parts_of(message: dict[str, Any]) -> tuple[str, str]:
    """(reasoning, text) of a message: some servers take the reasoning out of the text and give it apart."""
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    return str(reasoning), str(message.get("content") or message.get("text") or "")


def _whole(choice: dict[str, Any], contract: PromptContract) -> str:
    """A choice's text with what the server took out: reasoning given apart, a stop string cut off and named."""
    reasoning, text = _parts_of(choice.get("message") or choice)
    text = f"<think>{reasoning}</think>{text}" if reasoning else text
    stopped_by = choice.get("stop_reason")
    return text + stopped_by if stopped_by in stop_strings(contract) and not text.endswith(stopped_by) else text


def _wish(response: httpx.Response) -> float:
    """Seconds that the server asks to wait, within reason; 0 where it does not say."""
    try:
        return min(60.0, float(response.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0
