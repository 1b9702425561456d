"""What lies beside a GGUF file: a Modelfile that works as it is, and a README with commands and what was measured."""

import json
import shlex
from dataclasses import dataclass
from string import Template

from medcot.engine.gguf.template import go_template, stops
from medcot.errors import BadInput
from medcot.prompts.contract import PromptContract
from medcot.runs.export import AskedFile, GgufFile

BASE_FILE = "base.gguf"
CONTEXT = 4096  # tokens, unless the model reads fewer
README = Template("""\
# ${name}

**For research only.** Not for care, and no output was checked by a clinician. Base ${base}, licence ${licence}.

${commands}
Asked under the contract ${style}; template, end tokens and contract (prompt_contract.json) are in the file.

${checked}
""")
ROWS = {
    "answer_rouge_l": "answer ROUGE-L",
    "reasoning_rouge_l": "reasoning ROUGE-L",
    "facts_named": "facts named",
    "forbidden_stated": "forbidden statements",
    "format_strict": "tags as trained",
    "truncated": "cut at the limit",
}
UNASKED = "llama.cpp was not asked: {why}. Whether these files say what was measured is not known."


@dataclass(frozen=True, slots=True)
class About:
    """What the texts say of an export."""

    name: str
    base: str
    licence: str
    contract: PromptContract
    context: int  # the most tokens that the model reads


def modelfile(tokenizer: object, contract: PromptContract, file: str, context: int, *, adapter: str = "") -> str:
    """Ollama's Modelfile. Raises BadInput if the contract's prompt cannot be written in its language."""
    lines = [f"FROM ./{file}", *([f"ADAPTER ./{adapter}"] if adapter else [])]
    lines.append(f'TEMPLATE """{go_template(tokenizer, contract)}"""')
    if contract.system:
        if '"""' in contract.system:
            raise BadInput.of("Modelfile", 'a system text with """ in it cannot be written.', "Change prompt.system.")
        lines.append(f'SYSTEM """{contract.system}"""')
    # Ollama's own defaults are a temperature of 0.8 and a penalty for what was said before.
    lines += ["PARAMETER temperature 0", "PARAMETER repeat_penalty 1", f"PARAMETER num_ctx {min(CONTEXT, context)}"]
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops(tokenizer, contract)]
    return "\n".join(lines) + "\n"


def commands(about: About, file: str, *, adapter: str = "", ollama: bool = True) -> list[str]:
    """The commands that run the file from its folder."""
    name = shlex.quote(about.name.lower().replace(" ", "-"))
    context, lora = min(CONTEXT, about.context), f" --lora {shlex.quote(adapter)}" if adapter else ""
    options = f"-m {shlex.quote(file)}{lora} -c {context} --temp 0 --jinja"
    first = [f'ollama create {name} -f Modelfile && ollama run {name} "What suggests gout?"'] if ollama else []
    return [
        *first,
        f"llama-server {options} --reasoning-format none",
        f'llama-cli {options} -p "What suggests gout?"',
    ]


def readme(about: About, run: list[str], files: list[GgufFile], notes: list[str]) -> str:
    """README.md: the commands, and what llama.cpp answered."""
    said = {"name": about.name, "base": about.base, "licence": about.licence, "style": about.contract.title}
    listed = "".join(f"    {command}\n" for command in run)
    return README.substitute(said, commands=listed, checked="\n".join([*table(files), *notes]))


def table(files: list[GgufFile]) -> list[str]:
    """Markdown of what was measured of each file that was asked."""
    asked = [(file, file.asked) for file in files if file.asked]
    if not asked:
        return []
    rows = [
        ("bytes", [f"{f.bytes:,}" for f, _ in asked]),
        ("tokens that the exported model chooses too", [_share(a.same_tokens, a.tokens) for _, a in asked]),
        ("whole answers equal", [f"{a.same_answers} of {a.questions}" for _, a in asked]),
        ("answers that end by themselves", [f"{a.stopped} of {a.questions}" for _, a in asked]),
        ("run on where the exported model stops", [str(a.running_on) for _, a in asked]),
    ]
    heading, tuned = ["", *(f.quantization for f, _ in asked)], asked[0][1].tuned
    for key, label in ROWS.items():
        if any(key in a.scores for _, a in asked):
            rows.append((label, [_figure(a, key) for _, a in asked]))
    if tuned:
        heading.append("tuned, as evaluated")
        values = {label: f"{tuned[key]:.3f}" for key, label in ROWS.items() if key in tuned}
        rows = [(label, [*cells, values.get(label, "")]) for label, cells in rows]
    first = asked[0][1]
    words = (
        f"{first.questions} questions were asked, greedily, of the files themselves by llama.cpp. Tokens are counted"
    )
    lines = [heading, ["---"] * len(heading), *([label, *cells] for label, cells in rows)]
    return [f"{words} after the same text.", "", *(f"| {' | '.join(line)} |" for line in lines), ""]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%} of {whole:,}" if whole else "none"


def _figure(asked: AskedFile, key: str) -> str:
    return f"{asked.scores[key]:.3f}" if key in asked.scores else ""
