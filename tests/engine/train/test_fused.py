"""What a CPU computes of a training step in its own way: the same sums as TRL's and PEFT's, in fewer products."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from trl.trainer import sft_trainer

from medcot.engine.train.fused import Fused, cross_entropy, theirs
from tests.engine_tools import changed, steps, train

CHUNK = sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


class Block(torch.nn.Module):
    """Layers under an embedding that is not trained, as a decoder has them."""

    def __init__(self, bias=False):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = torch.nn.Linear(24, 40, bias=bias), torch.nn.Linear(40, 24, bias=bias)

    def forward(self, x):
        return self.down(torch.relu(self.up(x))) + x


def adapted(**options):
    """A block with an adapter whose B is not zero."""
    bias = options.pop("layer_bias", False)
    settings = {"r": 4, "lora_alpha": 6, "target_modules": ["up", "down"]} | options
    model = get_peft_model(Block(bias), LoraConfig(**settings))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.train()


def learned(model, x):
    """(output, gradient of x, gradients of the adapter)."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    output = model(x)
    output.float().square().mean().backward()
    return [output.detach(), x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]


@pytest.mark.parametrize("numbers", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"layer_bias": True}, {"use_rslora": True}], ids=str)
def test_a_lora_layer_gives_peft_s_own_output_and_gradients(options, numbers):
    model, x = adapted(**options), torch.randn(2, 5, 24)
    fused = Fused(model)
    assert len(fused._layers) == 2
    with torch.autocast("cpu", numbers, enabled=numbers == torch.bfloat16):
        usual = learned(model, x)
        with fused.in_place():
            own = learned(model, x)
    for a, b in zip(usual, own, strict=True):
        torch.testing.assert_close(a, b, rtol=CLOSE[numbers], atol=CLOSE[numbers])
        assert a.dtype == b.dtype


@pytest.mark.parametrize(
    "options",
    [{"use_dora": True}, {"lora_dropout": 0.5}, {"bias": "all", "layer_bias": True}, {"lora_bias": True}],
    ids=str,
)
def test_other_layers_stay_peft_s(options):
    assert Fused(adapted(**options))._layers == []


def test_outside_and_without_its_adapter_a_layer_is_peft_s():
    model, x = adapted(), torch.randn(3, 24)
    with model.disable_adapter():
        base = model(x)
    with Fused(model).in_place(), model.disable_adapter():
        assert torch.equal(model(x), base)
    assert all("forward" not in vars(module) for module in model.modules())
    assert sft_trainer._chunked_cross_entropy_loss is theirs


def batch(tokens, learned_tokens, numbers=torch.float32):
    torch.manual_seed(2)
    hidden, head = torch.randn(2, tokens, 16, dtype=numbers), torch.randn(50, 16, dtype=numbers)
    labels = torch.randint(0, 50, (2, tokens))
    labels.view(-1)[torch.randperm(2 * tokens)[learned_tokens:]] = -100
    return hidden, head, labels


@pytest.mark.parametrize("numbers", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("items", [None, 7, torch.tensor(9)], ids=str)
@pytest.mark.parametrize(("tokens", "trained"), [(9, 18), (CHUNK, CHUNK + 70), (9, 3), (9, 0)])
def test_the_loss_is_trl_s_and_so_is_its_gradient(tokens, trained, items, numbers):
    hidden, head, labels = batch(tokens, trained, numbers)
    found = []
    for loss_of in (theirs, cross_entropy):
        own = hidden.clone().requires_grad_()
        loss, right, _, count = loss_of(own, head, CHUNK, labels=labels, num_items_in_batch=items)
        (3 * loss).backward()
        found.append((loss.detach(), own.grad, right, count))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=CLOSE[numbers], atol=CLOSE[numbers])


def test_a_share_that_vanishes_has_a_finite_loss():
    hidden, head, labels = batch(4, 8)
    loss, *_ = cross_entropy(hidden * 1e3, head, CHUNK, labels=labels)
    usual, *_ = theirs(hidden * 1e3, head, CHUNK, labels=labels)
    torch.testing.assert_close(loss, usual)


@pytest.mark.parametrize(
    "more", [{"logit_scale": 0.5}, {"final_logit_softcapping": 3.0}, {"lm_head_bias": torch.ones(50)}], ids=str
)
def test_a_head_that_is_not_plain_keeps_trl_s_loss(more):
    hidden, head, labels = batch(9, 18)
    own, usual = (loss(hidden, head, CHUNK, labels=labels, **more) for loss in (cross_entropy, theirs))
    assert torch.equal(own[0], usual[0])
    assert torch.equal(own[2], usual[2])  # the entropy


@pytest.mark.parametrize("change", [{}, {"gradient_checkpointing": True}, {"accumulation": 2}], ids=str)
def test_a_run_learns_what_it_would_without(tmp_path, tiny_settings, monkeypatch, change):
    settings = changed(tiny_settings, "training", log_steps=1, **change)
    own = train(tmp_path / "own", settings)
    monkeypatch.setattr(Fused, "__init__", lambda self, model: setattr(self, "_layers", []))
    monkeypatch.setattr("medcot.engine.train.fused.cross_entropy", theirs)
    usual = train(tmp_path / "usual", settings)
    assert [s.loss for s in steps(own)] == pytest.approx([s.loss for s in steps(usual)], rel=1e-5)
    assert [s.grad_norm for s in steps(own)] == pytest.approx([s.grad_norm for s in steps(usual)], rel=1e-4)
