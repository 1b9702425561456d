"""Under which licences a base and its data come, as far as this project knows, and what a base's licence asks for."""

import re
from dataclasses import dataclass

from medcot import starter
from medcot.settings import STARTER, DataSettings, ModelSettings

_LLAMA = re.compile(r"[^/]+/(?:meta-)?llama-(\d(?:\.\d)?)(?:-.*)?", re.IGNORECASE)
_DATA = {
    STARTER: "Apache-2.0; synthetic, written for medcot with a language model's help, not reviewed by clinicians",
    "FreedomIntelligence/medical-o1-reasoning-SFT": "Apache-2.0; made with GPT-4o",
}


@dataclass(frozen=True, slots=True)
class LlamaLicence:
    """What Meta's community licence asks of whoever passes on a model made from Llama."""

    version: str

    @property
    def hub_id(self) -> str:
        return f"llama{self.version}"

    @property
    def notice(self) -> str:
        return (
            f"Llama {self.version} is licensed under the Llama {self.version} Community License, "
            "Copyright © Meta Platforms, Inc. All Rights Reserved."
        )

    @property
    def link(self) -> str:
        return f"https://www.llama.com/llama{self.version.replace('.', '_')}/license/"


def of_llama(model: ModelSettings) -> LlamaLicence | None:
    """Meta's licence, where the base is a Llama by its Hub name; None for any other."""
    found = _LLAMA.fullmatch(model.id)
    return LlamaLicence(found[1]) if found else None


def of_data(data: DataSettings) -> str:
    return _DATA.get(data.source, "not known to medcot; look at the source before you pass this on")


def of_base(model: ModelSettings) -> str:
    """The base's licence in words."""
    if llama := of_llama(model):
        return f"Llama {llama.version} Community License ({llama.link})"
    if model.id in (STARTER, starter.HUB_ID):
        return "Apache-2.0"
    return "that of the base; look at its page before you pass this on"
