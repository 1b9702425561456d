"""Pair decode against transformers' own generate: the same tokens, one arm at a time or both in one batch."""

import copy
from types import SimpleNamespace

import pytest

from medcot.adapters.open import of_run
from medcot.errors import BadInput
from tests.engine_tools import changed, train

QUESTIONS = [
    "What suggests gout?",
    "A much longer question, with several clauses, about fever, rash and joint pain: why?",
    "Why?",
    "Case 3: what suggests sepsis?",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    """A run whose adapter plainly changes what the tiny model says."""
    from medcot.settings import build
    from tests.conftest import tiny_raw, write_records

    folder = tmp_path_factory.mktemp("generation")
    settings = build(tiny_raw(tiny_model, write_records(folder / "records.jsonl")))
    return train(folder / "runs", changed(settings, "training", max_steps=25, validate_steps=100, save_steps=100))


@pytest.fixture(scope="module")
def decoder(trained):
    from medcot.engine.answer.load import open_decoder
    from medcot.engine.backends.peft import PeftBackend

    return open_decoder(of_run(trained), PeftBackend(), lambda event: None, max_length=512)


def decoded(decoder, questions, **options):
    from medcot.evaluation.answers import Decoding

    rows = [row for q in questions for row in decoder.rows_for(q)]
    decoder.decode(rows, Decoding(**{"max_new_tokens": 40, **options}))
    return rows


def test_both_arms_in_one_padded_batch_equal_generate_on_each_alone(decoder, trained, tiny_model):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    rows = decoded(decoder, QUESTIONS)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    expected = {}
    for arm in ("base", "tuned"):
        model = base if arm == "base" else PeftModel.from_pretrained(base, trained.adapter_dir).eval()
        for row in rows:
            if row.arm == arm:
                ids = torch.tensor([row.prompt])
                out = model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False
                )
                expected[arm, tuple(row.prompt)] = out[0, len(row.prompt) :].tolist()
    assert [r.tokens for r in rows] == [expected[r.arm, tuple(r.prompt)] for r in rows]
    assert any(b.tokens != t.tokens for b, t in zip(rows[::2], rows[1::2], strict=True)), "the adapter must matter here"
    assert len({len(r.tokens) for r in rows}) > 1, (
        "rows must leave the batch at different times for this to prove anything"
    )


def test_a_row_ends_by_its_end_token_or_at_the_limit_and_says_which(decoder):
    rows = decoded(decoder, QUESTIONS)
    assert {r.ended for r in rows} == {"finished", "limit"}
    for row in rows:
        assert (row.tokens[-1] == decoder.contract.eos_id) == (row.ended == "finished")
        assert len(row.tokens) <= 40
        assert "<|im_end|>" not in decoder.text(row)


def test_cancelling_keeps_what_was_said_so_far(decoder):
    from medcot.evaluation.answers import Decoding

    rows = decoder.rows_for(QUESTIONS[1])
    steps = []
    decoder.decode(
        rows, Decoding(max_new_tokens=40), on_step=lambda: steps.append(1), cancelled=lambda: len(steps) >= 2
    )
    assert [len(r.tokens) for r in rows] == [2, 2]
    assert all(r.ended == "stopped" for r in rows)


def test_sampling_is_seeded(decoder):
    def tokens(seed):
        return [r.tokens for r in decoded(decoder, QUESTIONS[:2], temperature=1.0, top_p=0.9, seed=seed)]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_streamed_pieces_make_up_the_whole_text(decoder, monkeypatch):
    from medcot.engine.answer import chat
    from medcot.workers.protocol import AskRequest

    pieces = ["", ""]

    def send(piece):
        pieces[0] += piece.base
        pieces[1] += piece.tuned

    monkeypatch.setattr(chat, "PIECE_SECONDS", 0.0)
    request = AskRequest(question=QUESTIONS[0], max_new_tokens=40)
    found = chat.LocalPair(decoder).answer(request, send, lambda: False)
    assert pieces == [found["base"].text, found["tuned"].text]


def test_the_plain_contract_ends_at_the_closing_tag_too(decoder):
    from medcot.engine.decode.decoder import DecodedSequence
    from medcot.evaluation.answers import Decoding

    plain = decoder.contract.model_copy(update={"style": "plain"})
    asked = copy.copy(decoder)
    asked.contract, asked._stop_strings = plain, plain.rules.stops
    tokens = decoder.tokenizer("It is gout.\n</response>", add_special_tokens=False)["input_ids"]
    assert asked._ending(DecodedSequence("base", [1], tokens), Decoding(100)) == "finished"
    assert asked._ending(DecodedSequence("base", [1], tokens[:-1]), Decoding(100)) is None
    assert decoder._ending(DecodedSequence("base", [1], tokens), Decoding(100)) is None, (
        "chat has an end token and needs no tag to end"
    )


@pytest.mark.parametrize("questions", [QUESTIONS, QUESTIONS[:1], QUESTIONS * 3], ids=["few", "one", "many"])
def test_steps_whose_tensors_stay_in_place_choose_the_same_tokens_as_growing_ones(decoder, questions, monkeypatch):
    from medcot.engine.decode.cuda_graph import CudaGraphRunner

    growing = decoded(decoder, questions)
    monkeypatch.setattr("medcot.engine.decode.cuda_graph.EXTENTS", (48, 64, 80, 128))
    monkeypatch.setattr("medcot.engine.decode.cuda_graph.PROMPT_TOKENS", 100)
    notes = []
    steps = CudaGraphRunner(decoder.model, decoder.runner._arms, notes.append, capture=False)
    monkeypatch.setattr(decoder, "runner", steps)
    fixed = decoded(decoder, questions)
    assert [(r.tokens, r.ended) for r in fixed] == [(r.tokens, r.ended) for r in growing]
    room = steps._cache[0][0].data_ptr()
    again = decoded(decoder, questions[-1:])
    assert [r.tokens for r in again] == [r.tokens for r in growing[-2:]], "what an earlier batch left must not be seen"
    assert steps._cache[0][0].data_ptr() == room, "no new room for what fits into the old"
    assert notes == []


def test_where_a_step_cannot_be_captured_it_runs_uncaptured_and_says_so(decoder, monkeypatch):
    import torch

    from medcot.engine.decode.cuda_graph import CudaGraphRunner

    if torch.cuda.is_available():
        pytest.skip("capturing works here")
    growing = decoded(decoder, QUESTIONS)
    notes = []
    steps = CudaGraphRunner(decoder.model, decoder.runner._arms, notes.append, capture=True)
    monkeypatch.setattr(decoder, "runner", steps)
    assert [r.tokens for r in decoded(decoder, QUESTIONS)] == [r.tokens for r in growing]
    assert len(notes) == 1
    assert notes[0].message.startswith("Decoding runs uncaptured")


def test_a_compiled_pair_chooses_the_same_tokens_and_all_layers_and_lengths_share_two_compilations(
    decoder, monkeypatch
):
    from torch._dynamo.utils import counters

    from medcot.engine.decode.compiled_layers import FusedLayers, fusable_layers
    from medcot.engine.decode.cuda_graph import CudaGraphRunner

    growing = decoded(decoder, QUESTIONS[:1])
    monkeypatch.setattr("medcot.engine.decode.cuda_graph.EXTENTS", (48, 56, 64, 80, 128))
    # All but the kernels themselves, which want a compiler and a minute; benchmarks/decode_speed.py runs those.
    fused = FusedLayers(fusable_layers(decoder.model), backend="aot_eager")
    steps = CudaGraphRunner(decoder.model, decoder.runner._arms, print, capture=False, fused=fused)
    monkeypatch.setattr(decoder, "runner", steps)
    before = counters["stats"]["unique_graphs"]
    assert [r.tokens for r in decoded(decoder, QUESTIONS[:1])] == [r.tokens for r in growing]
    assert counters["stats"]["unique_graphs"] == before, "nothing is compiled for who has not asked for it"
    decoder.warm_up()
    assert [r.tokens for r in decoded(decoder, QUESTIONS[:1])] == [r.tokens for r in growing]
    assert 0 < counters["stats"]["unique_graphs"] - before <= 2
    assert not any("forward" in vars(layer) for layer in fused._layers), "the model is left as it was"


def test_where_a_pair_cannot_be_compiled_it_is_decoded_without_and_that_is_said(decoder, monkeypatch):
    from medcot.engine.decode.compiled_layers import FusedLayers, fusable_layers
    from medcot.engine.decode.cuda_graph import CudaGraphRunner

    def refuse(*_, **__):
        raise RuntimeError("Failed to find C compiler.")

    growing = decoded(decoder, QUESTIONS[:1])
    fused, notes = FusedLayers(fusable_layers(decoder.model)), []
    monkeypatch.setattr(fused, "_compiled", refuse)
    steps = CudaGraphRunner(decoder.model, decoder.runner._arms, notes.append, capture=True, fused=fused)
    monkeypatch.setattr(decoder, "runner", steps)

    def captured(key, positions, slot):
        """What a GPU's graph does, on a CPU: each replay runs the step anew, into the same logits."""
        logits = steps._forward(*key)
        steps._positions.copy_(positions)
        steps._slot.copy_(slot)
        return SimpleNamespace(replay=lambda: logits.copy_(steps._forward(*key))), logits

    monkeypatch.setattr(steps, "_captured", captured)
    decoder.warm_up()
    assert [r.tokens for r in decoded(decoder, QUESTIONS[:1])] == [r.tokens for r in growing]
    (note,) = (n.message for n in notes)
    assert note == "One question's answers are decoded uncompiled, about half as fast: Failed to find C compiler."


def test_a_row_that_loops_is_ended_in_a_chat_and_left_alone_in_an_evaluation(decoder):
    from medcot.engine.decode.decoder import DecodedSequence
    from medcot.evaluation.answers import Decoding

    row = DecodedSequence("base", [1], [5, 6] * 40)
    assert decoder._ending(row, Decoding(100, end_loops=True)) == "looping"
    assert decoder._ending(row, Decoding(100)) is None
    assert decoder._ending(row, Decoding(80, end_loops=True)) == "limit"


def test_each_arm_reads_its_own_history(decoder):
    from medcot.prompts.contract import Exchange

    said = {"base": [Exchange("First?", "base words")], "tuned": [Exchange("First?", "tuned words")]}
    base, tuned = (decoder.tokenizer.decode(row.prompt) for row in decoder.rows_for("Then?", said))
    assert "base words" in base
    assert "tuned" not in base
    assert "tuned words" in tuned
    assert base.index("First?") < base.index("base words") < base.index("Then?")


@pytest.mark.parametrize("bias", [False, True])
def test_a_16_bit_vocabulary_is_not_copied_at_each_token_and_its_scores_stay_what_they_were(trained, bias):
    import torch

    from medcot.engine.answer.load import open_decoder
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.decode.eager import WeightFirstLinear

    adapter = of_run(trained)
    narrow = adapter.model_copy(update={"base": adapter.base.model_copy(update={"dtype": "bfloat16"})})
    decoder = open_decoder(narrow, PeftBackend(), lambda event: None, max_length=512)
    assert type(decoder.model.get_output_embeddings()) is WeightFirstLinear
    (base, tuned) = decoded(decoder, ["What suggests gout?"])
    assert base.tokens != tuned.tokens

    torch.manual_seed(1)
    head = torch.nn.Linear(64, 500, bias=bias).bfloat16()
    hidden = torch.randn(2, 3, 64).bfloat16()
    expected = head(hidden)
    head.__class__ = WeightFirstLinear
    assert torch.allclose(head(hidden), expected, atol=0.02)


@pytest.fixture
def filled(trained):
    """Gives a decoder of the trained adapter whose LoRA weights then all hold one value."""
    from medcot.engine.answer.load import open_decoder
    from medcot.engine.backends.peft import PeftBackend

    def make(value: float):
        made = open_decoder(of_run(trained), PeftBackend(), lambda event: None, max_length=512)
        for name, parameter in made.model.named_parameters():
            if "lora_" in name:
                parameter.data.fill_(value)
        return made

    return make


@pytest.mark.parametrize("stay_in_place", [False, True], ids=["growing", "in place"])
def test_an_adapter_that_overflows_leaves_base_as_it_is(filled, decoder, monkeypatch, stay_in_place):
    from medcot.engine.decode.cuda_graph import CudaGraphRunner
    from medcot.evaluation.answers import Decoding

    alone = [r.tokens for r in decoded(decoder, QUESTIONS) if r.arm == "base"]
    poisoned = filled(1e25)
    if stay_in_place:
        steps = CudaGraphRunner(poisoned.model, poisoned.runner._arms, lambda event: None, capture=False)
        monkeypatch.setattr(poisoned, "runner", steps)
    monkeypatch.setattr("medcot.engine.decode.decoder.require_numbers", lambda rows, logits: None)
    rows = [row for q in QUESTIONS for row in poisoned.rows_for(q)]
    poisoned.decode(rows, Decoding(max_new_tokens=40))
    assert [r.tokens for r in rows if r.arm == "base"] == alone


def test_an_arm_whose_logits_are_no_numbers_is_refused_at_any_step(filled):
    from medcot.evaluation.answers import Decoding

    poisoned = filled(1e25)
    for options in ({}, {"temperature": 1.0, "top_p": 0.9}):
        with pytest.raises(BadInput, match="tuned: the model's logits"):
            poisoned.decode(poisoned.rows_for(QUESTIONS[0]), Decoding(max_new_tokens=4, **options))


def test_a_step_that_goes_wrong_once_it_is_compiled_is_not_used(decoder, monkeypatch):
    from medcot.engine.decode.compiled_layers import FusedLayers, fusable_layers
    from medcot.engine.decode.cuda_graph import CudaGraphRunner
    from medcot.engine.decode.eager import EagerRunner

    growing = decoded(decoder, QUESTIONS[:1])
    fused, notes = FusedLayers(fusable_layers(decoder.model)), []
    monkeypatch.setattr(fused, "_compiled", lambda layer, hidden, *_: hidden)
    wrong = CudaGraphRunner(decoder.model, decoder.runner._arms, notes.append, capture=False, fused=fused)
    monkeypatch.setattr(decoder, "_ways", iter([decoder.runner]))
    monkeypatch.setattr(decoder, "_report", notes.append)
    monkeypatch.setattr(decoder, "runner", wrong)
    decoder.warm_up()
    assert type(decoder.runner) is EagerRunner
    (note,) = (n.message for n in notes)
    assert note.startswith("This model is decoded in a slower way; the faster does not fit")
    assert [r.tokens for r in decoded(decoder, QUESTIONS[:1])] == [r.tokens for r in growing]
