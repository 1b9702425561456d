"""A model server that speaks OpenAI's protocol (vLLM with LoRA modules, `transformers serve`): text in, text out.

The prompt contract is kept: chat goes as messages through the server's template, with the contract's date string; plain
goes as text. Only what the server generated comes back, after a tag that its prompt has opened. The key is read from
the environment, put into one header, and never into a message or a log.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from medcot.errors import BadInput, Problem
from medcot.evaluation.answers import Decoding, Ending, Reply
from medcot.prompts.contract import Exchange, PromptContract, chat_messages
from medcot.safety.foreign import parse_json
from medcot.settings.evaluation import KEY_VARIABLE, EndpointSettings, ServerSettings

Cancelled = Callable[[], bool]
History = Sequence[Exchange]
Body = dict[str, Any]  # of a request, as OpenAI's protocol has it
CONNECT_SECONDS = 10.0
FIRST_WAIT = 0.5  # seconds before the first retry; doubled for each further one
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
DENIED = frozenset({401, 403})
ONLY_THIS = frozenset({400, 413, 422})  # a refusal of one request, as by a filter, and not of all
MOST_SAID = 300  # characters of a server's own words
OTHER_SHAPE = "gave an answer of another shape than OpenAI's"


class Declined(BadInput):
    """One request was refused; the server may take others."""


class Server:
    """A client of one server; safe to use from several threads. Close it when done."""

    settings: ServerSettings
    next_step = "Look at the server's log, then go on with --resume."

    def __init__(self, settings: ServerSettings, transport: httpx.BaseTransport | None = None):
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

    def listed(self) -> list[str] | None:
        """The models that it lists; None if it keeps no list. Raises BadInput if it does not answer or refuses."""
        try:
            response = self._http.get("/models")
        except httpx.TransportError as error:
            raise self.problem(f"did not answer: {type(error).__name__}", "Start it, or fix the address.") from None
        if response.status_code in DENIED:
            raise self._refused(response)
        try:
            return [str(m["id"]) for m in parse_json(response.text)["data"]]
        except (ValueError, KeyError, TypeError):
            return None

    def asked(self, path: str, body: Body) -> Any:
        """The server's JSON, after as many retries as are set. Raises BadInput; Declined where only this is refused."""
        wait, left = FIRST_WAIT, self.settings.retries
        while True:
            try:
                response = self._http.post(path, json=body)
            except httpx.TransportError as error:  # time-outs are among these
                if not left:
                    raise self.problem(f"did not answer: {type(error).__name__}") from None
            else:
                if response.status_code == httpx.codes.OK:
                    try:
                        return parse_json(response.text)
                    except ValueError:
                        raise self.problem("answered with something that is not JSON") from None
                if response.status_code not in AGAIN or not left:
                    raise self._refused(response)
                wait = max(wait, _retry_after(response))
            time.sleep(wait)
            wait, left = wait * 2, left - 1

    def _refused(self, response: httpx.Response) -> BadInput:
        if response.status_code in DENIED:
            return self.problem(f"refuses the key (HTTP {response.status_code})", f"Set {KEY_VARIABLE}.")
        refused = self.problem(f"answered HTTP {response.status_code}: {self.quoted(response.text)}")
        return Declined(refused.problems) if response.status_code in ONLY_THIS else refused

    def quoted(self, said: object) -> str:
        """A server's words, short and without the key."""
        text = " ".join(str(said or "").split())
        return (text.replace(self._key, "[key]") if self._key else text)[:MOST_SAID] or "no reason given"

    def problem(self, what: str, fix: str = "") -> BadInput:
        return BadInput.of("endpoint", f"{self.settings.url} {what}.", fix or self.next_step)

    def is_ollama(self) -> bool:
        """Whether it is Ollama, which puts every text into the template that a model has there."""
        try:
            response = self._http.get(f"{str(self._http.base_url).rstrip('/').removesuffix('/v1')}/api/version")
            return response.status_code == httpx.codes.OK and "version" in parse_json(response.text)
        except (httpx.HTTPError, ValueError, TypeError):
            return False


@contextmanager
def threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that ask a server; nobody waits for requests under way when it ends, which then end by themselves."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Endpoint(Server):
    """A client of the server that answers for base and tuned, under one contract."""

    settings: EndpointSettings
    wraps = False  # whether the server's model has the contract's text as its template, as `medcot export` writes it

    def __init__(
        self, settings: EndpointSettings, contract: PromptContract, transport: httpx.BaseTransport | None = None
    ):
        super().__init__(settings, transport)
        self.contract = contract

    def require_models(self) -> None:
        """Raise BadInput if the server does not answer, refuses the key, or lists its models without base or tuned.

        Or if it is Ollama and the contract is a text, which Ollama would put into another.
        """
        if (listed := self.listed()) is None:
            return  # it has no list; the first question will show
        if self.contract.rules.text and self.is_ollama():
            what = f"is Ollama, which puts its own template around the {self.contract.style} contract's text"
            raise self.problem(what, "Use vLLM or llama-server.")
        # `transformers serve` lists what it has cached and loads others by name, so only a pinned server is believed.
        wanted = {"base": self.settings.base, "tuned": self.settings.tuned}
        missing = {arm: name for arm, name in wanted.items() if name not in listed}
        if missing.keys() == wanted.keys() or not missing:
            return
        what, has = f"the server at {self.settings.url} serves no model", f"it has {', '.join(listed[:10])}."
        lacking = {f"endpoint.{arm}": f"{what} {name!r}; {has}" for arm, name in missing.items()}
        raise BadInput([Problem(where, what, "Name one of these.") for where, what in lacking.items()])

    def complete(self, model: str, question: str, decoding: Decoding) -> Reply:
        """The whole answer of `model`; `tokens` is the server's count, 0 if it gives none. Raises BadInput."""
        started = time.monotonic()
        found = self.asked(*self._request(model, question, decoding))
        try:
            choice = found["choices"][0]
            text = _whole(choice, self.contract)
            tokens = int((found.get("usage") or {}).get("completion_tokens") or 0)
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self.problem(OTHER_SHAPE) from None
        ended: Ending = "limit" if choice.get("finish_reason") == "length" else "finished"
        return Reply(text=text, tokens=tokens, ended=ended, seconds=time.monotonic() - started)

    def stream(
        self, model: str, question: str, decoding: Decoding, cancelled: Cancelled = lambda: False, history: History = ()
    ) -> Generator[str, None, Ending]:
        """The answer piece by piece, for a reader; returns how it ended. No retries: pieces may have been shown."""
        path, body = self._request(model, question, decoding, history)
        ended: Ending = "finished"
        apart = begun = False  # whether the piece before was reasoning, given separately; whether there was any
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
                    reasoning, text, cut = self._piece(parse_json(line[5:]))
                    if reasoning:
                        yield reasoning if apart else f"<think>{reasoning}"
                    if text:
                        whole = text if begun else self.contract.whole(text)
                        yield f"</think>{text}" if apart or reasoning else whole
                    begun = begun or bool(reasoning or text)
                    apart = bool(reasoning or apart) and not text
                    ended = "limit" if cut else ended
        except (httpx.HTTPError, ValueError) as error:
            raise self.problem(f"broke off: {type(error).__name__}") from None
        return ended

    def _piece(self, event: Any) -> tuple[str, str, bool]:
        """(reasoning, text, whether the limit ended it) of one event of a stream; empty if it has no choice.

        Raises BadInput for an error, which a server that has begun to answer can only report as an event.
        """
        try:
            if error := event.get("error"):
                said = error.get("message") if isinstance(error, dict) else error
                raise self.problem(f"broke off: {self.quoted(said)}")
            choice = (event.get("choices") or [{}])[0]
            return *parts_of(choice.get("delta") or choice), choice.get("finish_reason") == "length"
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self.problem(OTHER_SHAPE) from None

    def _request(self, model: str, question: str, decoding: Decoding, history: History = ()) -> tuple[str, Body]:
        contract = self.contract
        body = {name: getattr(decoding, name) for name in ("temperature", "top_p", "seed")}
        body |= {"model": model, "max_tokens": decoding.max_new_tokens}
        if stops := contract.rules.stops:
            body["stop"] = list(stops)
        if contract.rules.text and not self.wraps:
            # Without its BOS token: the server's tokenizer puts one there.
            return "/completions", {**body, "prompt": contract.rules.shown(question.strip())}
        body["messages"] = chat_messages(question, contract.system, history)
        return "/chat/completions", {
            **body,
            "chat_template_kwargs": {"date_string": contract.date_string, **contract.switches},
        }


def parts_of(message: Any) -> tuple[str, str]:
    """(reasoning, text) of a message: some servers give the reasoning in a separate field."""
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    return str(reasoning), str(message.get("content") or message.get("text") or "")


def _whole(choice: Any, contract: PromptContract) -> str:
    """A choice's text with what the server left out: the reasoning, an opened tag, the stop string that ended it."""
    reasoning, text = parts_of(choice.get("message") or choice)
    text = f"<think>{reasoning}</think>{text}" if reasoning else contract.whole(text)
    return text + _left_out(choice, text, contract.rules.stops)


def _left_out(choice: Any, text: str, stops: Sequence[str]) -> str:
    """The stop string that ended an answer, which servers leave out of it; only vLLM says which one it was, if any."""
    if "stop_reason" in choice:
        said = str(choice["stop_reason"])
        return said if said in stops and not text.endswith(said) else ""
    if choice.get("finish_reason") != "stop":
        return ""
    # An answer whose tag is open was ended by the text that closes it; any other by its end token.
    return next((stop for stop in stops if stop not in text and stop.replace("/", "", 1) in text), "")


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait, at most 60; 0 if it does not say."""
    try:
        return min(60.0, float(response.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0
