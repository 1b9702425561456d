"""A GGUF file run by llama.cpp, through the optional `xllamacpp`: started in a child process, asked over HTTP.

The child listens on this machine alone and answers to a key that is made for it. It is waited for with deadlines, and
ended with whoever started it.
"""

import json
import queue
import secrets
import subprocess
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from medcot import machine
from medcot.engine.gguf.server import Order, Started
from medcot.errors import BadInput, WorkerFailed, first_line
from medcot.evaluation.answers import Decoding, Ending, Reply
from medcot.prompts.contract import PromptContract, chat_messages
from medcot.settings.export import can_run_files

Body = dict[str, Any]  # of a request, as llama.cpp's server has it
MODULE = "medcot.engine.gguf.server"
LOAD_SECONDS, ANSWER_SECONDS, SLOTS_SECONDS = 600.0, 1800.0, 10.0
SLOTS = 4  # answers at once
INSTALL = "Install it: pip install 'medcot[export]'"
LONGEST_TEXT = 1_000_000  # characters of a contract
TOO_SLOW = f"llama.cpp gave no whole answer within {ANSWER_SECONDS / 60:.0f} minutes. Ask for fewer new tokens."
LONG_FACTORS = "rope_factors_long"


@dataclass(frozen=True, slots=True)
class Completion:
    """What followed a prompt, as token ids; the token that ended it, if one did, is the last."""

    tokens: list[int]
    ended: Ending
    seconds: float
    by_token: bool

    @property
    def said(self) -> list[int]:
        """The tokens of the text."""
        return self.tokens[:-1] if self.by_token else self.tokens


class LlamaServer:
    """One GGUF file, loaded. Close it when done; safe to use from several threads."""

    def __init__(self, file: Path, *, context: int, slots: int = SLOTS, adapter: Path | None = None):
        """Raises BadInput without the library, or if llama.cpp refuses the file; WorkerFailed if it takes too long."""
        require_llama()
        self.file, self.key = file, secrets.token_urlsafe(24)
        cores = machine.device().cores
        order = Order(file=file, adapter=adapter, key=self.key, context=context, slots=slots, threads=cores)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._child = machine.spawn(MODULE, **pipes, encoding="utf-8", env=machine.child_environment())
        try:
            self.address = self._started(order)
        except BaseException:
            self._child.kill()
            self._child.wait()
            raise
        self._http = httpx.Client(
            base_url=self.address,
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=10.0),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()
        if self._child.stdin:
            self._child.stdin.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _started(self, order: Order) -> str:
        assert self._child.stdin
        try:
            self._child.stdin.write(order.model_dump_json() + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # its end is told below
        lines: queue.Queue[str] = queue.Queue()
        assert self._child.stdout
        threading.Thread(target=lambda out: lines.put(out.readline()), args=(self._child.stdout,), daemon=True).start()
        try:
            line = lines.get(timeout=LOAD_SECONDS)
        except queue.Empty:
            raise WorkerFailed(f"llama.cpp did not load {self.file.name} within {LOAD_SECONDS:.0f} seconds.") from None
        said = Started.model_validate_json(line) if line else Started(problem="it ended without a word")
        if said.address:
            return said.address
        what = f"is not loaded by llama.cpp: {said.problem.rstrip('. ')}."
        raise BadInput.of(str(self.file), what, "Export it again, or use a newer xllamacpp.")

    def _asked(self, path: str, body: Body) -> Any:
        try:
            response = self._http.post(path, json=body)
            response.raise_for_status()
            return response.json()
        except httpx.HTTPStatusError as error:
            raise WorkerFailed(f"llama.cpp refused a question: {error.response.text[:300]}") from None
        except httpx.ReadTimeout:
            raise WorkerFailed(TOO_SLOW) from None
        except (httpx.HTTPError, ValueError) as error:
            raise WorkerFailed(f"llama.cpp ended while it was asked ({first_line(error)}).") from None

    def tokens(self, text: str) -> list[int]:
        """The ids of a prompt's text, in which names of special tokens are these tokens."""
        found = self._asked("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        return list(found["tokens"])

    def prompt(self, messages: list[dict[str, str]], told: Mapping[str, str | bool] | None = None) -> str:
        """The messages under the template in the file, which may be told a date and switches."""
        return str(self._asked("/apply-template", {"messages": messages, "chat_template_kwargs": told or {}})["prompt"])

    def written(self) -> int:
        """Tokens of the answers under way so far."""
        try:
            slots = self._http.get("/slots", timeout=SLOTS_SECONDS).json()
            return sum(int(one.get("n_decoded") or 0) for slot in slots for one in slot.get("next_token") or [])
        except (httpx.HTTPError, ValueError, TypeError, AttributeError):
            return 0  # it is asked again soon

    def text(self, tokens: list[int]) -> str:
        """The text of tokens as they are, special ones included."""
        return str(self._asked("/detokenize", {"tokens": tokens})["content"])

    def asked_as(self, question: str, contract: PromptContract, *, inside: bool = True) -> list[int]:
        """The prompt's tokens as the file itself makes them; it is told of the contract unless that is `inside` it."""
        if contract.rules.text:
            return self.tokens(contract.rules.shown(question.strip()))
        if inside:
            return self.tokens(self.prompt(chat_messages(question, None)))
        told: dict[str, str | bool] = {"date_string": contract.date_string, **contract.switches}
        return self.tokens(self.prompt(chat_messages(question, contract.system), told))

    def complete(self, prompt: list[int], decoding: Decoding, stops: tuple[str, ...] = ()) -> Completion:
        """What follows a prompt: the most likely tokens at temperature 0."""
        found = self._asked("/completion", {**_body(prompt, decoding), "stop": list(stops)})
        seconds = float((found.get("timings") or {}).get("predicted_ms") or 0.0) / 1000
        by_token = found.get("stop_type") == "eos"
        return Completion(list(found["tokens"]), _ending(found), seconds, by_token)

    def stream(
        self, prompt: list[int], decoding: Decoding, stops: tuple[str, ...] = (), shown: Iterable[str] = ()
    ) -> Generator[tuple[str, int], None, Ending]:
        """(text, tokens so far) of what follows a prompt, as it comes; returns how it ended. Closing it stops it.

        Of special tokens only those that are `shown` are in the text. Its tokens are not to be had: llama.cpp leaves
        those out of a stream that are parts of a character.
        """
        body = {**_body(prompt, decoding), "stop": list(stops), "preserved_tokens": list(shown), "stream": True}
        try:
            with self._http.stream("POST", "/completion", json=body) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise WorkerFailed(f"llama.cpp refused a question: {response.text[:300]}")
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        event = json.loads(line.removeprefix("data:"))
                        text = str(event.get("content") or "") + str(event.get("stopping_word") or "")
                        yield text, int(event.get("tokens_predicted") or 0)
                        if event.get("stop"):
                            return _ending(event)
        except (httpx.HTTPError, ValueError) as error:
            raise WorkerFailed(f"llama.cpp ended while it was asked ({first_line(error)}).") from None
        raise WorkerFailed("llama.cpp broke its answer off.")

    def reply(self, question: str, contract: PromptContract, decoding: Decoding, *, inside: bool = True) -> Reply:
        """The answer to a question under a contract that is `inside` the file, or is told to it."""
        began = time.monotonic()
        prompt = self.asked_as(question, contract, inside=inside)
        done = self.complete(prompt, decoding, contract.rules.stops)
        said = self.text(done.said)
        text, seconds = contract.opened + said if inside else contract.whole(said), time.monotonic() - began
        return Reply(text=text, ended=done.ended, tokens=len(done.tokens), seconds=seconds)


def _body(prompt: list[int], decoding: Decoding) -> Body:
    """A request for what follows a prompt."""
    body: Body = {"prompt": prompt, "n_predict": decoding.max_new_tokens}
    body |= {"temperature": decoding.temperature, "top_p": decoding.top_p, "seed": decoding.seed}
    # Nothing else of llama.cpp's own way to choose, which keeps 40 tokens and drops unlikely ones.
    return body | {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "cache_prompt": False, "return_tokens": True}


def _ending(found: Body) -> Ending:
    return "limit" if found.get("stop_type") == "limit" else "finished"


def require_llama() -> None:
    """Raise BadInput without the library that runs GGUF files."""
    if not can_run_files():
        raise BadInput.of("xllamacpp", "is not installed, and llama.cpp runs GGUF files through it.", INSTALL)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a GGUF file says of itself."""

    contract: PromptContract | None  # None if it carries none
    window: int | None  # the most tokens that it reads; None if it does not say


def facts_of(file: Path) -> FileFacts:
    """What a GGUF file says of itself. Raises BadInput for no GGUF file of a model, or a bad contract."""
    import gguf

    from medcot.engine.gguf.writer import CONTRACT_KEY

    fix = "Use a GGUF file that medcot exported."
    try:
        reader = gguf.GGUFReader(file)
        text, arch = _value(reader, CONTRACT_KEY), _value(reader, gguf.Keys.General.ARCHITECTURE)
        alone = _value(reader, gguf.Keys.General.TYPE) == gguf.GGUFType.ADAPTER
        bounds = [_value(reader, gguf.Keys.LLM.CONTEXT_LENGTH.format(arch=arch))]
        if any(tensor.name == f"{LONG_FACTORS}.weight" for tensor in reader.tensors):
            bounds.append(_value(reader, gguf.Keys.Rope.SCALING_ORIG_CTX_LEN.format(arch=arch)))
        window = min((int(str(bound)) for bound in bounds if bound), default=None)
    except (OSError, ValueError, LookupError, MemoryError, OverflowError) as error:
        raise BadInput.of(str(file), f"is no GGUF file that can be read: {first_line(error)}.", fix) from None
    if alone:
        what = "is an adapter alone, which answers only beside its base's file."
        raise BadInput.of(str(file), what, "Use a file of --format gguf, or serve both as the README beside it says.")
    if text is None:
        return FileFacts(None, window)
    try:
        return FileFacts(PromptContract.model_validate_json(str(text)[:LONGEST_TEXT]), window)
    except ValueError as error:
        raise BadInput.of(
            str(file), f"carries a prompt contract that cannot be read: {first_line(error)}.", fix
        ) from None


def _value(reader: Any, key: str) -> object:
    field = reader.get_field(key)
    return field.contents() if field else None
