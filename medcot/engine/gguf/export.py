"""GGUF export: merged and checked as any export, written in each quantization, asked by llama.cpp, then kept."""

import gc
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from medcot import prompts
from medcot.adapters.card import base_licence, llama_licence
from medcot.engine import models
from medcot.engine.backends.peft import PeftBackend
from medcot.engine.export import INSTEAD, Merged, load, merge, require_room, roomy_device
from medcot.engine.gguf import readme
from medcot.engine.gguf.adapter import write_adapter
from medcot.engine.gguf.check import Checker, verdict
from medcot.engine.gguf.family import context_length, family_of
from medcot.engine.gguf.llama import INSTALL
from medcot.engine.gguf.tensors import parameters
from medcot.engine.gguf.vocabulary import adds_bos, begins_text, vocabulary
from medcot.engine.gguf.writer import Naming, Source
from medcot.engine.held_out import asked_of
from medcot.errors import BadInput, WorkerFailed, first_line
from medcot.hub import CONTRACT
from medcot.machine import write_atomically
from medcot.prompts.pinned import pinned_template
from medcot.runs.events import Progress, Report
from medcot.runs.export import Exported, GgufFile, drafting
from medcot.settings.export import QUANTIZATIONS, QUANTIZE_TOOL, can_run_files
from medcot.workers.protocol import ExportRequest

TOOL_SECONDS = 3600.0
SIXTEEN = "f16"
OTHER_BOS = "Ollama begins each text with the base's {token}, and the contract's prompt does not."
WITH_LLAMA = "Use llama-server as below, or --format gguf."
NO_LLAMA = f"the package xllamacpp is not installed ({INSTALL.removeprefix('Install it: ')})"


def export(request: ExportRequest, report: Report) -> Exported:
    """Write GGUF files to the target. Raises BadInput for what cannot be written, WorkerFailed if no file is good."""
    with drafting(request.target) as draft:
        require_writable(request, report)
        kind = _Adapter if request.order.format == "lora-gguf" else _Model
        made = kind(request, draft, report).run()
        draft.rename(request.target)
    commands = [shlex.join(["cd", str(request.target)]), *made.commands]
    return made.merged.exported(request.target, files=made.files, notes=made.notes, commands=commands)


def require_writable(request: ExportRequest, report: Report) -> None:
    """Raise BadInput for family, tokenizer or tool, before anything of weight is loaded or written."""
    needs = [name for name in request.order.quantize if QUANTIZATIONS[name].tool]
    if needs and not shutil.which(QUANTIZE_TOOL):
        what = f"{', '.join(needs)}: made by llama.cpp's own {QUANTIZE_TOOL}, which is not on this machine's PATH."
        raise BadInput.of("--quantize", what, "Install llama.cpp, or choose q8_0 or q4_0.")
    folder = models.resolve(request.adapter.base, report).path
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    family_of(config)
    if request.order.format == "gguf":
        vocabulary(models.load_tokenizer(folder), config.get_text_config().vocab_size)


@dataclass(slots=True)
class _Work:
    """One export under way."""

    request: ExportRequest
    draft: Path  # the folder that is written
    report: Report
    files: list[GgufFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    merged: Merged = field(init=False)

    @property
    def naming(self) -> Naming:
        adapter = self.request.adapter
        return Naming(adapter.name, adapter.base.id, base_licence(adapter.base))

    def file_name(self, kind: str) -> str:
        return f"{readme.letters_of(self.request.adapter.name)}-{kind}.gguf"

    def write_beside(self, config: Any, tokenizer: Any, file: str, *, adapter: str = "") -> None:
        """Modelfile, README, contract, notice, and beside an adapter the contract's template."""
        contract, naming = self.merged.contract, self.naming
        context = context_length(config.get_text_config(), family_of(config))
        other_bos = begins_text(tokenizer) and not adds_bos(tokenizer, contract)
        about = readme.About(naming.name, naming.base, naming.licence, contract, context, other_bos)
        ollama = True
        try:
            if adapter and other_bos:
                raise BadInput.of("Modelfile", OTHER_BOS.format(token=tokenizer.bos_token), WITH_LLAMA)
            text = readme.modelfile(tokenizer, contract, file, context, adapter=adapter)
            write_atomically(self.draft / "Modelfile", text)
        except BadInput as bad:
            ollama = False
            self.notes.append(f"There is no Modelfile: {bad.problems[0].what} {bad.problems[0].fix}")
        self.commands = readme.commands(about, file, adapter=adapter, ollama=ollama)
        write_atomically(self.draft / CONTRACT, contract.model_dump_json(indent=1))
        if adapter:
            write_atomically(self.draft / readme.TEMPLATE_FILE, pinned_template(tokenizer, contract))
        carried = readme.BESIDE if adapter else readme.IN_FILE
        text = readme.readme(about, self.commands, self.files, self.notes, carried)
        write_atomically(self.draft / "README.md", text)
        if llama := llama_licence(self.request.adapter.base):
            write_atomically(self.draft / "NOTICE", f"{llama.notice}\n{llama.link}\n")

    def checker(self, model: Any, tokenizer: Any) -> Checker | None:
        """What asks the files; None, with a note, where nothing is to be asked or nothing can be."""
        order, adapter = self.request.order, self.request.adapter
        if not order.questions or not can_run_files():
            why = NO_LLAMA if order.questions else "no questions were wanted"
            self.notes.append(readme.UNASKED.format(why=why))
            return None
        asked = asked_of(adapter, order.questions)
        if asked.note:
            self.notes.append(asked.note)
        most = order.max_new_tokens or adapter.max_new_tokens
        return Checker(model, tokenizer, self.merged.contract, asked, most, self.report)

    def judge(self, checker: Checker | None, file: Path, quantization: str, **more: Any) -> None:
        """Ask a file and note what came of it; one that is not good is removed."""
        asked = checker.ask(file, **more) if checker else None
        why = verdict(asked, quantization) if asked else ""
        noted = GgufFile(name=file.name, quantization=quantization, bytes=file.stat().st_size, asked=asked, refused=why)
        self.files.append(noted)
        if why:
            self.notes.append(f"{file.name} was not kept: {why}.")
            file.unlink()

    def require_one(self) -> GgufFile:
        kept = [file for file in self.files if not file.refused]
        if not kept:
            said = "; ".join(f"{file.quantization}: {file.refused}" for file in self.files)
            raise WorkerFailed(f"No file says what was measured. {said}. {INSTEAD}")
        return kept[-1]


class _Model(_Work):
    """The whole model, merged, in one file a quantization."""

    def run(self) -> "_Model":
        order = self.request.order
        bits = sum(QUANTIZATIONS[name].bits for name in {*order.quantize, SIXTEEN})
        self.merged = merge(self.request.adapter, self.draft / "merged", self.report, more_bits=bits)
        config = AutoConfig.from_pretrained(self.merged.folder)
        source = Source.of(self.merged.folder, config, self.merged.tokenizer, self.merged.contract, self.naming)
        made = {name: self._write(source, name) for name in order.quantize}
        asking = bool(order.questions) and can_run_files()
        model = load(self.merged.folder, "float32", self.merged.device)[0] if asking else None
        checker = self.checker(model, self.merged.tokenizer)
        for name, file in made.items():
            self.judge(checker, file, name)
        del model, checker
        gc.collect()
        shutil.rmtree(self.merged.folder)
        if SIXTEEN not in order.quantize:
            self.sixteen.unlink(missing_ok=True)
        self.write_beside(config, self.merged.tokenizer, self.require_one().name)
        return self

    @property
    def sixteen(self) -> Path:
        """The file that llama.cpp's tool makes others of."""
        return self.draft / self.file_name(SIXTEEN.upper())

    def _write(self, source: Source, name: str) -> Path:
        file = self.draft / self.file_name(name.upper())
        if not QUANTIZATIONS[name].tool:
            source.write(file, name, lambda done, whole: self._told(file, done, whole))
            return file
        if not self.sixteen.exists():
            source.write(self.sixteen, SIXTEEN, lambda done, whole: self._told(self.sixteen, done, whole))
        self.report(Progress(stage=f"Writing {file.name} with {QUANTIZE_TOOL}"))
        quantize(self.sixteen, file, name)
        return file

    def _told(self, file: Path, done: int, whole: int) -> None:
        self.report(Progress(stage=f"Writing {file.name}, {done / max(1, whole):.0%}"))


class _Adapter(_Work):
    """The adapter alone; its base is written for the check, and taken away again."""

    def run(self) -> "_Adapter":
        adapter = self.request.adapter
        local = models.resolve(adapter.base, self.report)
        self.draft.mkdir(parents=True)
        config = AutoConfig.from_pretrained(local.path, trust_remote_code=False)
        tokenizer = models.load_tokenizer(local.path)
        adapter.use_own_template(tokenizer)
        contract = adapter.contract or prompts.make_contract(adapter.prompt, tokenizer)
        size = parameters(local.path)
        device, counts = roomy_device(size), dict.fromkeys(("prompts", "tokens", "same_tokens"), 0)
        self.merged = Merged(self.draft, "float32", contract, tokenizer, device, counts)
        file = self.draft / self.file_name("LoRA")
        write_adapter(adapter.path, config, contract, self.naming, file)
        base, model = self.draft / readme.BASE_FILE, None
        if self.request.order.questions and can_run_files():
            require_room(size, base, device)
            Source.of(local.path, config, tokenizer, contract, self.naming).write(base, SIXTEEN)
            model = PeftBackend().with_adapter(load(local.path, "float32", device)[0], adapter.path)
        checker = self.checker(model, tokenizer)
        self.judge_on(checker, base, file)
        base.unlink(missing_ok=True)
        self.notes.append(
            f"{readme.BASE_FILE} is the base's own GGUF file: put it, or any of {adapter.base.id}, beside."
        )
        self.write_beside(config, tokenizer, readme.BASE_FILE, adapter=self.require_one().name)
        return self

    def judge_on(self, checker: Checker | None, base: Path, file: Path) -> None:
        asked = checker.ask(base, adapter=file) if checker else None
        why = verdict(asked, SIXTEEN) if asked else ""
        self.files.append(
            GgufFile(name=file.name, quantization="LoRA", bytes=file.stat().st_size, asked=asked, refused=why)
        )


def quantize(source: Path, target: Path, name: str) -> None:
    """Have llama.cpp's tool make a file of the 16-bit one. Raises WorkerFailed in its words if it fails."""
    tool = shutil.which(QUANTIZE_TOOL)
    assert tool
    try:
        done = subprocess.run(
            [tool, str(source), str(target), name.upper()],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TOOL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkerFailed(f"{QUANTIZE_TOOL} failed: {first_line(error)}") from None
    if done.returncode or not target.is_file():
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no word"]
        raise WorkerFailed(f"{QUANTIZE_TOOL} failed: {said[0][:300]}")
