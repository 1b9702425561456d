"""A real but tiny language model, made on the spot: `python -m tests.tiny FOLDER`, or `build(folder)`.

A LlamaForCausalLM of 2 layers with random weights and a byte-level BPE tokenizer trained on the starter records, saved
as any model on the Hub is. The seed is fixed, so every build is the same model. Its weights are drawn wide enough, and
the end token's row long enough, that greedy outputs differ from prompt to prompt and some of them end by themselves.
"""

import json
import sys
from pathlib import Path

from medcot.engine import without_broken_torchvision

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY = 512
END_ROW = 1.2  # about half of the greedy outputs of 32 tokens then end by themselves
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def build(folder: Path, *, seed: int = 7) -> Path:
    """Save model and tokenizer into `folder`, and return it."""
    without_broken_torchvision()

    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer().save_pretrained(folder)
    _build_model(seed).save_pretrained(folder)
    return folder


def build_tokenizer():
    """A PreTrainedTokenizerFast with ChatML's tokens and template, trained on the starter records."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from medcot.data.starter import RECORDS

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    records = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]
    tokenizer.train_from_iterator([text for record in records for text in record.values()], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )


def _build_model(seed: int):
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.15,
        tie_word_embeddings=False,
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[2] *= END_ROW
    model.generation_config = GenerationConfig(**special)
    return model


if __name__ == "__main__":
    build(Path(sys.argv[1]))
