"""A contract's prompt as a chat template that needs nothing more: what travels with a model that others serve.

A server renders the template of the files that it serves, on its own day and with switches of its own. So the date,
switches and system text of the contract are written into the template.
"""

import copy
import json
import re
from datetime import datetime
from typing import Any

from medcot.prompts.chat_template import DATE_FORMAT, template_of
from medcot.prompts.contract import PromptContract

CLOCK = "strftime_now"  # the function by which templates ask for today
DIRECTIVE = re.compile(r"%-?[aAbBcdDeFHIjmMpSTuUwWxXyY]")  # what it is asked for, as Python's strftime has it


def pinned_template(tokenizer: Any, contract: PromptContract) -> str:
    """The chat template under the contract, in Jinja, with nothing left to be given to it.

    Under a plain contract it is the contract's text around the last message.
    """
    if contract.rules.text:
        before, _, after = contract.rules.text.partition("{question}")
        bos = tokenizer.bos_token or ""
        return f"{bos}{before}{{{{ messages[-1]['content'] | trim }}}}{_literal(after)}"
    template = template_of(tokenizer)
    given: dict[str, str | bool] = {"date_string": contract.date_string, **contract.switches}
    head = _clock(template, contract.date_string) if CLOCK in template else ""
    head += "".join(f"{{%- set {name} = {_literal_of(value)} %}}" for name, value in given.items())
    if contract.system:
        first = f"[{{'role': 'system', 'content': {_literal_of(contract.system)}}}]"
        head += f"{{%- if messages[0]['role'] != 'system' %}}{{%- set messages = {first} + messages %}}{{%- endif %}}"
    return head + template


def pinned(tokenizer: Any, contract: PromptContract) -> Any:
    """A copy of the tokenizer whose one chat template is the contract's."""
    made = copy.copy(tokenizer)
    made.chat_template = pinned_template(tokenizer, contract)
    return made


def _clock(template: str, date: str) -> str:
    """A macro in the clock's place, that knows the contract's day in all the forms that the template asks for."""
    day = datetime.strptime(date, DATE_FORMAT)
    forms = sorted(set(DIRECTIVE.findall(template)))
    said = "".join(f" | replace({_literal_of(form)}, {_literal_of(day.strftime(form))})" for form in forms)
    return f"{{%- macro {CLOCK}(form) -%}}{{{{ form{said} }}}}{{%- endmacro -%}}"


def _literal_of(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)


def _literal(text: str) -> str:
    """Text behind an expression, where Jinja would take away a line's end that is the last."""
    return f"{{{{ {json.dumps(text)} }}}}"
