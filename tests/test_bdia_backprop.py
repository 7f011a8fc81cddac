"""Strategies against one another: same rule, same gradients, bit for bit; and what each of them keeps."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from networks import Errors, gpt, gpt_loss, gradients, same, tokens, trained
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import bdia
from bdia.backprop import Index, Watcher
from bdia.errors import HeadroomError, MethodError, ReconstructionError, TapeError
from bdia.methods import BDIA, CHECKPOINT, QUANTISED_BDIA, REVERSIBLE, Method, get

CHECKPOINTED_BDIA = Method("bdia on checkpoint", QUANTISED_BDIA, CHECKPOINT, "", quantised=True)


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("bits", [6, 9])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_block_is_rebuilt_exactly(depth: int, bits: int, seed: int) -> None:
    """Eq. 24 rebuilds each x_k with `torch.equal`, and the gradients are those of the stored twin."""
    model, batch = gpt(depth, seed=seed), tokens(seed=seed)
    ours, errors = gradients(model, batch, "bdia", bits=bits)
    stored, _ = gradients(model, batch, "bdia-stored", bits=bits)
    assert errors.equal == dict.fromkeys(range(depth), True)
    assert same(ours, stored)


@pytest.mark.parametrize("bits", [6, 9])
@pytest.mark.parametrize("depth", [5, 24])
def test_trained_weights_are_rebuilt_exactly(bits: int, depth: int) -> None:
    """Exactness does not rest on small initial weights."""
    batch = tokens()
    with trained(gpt(depth), batch, steps=20) as model:
        ours, errors = gradients(model, batch, "bdia", bits=bits)
        stored, _ = gradients(model, batch, "bdia-stored", bits=bits)
    assert all(errors.equal.values())
    assert same(ours, stored)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_checkpoint_gives_the_gradients_of_stored(dropout: float) -> None:
    """For either rule, checkpointing changes no bit of a gradient, dropout or not."""
    model, batch = gpt(dropout=dropout), tokens()
    assert same(gradients(model, batch, "checkpoint")[0], gradients(model, batch, "standard")[0])
    assert same(gradients(model, batch, CHECKPOINTED_BDIA)[0], gradients(model, batch, "bdia-stored")[0])


@pytest.mark.parametrize("seed", range(3))
def test_dropout_is_repeated(seed: int) -> None:
    """A block that draws is rerun with the RNG state of its forward, and the generator goes on undisturbed."""
    model, batch = gpt(dropout=0.2, seed=seed), tokens(seed=seed)
    ours, errors = gradients(model, batch, "bdia", seed=seed)
    after = torch.get_rng_state()
    stored, _ = gradients(model, batch, "bdia-stored", seed=seed)
    assert all(errors.equal.values())
    assert same(ours, stored)
    assert torch.equal(after, torch.get_rng_state())


def test_rng_states_are_kept_only_for_blocks_that_draw() -> None:
    """Without dropout no RNG state is kept; with it, one a block."""
    batch = tokens()
    for dropout, states in ((0.0, 0), (0.2, 5)):
        model = gpt(5, dropout=dropout)
        with bdia.attach(model, "bdia") as handle:
            gpt_loss(model, batch)
            assert handle.rng_bytes == states * torch.get_rng_state().nbytes


def test_side_bits_are_one_bit_an_element_of_all_blocks_but_the_first() -> None:
    """N blocks hold N - 1 times ⌈E/8⌉ bytes when the forward ends."""
    model = gpt(6)
    with bdia.attach(model, "bdia") as handle:
        gpt_loss(model, tokens())
        elements = 3 * 7 * 12
        assert handle.side_bytes == 5 * -(-elements // 8)


def test_naive_inversion_drifts_and_doubles() -> None:
    """The error of eq. 16 grows by a factor of about 2 a block, from the top down (invariant 1)."""
    slopes = []
    for seed in range(3):
        _, errors = gradients(gpt(16, seed=seed), tokens(seed=seed), "bdia-naive", seed=seed)
        largest = torch.tensor([errors.largest[k] for k in range(13, -1, -1)]).log2()
        steps = torch.arange(len(largest)).float()
        slopes.append(
            ((steps - steps.mean()) * (largest - largest.mean())).sum() / (steps - steps.mean()).square().sum()
        )
    assert 0.9 <= torch.stack(slopes).median().item() <= 1.3


def test_autocast_is_repeated() -> None:
    """Blocks that compute in bf16 under autocast are rebuilt exactly, with the backward outside autocast."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return gpt_loss(model, batch)

    model, batch = gpt(7, dropout=0.1), tokens()
    ours, errors = gradients(model, batch, "bdia", loss=loss)
    stored, _ = gradients(model, batch, "bdia-stored", loss=loss)
    assert len(errors.equal) == 7
    assert all(errors.equal.values())
    assert same(ours, stored)


def test_bf16_parameters_keep_an_fp32_stream() -> None:
    """A model whose parameters are bf16 is rebuilt exactly: the stream between its blocks stays fp32."""
    model, batch = gpt(7).to(torch.bfloat16), tokens()
    ours, errors = gradients(model, batch, "bdia")
    stored, _ = gradients(model, batch, "bdia-stored")
    assert {x.dtype for x in errors.forward.values()} == {torch.float32}
    assert all(errors.equal.values())
    assert same(ours, stored)


FREEZINGS = {
    "embeddings": ["wte", "wpe"],
    "lower half": ["wte", "wpe", "h.0.", "h.1.", "h.2."],
    "a block in the middle": ["h.3."],
    "all blocks": [".h."],
    "upper half": ["h.3.", "h.4.", "h.5.", "ln_f"],
}


@pytest.mark.parametrize("frozen", FREEZINGS)
def test_frozen_parameters_change_nothing(frozen: str) -> None:
    """Whatever is frozen, gradients are those of the stored twin, and all that autograd needs is rebuilt exactly."""
    model, batch = gpt(6), tokens()
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())  # untie, so that wte can be frozen
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(part in name for part in FREEZINGS[frozen]))
    ours, errors = gradients(model, batch, "bdia")
    stored, _ = gradients(model, batch, "bdia-stored")
    assert all(errors.equal.values())
    assert same(ours, stored)


def test_frozen_lower_blocks_cost_no_side_bits() -> None:
    """Side bits are kept only above the lowest block that the backward will reach."""
    model = gpt(6)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("h.4." in name or "h.5." in name)
    with bdia.attach(model, "bdia") as handle:
        gpt_loss(model, tokens())
        assert handle.side_bytes == 1 * -(-3 * 7 * 12 // 8)


class _Detour(nn.Module):
    """A stack in which autograd never asks for a block: its output is x plus a constant of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Residual(seed, silent=seed in (2, 3)) for seed in range(6))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class _Residual(nn.Module):
    def __init__(self, seed: int, silent: bool = False) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        torch.manual_seed(seed)
        nn.init.normal_(self.inner.weight)
        self.silent = silent

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x).sin()
        return x + (h.detach() if self.silent else h)


def test_blocks_that_autograd_skips_are_rerun_for_their_value() -> None:
    """A block that saves nothing does not break the chain below it."""
    torch.manual_seed(0)
    model, x = _Detour().train(), torch.randn(3, 5, 6)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch).square().sum()

    ours, errors = gradients(model, x, "bdia", loss=loss)
    stored, _ = gradients(model, x, "bdia-stored", loss=loss)
    assert errors.equal == dict.fromkeys(range(6), True)
    assert same(ours, stored)


def test_autograd_grad_and_two_forwards_before_a_backward() -> None:
    """Gradients flow through the graph: `autograd.grad` works, and two forwards may be open at once."""
    model, first, second = gpt(), tokens(seed=1), tokens(seed=2)
    parameters = list(model.parameters())
    results = {}
    for method in ("bdia", "bdia-stored"):
        with bdia.attach(model, method, seed=5):
            one, two = gpt_loss(model, first), gpt_loss(model, second)
            results[method] = torch.autograd.grad(one, parameters) + torch.autograd.grad(two, parameters)
    assert all(torch.equal(a, b) for a, b in zip(results["bdia"], results["bdia-stored"], strict=True))


def test_accumulated_gradients_are_equal() -> None:
    """Gradient accumulation over micro-steps gives the stored twin's sums."""
    model, results = gpt(), {}
    for method in ("bdia", "bdia-stored"):
        model.zero_grad()
        with bdia.attach(model, method, seed=5):
            for seed in range(3):
                gpt_loss(model, tokens(seed=seed)).backward()
        results[method] = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert same(results["bdia"], results["bdia-stored"])


class _Skipping(_Detour):
    """LayerDrop: some blocks are left out, and one runs twice."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        for index in self.order:
            x = self.blocks[index](x)
        return x


@pytest.mark.parametrize("order", [[0, 2, 5], [5, 0], [1, 1, 4, 1], [4], [0, 1, 2, 3, 4, 5, 0, 1, 2]])
def test_skipped_and_repeated_blocks_are_calls_like_any_other(order: list[int]) -> None:
    """The tape counts calls, not blocks."""
    model, x = _Skipping(order).train(), torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch).square().sum()

    ours, errors = gradients(model, x, "bdia", loss=loss)
    stored, _ = gradients(model, x, "bdia-stored", loss=loss)
    assert errors.equal == dict.fromkeys(range(len(order)), True)
    assert same(ours, stored)


def test_a_second_backward_says_so() -> None:
    """Going backward twice through one graph is an error that names the cure."""
    model = gpt()
    with bdia.attach(model, "bdia"):
        loss = gpt_loss(model, tokens())
        loss.backward(retain_graph=True)
        with pytest.raises(TapeError, match="second backward"):
            loss.backward()


class _Counting(_Residual):
    """Computes something else each time it runs."""

    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return super().forward(x) + 0.01 * self.runs


@pytest.mark.parametrize("place", [0, 1, 5])
def test_a_block_that_cannot_be_repeated_is_caught(place: int) -> None:
    """The checksum stops a backward whose activations are not those of the forward."""
    model = _Detour().train()
    model.blocks[place] = _Counting(0)
    x = torch.randn(3, 5, 6, requires_grad=True)
    with bdia.attach(model, "bdia", blocks=list(model.blocks)):
        loss = model(x).square().sum()
        with pytest.raises(ReconstructionError, match=rf"blocks\.{place} computed something else"):
            loss.backward()


def test_eval_between_forward_and_backward_is_caught() -> None:
    """A backward that would rerun the blocks without their dropout raises, and names what was switched."""
    model = gpt(dropout=0.2)
    with bdia.attach(model, "bdia"):
        loss = gpt_loss(model, tokens())
        model.eval()
        with pytest.raises(TapeError, match=r"h\.4 was switched between train\(\) and eval\(\)"):
            loss.backward()


def test_weights_changed_before_the_backward_are_caught() -> None:
    """An optimiser step between forward and backward raises, as it does without a method, however small its effect."""
    model = _Detour().train()
    with torch.no_grad():
        for block in model.blocks:
            block.inner.weight.mul_(1e-6)  # far below 2^-l: the rebuilt x would not show it
    with bdia.attach(model, "bdia"):
        loss = model(torch.randn(3, 5, 6)).square().sum()
        with torch.no_grad():
            model.blocks[4].inner.weight.mul_(-2)
        with pytest.raises(TapeError, match=r"parameter of blocks\.4"):
            loss.backward()


class _Faint(_Counting):
    """Computes something else each time, by less than 2^-l."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1e-5 * (super().forward(x) - x)


@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_difference_below_the_last_bit_is_caught(place: int) -> None:
    """What Q_l would round away from the rebuilt x is still seen in y."""
    model = _Detour().train()
    model.blocks[place] = _Faint(0)
    with bdia.attach(model, "bdia", blocks=list(model.blocks)):
        loss = model(torch.randn(3, 5, 6, requires_grad=True)).square().sum()
        with pytest.raises(ReconstructionError, match=rf"blocks\.{place} computed something else"):
            loss.backward()


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_an_outer_checkpoint_is_refused(use_reentrant: bool) -> None:
    """Running an attached model again inside a backward would draw other γ, and is an error."""
    model, x = _Detour().train(), torch.randn(3, 5, 6, requires_grad=True)
    with bdia.attach(model, "bdia"):
        loss = checkpoint(model, x, use_reentrant=use_reentrant).square().sum()
        with pytest.raises(TapeError, match="run again inside a backward"):
            loss.backward()


def test_running_statistics_are_updated_once() -> None:
    """Batch norm's buffers end as with stored activations: the rerun does not count."""

    class Normed(_Residual):
        def __init__(self, seed: int) -> None:
            super().__init__(seed)
            self.norm = nn.BatchNorm1d(5)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.norm(self.inner(x))

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch).square().sum()

    x, buffers, grads = torch.randn(4, 5, 6), {}, {}
    for method in ("bdia", "bdia-stored"):
        model = _Detour().train()
        model.blocks = nn.ModuleList(Normed(seed) for seed in range(4))
        grads[method], _ = gradients(model, x, method, loss=loss)
        buffers[method] = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert same(grads["bdia"], grads["bdia-stored"])
    assert same(buffers["bdia"], buffers["bdia-stored"])


def test_gradient_hooks_see_a_16_bit_model_too() -> None:
    """Between the blocks of a bf16 model, hooks on x and on blocks are called as in fp32, and what they do counts."""
    model, batch, seen = gpt(4).to(torch.bfloat16), tokens(), []
    for block in model.transformer.h:
        block.register_full_backward_hook(lambda module, given, grads: seen.append(given[0].dtype))
    ours, _ = gradients(model, batch, "bdia")
    assert seen == [torch.bfloat16] * 4
    model.transformer.h[2].register_full_backward_hook(lambda module, given, grads: (torch.zeros_like(given[0]),))
    cut, errors = gradients(model, batch, "bdia")
    stored, _ = gradients(model, batch, "bdia-stored")
    assert all(errors.equal.values())
    assert same(cut, stored)
    assert not same(cut, ours)


def test_frozen_blocks_with_trained_side_outputs() -> None:
    """A block whose x needs no gradient, but another of its outputs does, is rebuilt as well."""

    class Probed(_Residual):
        def __init__(self, seed: int) -> None:
            super().__init__(seed)
            self.inner.requires_grad_(False)
            self.probe = nn.Linear(6, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = super().forward(x)
            return y, self.probe(y.detach() if y.requires_grad else y).sum()

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Probed(seed) for seed in range(4))

        def forward(self, x: Tensor) -> Tensor:
            total = x.new_zeros(())
            for block in self.blocks:
                x, side = block(x)
                total = total + side
            return total

    torch.manual_seed(0)
    model, x = Loop().train(), torch.randn(3, 5, 6)
    ours, errors = gradients(model, x, "bdia", loss=lambda model, batch: model(batch))
    stored, _ = gradients(model, x, "bdia-stored", loss=lambda model, batch: model(batch))
    assert all(errors.equal.values())
    assert same(ours, stored)


def test_a_block_that_changes_its_own_x_is_refused() -> None:
    """The chain still needs the x that a block is given."""

    class InPlace(_Residual):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2))

    model = _Detour().train()
    model.blocks[2] = InPlace(2)
    with bdia.attach(model, "bdia-stored", blocks=list(model.blocks)), pytest.raises(TapeError, match="in place"):
        model(torch.randn(3, 5, 6))


def test_gradients_taken_inside_the_model_are_refused() -> None:
    """A backward before the forward has ended has nothing to start from, and says so."""

    class Force(_Detour):
        def forward(self, x: Tensor) -> Tensor:
            energy = super().forward(x).sum()
            return torch.autograd.grad(energy, x)[0]

    model = Force().train()
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match="before the forward of its model had ended"):
        model(torch.randn(3, 5, 6, requires_grad=True))


def test_an_empty_batch_passes() -> None:
    """No samples, no error."""
    model = _Detour().train()
    with bdia.attach(model, "bdia"):
        model(torch.randn(0, 5, 6)).sum().backward()


def test_a_float64_model_is_refused() -> None:
    """The stream would drop bits of it."""
    model = _Detour().double().train()
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match="float64"):
        model(torch.randn(3, 5, 6, dtype=torch.float64))


class _Meddling(_Detour):
    """Does something to x between two blocks."""

    def __init__(self, meddle: Any) -> None:
        super().__init__()
        self.meddle = meddle

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.blocks):
            x = self.meddle(x) if index == 3 else x
            x = block(x)
        return x


@pytest.mark.parametrize(
    ("meddle", "message"),
    [
        (lambda x: x + 1, "another x"),
        (lambda x: x.add_(1), "changed in place"),
        (lambda x: x.detach(), "detached"),
        (lambda x: x.detach().requires_grad_(), "detached"),
        (lambda x: x.bfloat16(), "another x"),
        (lambda x: x[:, :-1], "another x"),
        (lambda x: x.transpose(0, 1), "another x"),
    ],
)
def test_a_change_of_x_between_two_blocks_is_refused(meddle: Any, message: str) -> None:
    """Whatever comes between two blocks is an error that names the call, never a wrong gradient."""
    model = _Meddling(meddle).train()
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match=message) as caught:
        model(torch.randn(3, 5, 6))
    assert "call 3" in str(caught.value)


@pytest.mark.parametrize("method", ["bdia", "bdia-naive"])
def test_changing_the_last_output_inside_the_model_is_refused(method: str) -> None:
    """What the owner of the loop does in place after it is no different."""

    class Ending(_Detour):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).mul_(3)

    model = Ending().train()
    with bdia.attach(model, method):
        loss = model(torch.randn(3, 5, 6)).sum()
        with pytest.raises(TapeError, match="changed in place"):
            loss.backward()


def test_changing_the_last_output_in_place_is_refused() -> None:
    """The backward starts from the last x, and sees that it was changed."""
    model = _Detour().train()
    with bdia.attach(model, "bdia"):
        y = model(torch.randn(3, 5, 6))
        loss = (y * 3).sum()
        with torch.no_grad():
            y.add_(1)
        with pytest.raises(TapeError, match="changed in place"):
            loss.backward()


def test_the_exact_range_is_guarded() -> None:
    """A forward that outgrows fp32's exact multiples raises, naming block, max|x|, l and the l that would do."""
    model, batch = gpt(4), tokens()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(4000)
    with bdia.attach(model, "bdia", bits=14) as handle, pytest.raises(HeadroomError) as caught:
        gpt_loss(model, batch)
    error = caught.value
    assert handle.headroom is not None
    assert (error.bits, error.max_abs) == (14, handle.headroom.max_abs)
    assert error.largest_bits is not None
    assert f"use bits={error.largest_bits}" in str(error)
    _, errors = gradients(model, batch, "bdia", bits=error.largest_bits)
    assert all(errors.equal.values())


def test_beyond_the_exact_range_reconstruction_fails() -> None:
    """The guard is not idle: unguarded, the same forward is not rebuilt."""
    model, batch, errors = gpt(8), tokens(), Errors()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(4000)
    with bdia.attach(model, "bdia", bits=20) as handle, handle.unguarded(), handle.observing(errors):
        gpt_loss(model, batch).backward()
    assert not all(errors.equal.values())


def test_a_rule_without_inverse_cannot_be_reversed() -> None:
    """An impossible pair names the strategies that work."""
    impossible = Method("plain reversed", "bdia.updates:Euler", REVERSIBLE, "", reversible=True)
    with pytest.raises(MethodError, match="'stored' or 'checkpoint'"):
        bdia.attach(gpt(), impossible)


def test_every_method_has_a_stored_twin() -> None:
    """The twin keeps the rule and stores."""
    twin = get("bdia-naive").twin()
    assert (twin.rule, twin.reversible) == (BDIA, False)
    gradients(gpt(), tokens(), twin)


def test_a_discarded_forward_frees_its_tape() -> None:
    """Without a backward, nothing outlives the loss: there is no cycle through the graph."""
    model = gpt()
    gc.collect()
    gc.disable()
    try:
        with bdia.attach(model, "bdia") as handle:
            seen: list[weakref.ref[Tensor]] = []

            class Spy(Errors):
                def forwarded(self, call: int, x: Tensor) -> None:
                    seen.append(weakref.ref(x.untyped_storage()))

            with handle.observing(Spy()):
                loss = gpt_loss(model, tokens())
            assert any(reference() is not None for reference in seen)
            del loss
    finally:
        gc.enable()
    assert len(seen) == 5
    assert all(reference() is None for reference in seen)


def test_no_stream_outlives_its_block() -> None:
    """While the forward runs, only the last two states are alive."""
    model, alive = gpt(8), []

    class Spy(Errors):
        storages: list[weakref.ref[Any]] = []  # noqa: RUF012

        def forwarded(self, call: int, x: Tensor) -> None:
            self.storages.append(weakref.ref(x.untyped_storage()))
            alive.append(sum(reference() is not None for reference in self.storages))

    with bdia.attach(model, "bdia") as handle, handle.observing(Spy()):
        gpt_loss(model, tokens())
    assert max(alive) == 2


class _Probing(_Residual):
    """Keeps what it trains on an attribute, and returns nothing that needs a gradient."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.inner.requires_grad_(False)
        self.probe = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.loss = self.probe(y.detach()).square().mean()
        return y


def test_what_is_trained_beside_a_block_that_returns_no_graph_is_refused() -> None:
    """A probe on frozen blocks asks for activations that nobody kept side bits for: an error, not a wrong gradient."""
    model = _Detour().train()
    model.blocks = nn.ModuleList(_Probing(seed) for seed in range(4))
    with bdia.attach(model, "bdia"):
        model(torch.randn(3, 5, 6))
        with pytest.raises(TapeError, match="returned nothing that requires a gradient"):
            sum(block.loss for block in model.blocks).backward()


class _Resting(_Residual):
    """Saves nothing: it returns its x."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_a_fault_is_seen_though_the_lowest_block_saves_nothing() -> None:
    """Where autograd never asks for the lowest block, the checks are settled when the backward ends."""
    model = _Detour().train()
    model.blocks[0], model.blocks[2] = _Resting(0), _Counting(0)
    with bdia.attach(model, "bdia", blocks=list(model.blocks)):
        loss = model(torch.randn(3, 5, 6, requires_grad=True)).square().sum()
        with pytest.raises(ReconstructionError, match=r"blocks\.2 computed something else"):
            loss.backward()


def test_a_backward_that_stops_above_the_lowest_block_is_checked() -> None:
    """Gradients of the upper blocks alone are right, and a fault among what was rebuilt for them is seen."""
    model, x, grads = _Detour().train(), torch.randn(3, 5, 6), []
    for method in ("bdia", "bdia-stored"):
        model.zero_grad()
        with bdia.attach(model, method, seed=0):
            loss = model(x).square().sum()
            loss.backward(inputs=list(model.blocks[4:].parameters()))
        grads.append([parameter.grad.clone() for parameter in model.blocks[4:].parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))
    model.blocks[5] = _Counting(5)
    with bdia.attach(model, "bdia", blocks=list(model.blocks)):
        loss = model(x).square().sum()
        with pytest.raises(ReconstructionError, match=r"blocks\.5 computed something else"):
            loss.backward(inputs=list(model.blocks[4:].parameters()))


class _Shuffling(_Residual):
    """Gives back the samples in another order the second time."""

    again = False

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.again, flip = True, self.again
        return y.flip(0) if flip else y


def test_samples_that_trade_places_are_caught() -> None:
    """The checksum goes by place, not only by what there is."""
    model = _Detour().train()
    model.blocks[0] = _Shuffling(0)
    with bdia.attach(model, "bdia", blocks=list(model.blocks)):
        loss = model(torch.randn(3, 5, 6, requires_grad=True)).square().sum()
        with pytest.raises(ReconstructionError, match=r"blocks\.0 computed something else"):
            loss.backward()


def test_a_loss_left_on_an_attribute_is_the_first_runs() -> None:
    """A rerun does not replace what a block left on itself, whose graph would hold all its activations."""

    class Leaving(_Residual):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            self.left = y.square().mean()
            return y

    model = _Detour().train()
    model.blocks = nn.ModuleList(Leaving(seed) for seed in range(4))
    with bdia.attach(model, "bdia"):
        loss = model(torch.randn(3, 5, 6)).sum()
        left = [block.left for block in model.blocks]
        (loss + sum(left)).backward()
    assert all(block.left is before for block, before in zip(model.blocks, left, strict=True))


def test_a_watcher_sees_what_a_forward_makes_and_keeps() -> None:
    """Each state is shown as its step leaves it and again as the next block gets it; side bits are shown as packed."""
    model = gpt(4)

    class Spy(Watcher):
        def __init__(self) -> None:
            self.seen: list[str] = []
            self.kept_bytes = 0
            self.last: Tensor | None = None

        def forwarded(self, call: int, x: Tensor) -> None:
            self.seen.append(f"forwarded {call}")
            assert self.last is None or x.data_ptr() == self.last.data_ptr()

        def returned(self, call: int, x: Tensor) -> None:
            self.seen.append(f"returned {call}")
            self.last = x

        def kept(self, call: int, part: str, held: Tensor) -> None:
            self.seen.append(f"{part} {call}")
            self.kept_bytes += held.nbytes

        def rebuilt(self, call: int, x: Tensor, index: Index) -> None:
            self.seen.append(f"rebuilt {call}")

    spy = Spy()
    with bdia.attach(model, "bdia") as handle, handle.observing(spy):
        gpt_loss(model, tokens()).backward()
        assert spy.kept_bytes == handle.side_bytes
    steps = [[f"forwarded {k}", *([f"side_bits {k}"] if k else []), f"returned {k}"] for k in range(4)]
    assert spy.seen == [*(event for step in steps for event in step), *(f"rebuilt {k}" for k in reversed(range(4)))]
