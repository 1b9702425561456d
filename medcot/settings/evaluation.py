"""What one evaluation is asked to do: the run's evaluation settings, and the choices for this evaluation alone."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from medcot.errors import BadInput, Problem
from medcot.settings.names import STARTER
from medcot.settings.schema import EvaluationSettings
from medcot.settings.sources import Section

KEY_VARIABLE = "MEDCOT_ENDPOINT_KEY"


class ServerSettings(Section):
    """A server of OpenAI's protocol. Given by whoever runs medcot, never by a page's visitor."""

    url: str = Field(max_length=500, title="Server", description="Such as http://127.0.0.1:8000/v1.")
    concurrency: int = Field(8, ge=1, le=256, title="Requests at once", description="Never more than this many.")
    timeout: float = Field(300.0, gt=0, le=86_400, title="Time-out", description="Seconds for one answer.")
    retries: int = Field(3, ge=0, le=10, title="Retries", description="After a time-out, a refusal or a 5xx.")

    @field_validator("url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        """http(s), with no name, password or query in it: those would end in files and logs. Without a slash behind."""
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is not an http:// or https:// address")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError(f"may hold no name, password or query; put the key into {KEY_VARIABLE}")
        return url.strip().rstrip("/")


class EndpointSettings(ServerSettings):
    """A server, and what it calls base and tuned."""

    base: str = Field(min_length=1, max_length=300, title="Base", description="The base's model name there.")
    tuned: str = Field(min_length=1, max_length=300, title="Tuned", description="The adapter's model name there.")


def given(url: str | None, base: str | None, tuned: str | None) -> dict[str, str] | None:
    """The three options that name a server, unchecked; None where there are none. Raises BadInput for some of them."""
    options = {"--endpoint": url, "--base-model": base, "--tuned-model": tuned}
    missing = [Problem(name, "is missing.", "A server is named by all three.") for name, v in options.items() if not v]
    if len(missing) == len(options):
        return None
    if missing:
        raise BadInput(missing)
    return {"url": str(url), "base": str(base), "tuned": str(tuned)}


KINDS = ("records", "choice")  # of measures; each is a module of medcot.evaluation
CHECKPOINTS = "checkpoints"  # as a further arm: every checkpoint that the run has kept


class EvaluationOrder(EvaluationSettings):
    """settings.json of an evaluation. Holds no secret."""

    questions: str | None = Field(
        None,
        max_length=1000,
        description=f"A multiple-choice file, a benchmark's name, or '{STARTER}'; none means the held-out records.",
    )
    revision: str | None = Field(None, max_length=200, description="The commit of a benchmark on the Hub.")
    adapters: tuple[str, ...] = Field(
        (),
        max_length=20,
        description=f"Further arms: runs, adapter folders, Hub ids, checkpoint-N, '{CHECKPOINTS}' or GGUF files.",
    )
    force: bool = Field(False, description="Go on where the prompt contract is another than the adapter's.")
    endpoint: EndpointSettings | None = Field(None, description="A model server that answers instead of this machine.")

    @property
    def kind(self) -> str:
        """The name of the measure that this asks for."""
        return "choice" if self.questions else "records"

    @property
    def budget_setting(self) -> str:
        return "choice_max_new_tokens" if self.questions else "max_new_tokens"

    @property
    def budget(self) -> int:
        """New tokens an answer may have, for every arm alike."""
        return int(getattr(self, self.budget_setting))
