"""What a judge is asked to do with the answers of an evaluation: judge.json beside the evaluation's own settings."""

from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from medcot.errors import BadInput, Problem
from medcot.settings.build import message_of
from medcot.settings.evaluation import ServerSettings
from medcot.settings.names import is_path
from medcot.settings.sources import Section

How = Literal["reference", "rubric", "pair"]
OPTIONS = {"server": "--endpoint", "url": "--endpoint", "how": "--how", "model": "--model"}  # where a setting is given


class JudgeOrder(Section):
    """Who judges, and how it is asked. Holds no secret."""

    model: str = Field(min_length=1, max_length=300, description="Its name on the server, a folder, or a Hub id.")
    revision: str | None = Field(None, max_length=200, description="Branch, tag or commit of a Hub id.")
    server: ServerSettings | None = Field(None, description="None where this machine judges.")
    how: How = Field("reference", description="Against the reference, against a rubric, or base beside tuned.")
    reasoning: bool = Field(False, description="Judge the reasoning too, step by step.")
    max_new_tokens: int = Field(512, ge=8, le=100_000, description="For one verdict; a judge that thinks needs more.")
    batch_size: int = Field(8, ge=1, le=512, description="Verdicts at once, where this machine judges.")

    @model_validator(mode="after")
    def _names_a_model(self) -> Self:
        if not self.model.strip():
            raise ValueError("names no model")
        return self

    @property
    def ways(self) -> tuple[Literal["reference", "rubric", "pair", "steps"], ...]:
        """Each way in which it is asked."""
        return (self.how, "steps") if self.reasoning else (self.how,)

    @property
    def identity(self) -> str:
        """Whose verdicts can be used again: the model, where it is, and how much it may say."""
        return f"{self.model}, {self.revision or 'as it is'}, at {self.where}, {self.max_new_tokens}"

    @property
    def where(self) -> str:
        """Where the model is asked."""
        return self.server.url if self.server else "this machine"


def judge_order(endpoint: str | None, model: str | None, local: str | None, **asked: object) -> JudgeOrder:
    """What the options ask for: a model on a server, or one on this machine. Raises BadInput with all problems."""
    named = "Give --endpoint URL --model NAME, or --judge-model NAME."
    checks: list[tuple[object, str, str, str]] = [
        (not (endpoint or local or model), "judge", "is not named.", named),
        (endpoint and local, "--judge-model", "cannot be combined with --endpoint.", "Name one judge."),
        (endpoint and not model, "--model", "is missing.", "Name the judge as its server does."),
        (model and not endpoint, "--endpoint", "is missing.", "Name the server of that model."),
    ]
    if problems := [Problem(*problem) for holds, *problem in checks if holds]:
        raise BadInput(problems)
    name, _, revision = (local or "").partition("@") if not is_path(local or "") else (local or "", "", "")
    of_server = {option: asked.pop(option) for option in ("concurrency",) if option in asked}
    server = {"url": endpoint, **of_server} if endpoint else None
    try:
        return JudgeOrder.model_validate(
            {"model": model or name, "revision": revision or None, "server": server, **asked}
        )
    except ValidationError as error:
        raise BadInput([Problem(_option(e["loc"]), f"{message_of(e)}.") for e in error.errors()]) from None


def _option(where: tuple[int | str, ...]) -> str:
    """The option that a setting is given by."""
    name = str(where[-1]) if where else "model"
    return OPTIONS.get(name, f"--{name.replace('_', '-')}")
