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
TEMPLATE_FILE = "chat_template.jinja"  # beside an adapter, which has no place for one
CONTEXT = 4096  # tokens, unless the model reads fewer
IN_FILE = "template, end tokens and contract (prompt_contract.json) are in the file."
BESIDE = (
    "the file carries the contract (prompt_contract.json). Template and end tokens would be the base's own: "
    f"llama.cpp gets the contract's from {TEMPLATE_FILE}, Ollama from a Modelfile."
)
NO_BOS = "--override-kv tokenizer.ggml.add_bos_token=bool:false"
README = Template("""\
# ${name}

**For research only.** Not for care, and no output was checked by a clinician. Base ${base}, licence ${licence}.

${commands}
Asked under the contract ${style}; ${carried}

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
    other_bos: bool = False  # whether a file of the base begins texts with a token that the contract's prompt has not


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
    """The commands that run the file, or an adapter on a file of its base, from its folder."""
    name = letters_of(about.name).lower()
    options = ["-m", file, *(["--lora", adapter] if adapter else []), "-c", str(min(CONTEXT, about.context))]
    options += ["--temp", "0", "--jinja", *(["--chat-template-file", TEMPLATE_FILE] if adapter else [])]
    options += [word for stop in about.contract.rules.stops for word in ("-r", stop)]
    options += NO_BOS.split() if adapter and about.other_bos else []
    said = shlex.join(options)
    first = [f'ollama create {name} -f Modelfile && ollama run {name} "What suggests gout?"'] if ollama else []
    return [
        *first,
        f"llama-server {said} --reasoning-format none",
        f'llama-cli {said} -p "What suggests gout?"',
    ]


def letters_of(name: str) -> str:
    """A name of letters that file systems, shells and Ollama take."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name)
    return plain.strip("-_.") or "medcot"


def readme(about: About, run: list[str], files: list[GgufFile], notes: list[str], carried: str = IN_FILE) -> str:
    """README.md: the commands, what the file carries, and what llama.cpp answered."""
    said = {"name": about.name, "base": about.base, "licence": about.licence, "style": about.contract.title}
    said["carried"] = carried
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
