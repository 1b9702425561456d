"""What a model is asked with, and what it answered: the prompt contract and the tags."""

from medcot.prompts.contract import STYLES, contract_differences, differing, encode_prompt, make_contract, prompt_text
