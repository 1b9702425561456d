"""What one evaluation is ordered to do: the run's evaluation settings, and what belongs to this evaluation alone."""

from pydantic import Field

from medcot.endpoints import EndpointSettings
from medcot.settings import STARTER, EvaluationSettings

CHECKPOINTS = "checkpoints"  # as a further arm: every checkpoint that the run has kept


class EvaluationOrder(EvaluationSettings):
    """settings.json of an evaluation. Holds no secret."""

    questions: str | None = Field(
        None, max_length=1000, description=f"A multiple-choice file, or '{STARTER}'; none means the held-out records."
    )
    adapters: tuple[str, ...] = Field(
        (), max_length=20, description=f"Further arms: runs, adapter folders, Hub ids, checkpoint-N or '{CHECKPOINTS}'."
    )
    force: bool = Field(False, description="Go on where the prompt contract is another than the adapter's.")
    endpoint: EndpointSettings | None = Field(None, description="A model server that answers instead of this machine.")

    @property
    def budget(self) -> int:
        """New tokens an answer may have, for every arm alike."""
        return self.choice_max_new_tokens if self.questions else self.max_new_tokens
