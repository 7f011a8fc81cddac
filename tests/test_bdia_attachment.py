"""Attaching to a model and taking off again: what changes, and what must not."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import threading
from typing import Any

import pytest
import torch
from networks import Errors, gpt, gpt_loss, gradients, same, tokens
from torch import Tensor, nn

import bdia
from bdia.distributions import Uniform
from bdia.errors import AttachError, MethodError, TapeError
from bdia.methods import get, names
from bdia.models.vit import ViT, ViTConfig


@pytest.mark.parametrize("method", names())
def test_names_and_eval_stay_as_they_are(method: str) -> None:
    """Parameter names and `state_dict` are those of the plain model for every method, and so is the eval output but for
    rules that are models of their own, which evaluate what they train."""
    model, (idx, _) = gpt(), tokens()
    keys, logits = list(model.state_dict()), model.eval()(idx)[0]
    plain = get(method).make_rule(9).evaluates_plain
    with bdia.attach(model, method):
        assert list(model.state_dict()) == keys
        assert torch.equal(model(idx)[0], logits) == plain
        with torch.no_grad():
            assert torch.equal(model(idx)[0], logits) == plain
    assert torch.equal(model(idx)[0], logits)


def test_standard_is_the_plain_model() -> None:
    """Attached `standard` trains with the very gradients of the model alone."""
    model, batch = gpt(dropout=0.1), tokens()
    torch.manual_seed(3)
    gpt_loss(model, batch).backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert same(gradients(model, batch, "standard")[0], plain)


def test_detach_restores_the_original_objects() -> None:
    """After `detach` no instance carries a forward of ours, and a forward set before is back."""
    model = gpt()
    block = model.transformer.h[1]
    own = block.forward
    block.forward = own  # an instance attribute, as some libraries set
    handle = bdia.attach(model, "bdia")
    assert "forward" in model.__dict__
    handle.detach()
    handle.detach()
    assert block.__dict__["forward"] == own
    assert all("forward" not in module.__dict__ for module in model.modules() if module is not block)


def test_attaching_twice_is_refused() -> None:
    """A second method on the same blocks needs the first to be detached."""
    model = gpt()
    with bdia.attach(model, "bdia"), pytest.raises(AttachError, match=r"detach\(\) it first"):
        bdia.attach(model, "checkpoint")
    bdia.attach(model, "checkpoint").detach()


def test_unknown_methods_and_bits_are_refused() -> None:
    """The error names what there is."""
    with pytest.raises(MethodError, match="'bdai': expected one of standard, checkpoint"):
        bdia.attach(gpt(), "bdai")
    with pytest.raises(MethodError, match="bits=0"):
        bdia.attach(gpt(), "bdia", bits=0)


def test_a_model_without_a_list_of_blocks_is_refused() -> None:
    """What cannot be found is asked for."""
    with pytest.raises(AttachError, match="blocks="):
        bdia.attach(nn.Linear(3, 3), "bdia")
    with pytest.raises(AttachError, match="not part of GPT"):
        bdia.attach(gpt(), "bdia", blocks=[nn.Linear(3, 3)])
    with pytest.raises(AttachError, match="empty"):
        bdia.attach(gpt(), "bdia", blocks=[])


def test_a_failed_attach_leaves_the_model_alone() -> None:
    """An error while attaching changes nothing."""
    model = gpt()
    with pytest.raises(MethodError):
        bdia.attach(model, "bdia", bits=99)
    assert all("forward" not in module.__dict__ for module in model.modules())


def test_a_block_on_its_own_is_refused_in_training_only() -> None:
    """Outside its owner's forward a block has no place in a chain; in eval mode it is a plain block."""
    model, x = gpt(), torch.randn(2, 7, 12)
    plain = model.transformer.h[0](x)
    with bdia.attach(model, "bdia"):
        with pytest.raises(TapeError, match="outside the forward of GPT"):
            model.transformer.h[0](x)
        model.eval()
        assert torch.equal(model.transformer.h[0](x), plain)


def test_training_without_gradients_follows_the_rule_and_keeps_nothing() -> None:
    """Under `no_grad` a training forward computes what it computes with gradients."""
    model, batch = gpt(), tokens()
    with bdia.attach(model, "bdia", seed=1) as handle:
        loss = gpt_loss(model, batch)
    with bdia.attach(model, "bdia", seed=1) as handle, torch.no_grad():
        assert torch.equal(gpt_loss(model, batch), loss)
        assert handle.side_bytes == 0
    with bdia.attach(model, "bdia", seed=1), torch.inference_mode():
        assert torch.equal(gpt_loss(model, batch), loss)


def test_a_forward_that_raises_leaves_no_tape() -> None:
    """After an error in the middle of a forward, the next one starts afresh."""
    model, batch = gpt(), tokens()
    expected, _ = gradients(model, batch, "bdia")
    model.zero_grad()
    torch.manual_seed(3)
    with bdia.attach(model, "bdia", seed=3) as handle:
        hook = model.transformer.h[3].register_forward_pre_hook(lambda module, args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            gpt_loss(model, batch)
        hook.remove()
        handle.load_state_dict({"seed": 3, "forwards": 0})
        gpt_loss(model, batch).backward()
    assert same({name: p.grad for name, p in model.named_parameters()}, expected)


def test_the_handles_state_repeats_gamma() -> None:
    """Loading a handle's state draws the same γ again; the seed alone decides it."""
    model, batch = gpt(), tokens()
    with bdia.attach(model, "bdia", seed=9) as handle:
        state = handle.state_dict()
        first, second = gpt_loss(model, batch), gpt_loss(model, batch)
        handle.load_state_dict(state)
        again = gpt_loss(model, batch)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_a_copy_is_a_model_of_its_own(how: str) -> None:
    """A copied attached model (an EMA, say) runs its own blocks, with its own γ."""
    model, batch = gpt(), tokens()
    with bdia.attach(model, "bdia", seed=2):
        gpt_loss(model, batch)
        if how == "deepcopy":
            twin = copy.deepcopy(model)
        elif how == "pickle":
            twin = pickle.loads(pickle.dumps(model))
        else:
            buffer = io.BytesIO()
            torch.save(model, buffer)
            buffer.seek(0)
            twin = torch.load(buffer, weights_only=False)
        loss = gpt_loss(twin, batch)
        assert torch.equal(loss, gpt_loss(model, batch))  # both count their second forward
        loss.backward()
        assert all(p.grad is None for p in model.parameters())
        assert all(p.grad is not None for p in twin.parameters())
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        assert gpt_loss(twin, batch).item() != loss.item()


def test_a_compiled_model_is_not_compiled_through_the_engine() -> None:
    """`torch.compile` of an attached model leaves the engine alone, and stays exact."""
    model, batch = gpt(), tokens()
    expected, _ = gradients(model, batch, "bdia")
    model.zero_grad()
    errors = Errors()
    with bdia.attach(model, "bdia", seed=3) as handle, handle.observing(errors):
        gpt_loss(torch.compile(model, backend="aot_eager"), batch).backward()
    assert all(errors.equal.values())
    assert same({name: p.grad for name, p in model.named_parameters()}, expected)


def test_vit_is_found_and_exact() -> None:
    """The vision model attaches unasked; its dropout is repeated, its gradients are the twin's."""
    torch.manual_seed(0)
    config = ViTConfig(image_size=8, width=12, depth=5, heads=3, head_width=4, mlp_width=20, classes=5)
    model = ViT(config).train()
    batch = (torch.randn(3, 3, 8, 8), torch.tensor([0, 4, 2]))
    ours, errors = gradients(model, batch, "bdia")
    stored, _ = gradients(model, batch, "bdia-stored")
    assert errors.equal == dict.fromkeys(range(5), True)
    assert same(ours, stored)


class _Masked(nn.Module):
    """Blocks with more arguments and more outputs than x, as Hugging Face's have."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_MaskedBlock() for _ in range(4))
        self.bias = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        seen = []
        scale = self.bias * 2  # an argument with a graph of its own
        for layer in self.layers:
            x, norm = layer(x, scale, mask=torch.ones(6))
            seen.append(norm)
        return x, seen


class _MaskedBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor, scale: Tensor, *, mask: Tensor) -> tuple[Tensor, Tensor]:
        h = (self.inner(x) * scale * mask).tanh()
        return x + h, h.square().sum()


def test_arguments_and_further_outputs_keep_their_gradients() -> None:
    """Tensors passed beside x get their gradients, and so does what a block returns beside x."""
    torch.manual_seed(0)
    model, x = _Masked().train(), torch.randn(3, 5, 6)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        y, seen = model(batch)
        return y.square().sum() + sum(seen)

    ours, errors = gradients(model, x, "bdia", loss=loss)
    stored, _ = gradients(model, x, "bdia-stored", loss=loss)
    assert all(errors.equal.values())
    assert same(ours, stored)
    assert ours["bias"] is not None


def test_an_argument_changed_in_place_is_refused() -> None:
    """A mask overwritten between forward and backward would be another function."""
    torch.manual_seed(0)
    model, mask = _Masked().train(), torch.ones(6)
    for layer in model.layers:
        plain = layer.forward
        layer.forward = lambda x, scale, *, mask=mask, plain=plain, **_: plain(x, scale, mask=mask)

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(_MaskedBlock() for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x, _ = layer(x, torch.ones(6), mask=mask)
            return x

    loop = Loop().train()
    with bdia.attach(loop, "bdia"):
        loss = loop(torch.randn(3, 5, 6)).sum()
        mask.zero_()
        with pytest.raises(TapeError, match="changed in place between forward and backward"):
            loss.backward()


def test_the_backward_may_run_in_another_thread() -> None:
    """Nothing of the engine is bound to the thread of the forward."""
    model, batch = gpt(dropout=0.2), tokens()
    expected, _ = gradients(model, batch, "bdia")
    model.zero_grad()
    torch.manual_seed(3)
    with bdia.attach(model, "bdia", seed=3):
        loss = gpt_loss(model, batch)
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()
    assert same({name: p.grad for name, p in model.named_parameters()}, expected)


def test_two_threads_may_run_forwards_at_once() -> None:
    """Each thread has its own forward under way."""
    model, batch = gpt(4), tokens()
    gate, losses = threading.Barrier(2), {}

    def meet(module: nn.Module, args: Any) -> None:
        gate.wait(timeout=60)

    model.transformer.h[1].register_forward_pre_hook(meet)

    def run(name: str) -> None:
        losses[name] = gpt_loss(model, batch)

    with bdia.attach(model, "bdia", seed=1):
        threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for loss in losses.values():
            loss.backward()
    assert len(losses) == 2


def test_a_forward_set_after_attaching_is_not_thrown_away() -> None:
    """Detaching refuses to undo what somebody else put on top."""
    model = gpt()
    handle = bdia.attach(model, "bdia")
    ours, model.forward = model.forward, lambda *args: None
    with pytest.raises(AttachError, match="replaced after attaching"):
        handle.detach()
    model.forward = ours
    handle.detach()
    assert "forward" not in model.__dict__


def test_a_copy_is_detached_without_a_handle() -> None:
    """`bdia.detach` takes a method off a copy, and leaves the original as it is."""
    model, batch = gpt(), tokens()
    with bdia.attach(model, "bdia", seed=0) as handle:
        twin = copy.deepcopy(model)
        with pytest.raises(AttachError, match=r"or bdia\.detach\(model\)"):
            bdia.attach(twin, "bdia")
        bdia.detach(twin)
        assert all("forward" not in module.__dict__ for module in twin.modules())
        bdia.attach(twin, "bdia").detach()
        gpt_loss(model, batch).backward()
        assert handle.side_bytes > 0


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_a_handle_has_nothing_left_after_detach_of_the_model() -> None:
    """Both ways of detaching may be used, with several chains too, and a forward set before is back."""
    model = nn.Transformer(8, 2, 2, 2, 16)
    own = model.encoder.forward
    model.encoder.forward = own
    handle = bdia.attach(model, "bdia")
    bdia.detach(model)
    handle.detach()
    assert model.encoder.__dict__["forward"] is own
    assert [module for module in model.modules() if "forward" in module.__dict__] == [model.encoder]


def test_a_detach_that_fails_changes_nothing() -> None:
    """Where a forward was replaced since, all of the method stays attached, and an error under way is not hidden."""
    model, batch = gpt(), tokens()
    handle = bdia.attach(model, "bdia")
    ours, model.forward = model.forward, lambda *args: None
    with pytest.raises(AttachError, match="was replaced after attaching"):
        handle.detach()
    assert all("forward" in block.__dict__ for block in model.transformer.h)
    with pytest.raises(ZeroDivisionError) as caught, handle:
        1 / 0  # noqa: B018
    assert "still attached" in caught.value.__notes__[0]
    model.forward = ours
    handle.detach()
    gpt_loss(model, batch).backward()


@pytest.mark.parametrize(
    "wrong", [{}, {"seed": 1}, {"seed": 1, "forwards": 2, "seed.1": 3}, {"seed": "1", "forwards": 0}]
)
def test_a_state_of_another_shape_is_refused_whole(wrong: dict[str, Any]) -> None:
    """The handle's state is as it was."""
    with bdia.attach(gpt(), "bdia", seed=7) as handle:
        before = handle.state_dict()
        with pytest.raises(AttachError, match="does not fit: expected whole numbers for seed, forwards"):
            handle.load_state_dict(wrong)
        assert handle.state_dict() == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "gpt"}, AttachError, "the model is a str"),
        ({"method": None}, MethodError, "method=None"),
        ({"seed": "1"}, AttachError, "seed='1': expected a whole number"),
        ({"rank": 1.5}, AttachError, r"rank=1\.5: expected a whole number"),
        ({"blocks": 3}, AttachError, "blocks= is a int"),
        ({"gamma": Uniform}, MethodError, "expected a number such as 0.5"),
        ({"gamma": 0.3}, MethodError, r"\|γ\| must be 2\^-m"),
        ({"gamma": "uniform:0.5"}, MethodError, "or use method 'bdia-stored'"),
        ({"gamma": 0, "method": "bdia-naive"}, MethodError, "must never be 0; or use method 'bdia-unquantised'"),
        ({"gamma": 0.5, "method": "standard"}, MethodError, "standard draws no γ"),
    ],
)
def test_misuse_is_one_line(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """What cannot be meant is refused before the model is touched."""
    model = arguments.pop("model", None) or gpt()
    with pytest.raises(error, match=message) as caught:
        bdia.attach(model, **arguments)
    assert "\n" not in str(caught.value)


def test_blocks_within_blocks_are_refused() -> None:
    """A chain runs one block after the other, not one inside another."""
    model = gpt()
    with pytest.raises(AttachError, match="a module inside of it"):
        bdia.attach(model, blocks=[model.transformer.h[0], model.transformer.h[0].mlp])


def test_a_method_without_effect_is_refused() -> None:
    """Blocks that are run by another method than their forward are not run by the method attached either."""

    class Elsewhere(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = x + block[1](block[0](x))
            return x

    model, x = Elsewhere().train(), torch.randn(2, 3, 4)
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match=r"called none of the blocks blocks\.0 …"):
        model(x)
    with pytest.raises(TapeError, match=r"called none of the blocks blocks\.0 …"):
        bdia.rehearse(model, lambda: model(x))
    with pytest.raises(AttachError, match=r"none of the blocks blocks\.0 …"):
        bdia.rehearse(model, lambda: None)


def test_the_signature_stays_the_forwards_own() -> None:
    """Trainers choose the columns of a batch by it."""
    model = gpt()
    before = inspect.signature(model.forward), inspect.signature(model.transformer.h[0].forward)
    with bdia.attach(model, "bdia"):
        assert (inspect.signature(model.forward), inspect.signature(model.transformer.h[0].forward)) == before


def test_a_given_rank_takes_the_place_of_the_process_own() -> None:
    """Processes that share their samples share their γ where they say the same rank."""
    model, batch = gpt(), tokens()
    losses = []
    for rank in (0, 0, 1):
        with bdia.attach(model, "bdia", seed=0, rank=rank):
            losses.append(gpt_loss(model, batch))
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
