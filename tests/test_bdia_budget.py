"""A budget in bytes: the dial set to the least recomputation whose blocks hold no more."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import gpt, gpt_loss, same, tokens
from torch import Tensor, nn
from zoo import ZOO, Specimen, loss_of, specimen

import bdia
from bdia import budget, sizes
from bdia.budget import choose
from bdia.dial import Dial
from bdia.errors import AttachError, BudgetError, MethodError, TapeError
from bdia.live import LiveBytes

MIB = 2**20


def dials(samples: int, blocks: int) -> list[Dial]:
    """From the least recomputation to the most: few parts first, and then many kept graphs."""
    parts = [m for m in range(1, samples + 1) if m == 1 or -(-samples // m) < -(-samples // (m - 1))]
    return [Dial(keep, m) for m in parts for keep in range(blocks, -1, -1) if keep < blocks or m == 1]


def affine(each: int, part: int, kept: int, constant: int, blocks: int) -> Any:
    """What blocks hold that store `kept` bytes a sample and block where their graph is kept."""

    def held(samples: int, dial: Dial) -> float:
        working = 0 if dial.keep == blocks else part * -(-samples // dial.micro_batches)
        return constant + samples * each + max(working, samples * kept * dial.keep)

    return held


@settings(max_examples=300, deadline=None)
@given(
    samples=st.integers(1, 40), blocks=st.integers(1, 30), each=st.integers(1, 50), part=st.integers(1, 300),
    kept=st.integers(1, 300), constant=st.integers(0, 20), share=st.floats(0.01, 1.2),
)  # fmt: skip
def test_what_recomputes_least_of_all_that_fits_is_chosen(
    samples: int, blocks: int, each: int, part: int, kept: int, constant: int, share: float
) -> None:
    """Against trying every dial, for blocks whose bytes are affine in the samples."""
    held = affine(each, part, kept, constant, blocks)
    limit = max(1, int(share * held(samples, Dial(blocks))))
    best = next((dial for dial in dials(samples, blocks) if held(samples, dial) <= limit), None)
    if best is None:
        with pytest.raises(BudgetError) as caught:
            choose(held, samples=samples, blocks=blocks, limit=limit)
        assert caught.value.needed is not None
        assert caught.value.needed > limit
    else:
        plan = choose(held, samples=samples, blocks=blocks, limit=limit)
        assert plan.dial.micro_batches == best.micro_batches
        assert plan.dial.keep == best.keep
        assert plan.nbytes == held(samples, best) <= limit


@pytest.mark.parametrize("room", [1, 3, 7])
def test_where_memory_runs_out_the_dial_stands_below(room: int) -> None:
    """A trial that runs out of memory has not fitted; what fits is found all the same."""

    def held(samples: int, dial: Dial) -> float:
        return math.inf if dial.keep * samples > room * 8 else 10 * samples + 5 * dial.keep

    plan = choose(held, samples=8, blocks=12, limit=10**6)
    assert plan.dial == Dial(room)


def test_few_steps_are_tried() -> None:
    """Of 48 blocks and 64 samples, at most eight steps are of the full batch."""
    held, tried = affine(10, 400, 300, 5, 48), list[int]()

    def counting(samples: int, dial: Dial) -> float:
        tried.append(samples)
        return held(samples, dial)

    for limit in (3_000, 9_000, 50_000, 300_000):
        tried.clear()
        choose(counting, samples=64, blocks=48, limit=limit)
        assert sum(samples == 64 for samples in tried) <= 8
        assert sum(samples for samples in tried if samples < 64) <= 24


BUDGETS = ["150KiB", "60KiB", "40KiB", "24KiB"]


@pytest.mark.parametrize("method", ["bdia", "checkpoint", "momentum", "leapfrog-exact", "checkpoint-segments"])
@pytest.mark.parametrize("size", BUDGETS)
def test_a_real_chain_is_held_to_its_budget(method: str, size: str) -> None:
    """Counted over whole steps, trials of every dial: none that recomputes less would have fitted."""
    limit = budget.parse(size)
    counted = {dial: held_by(method, dial) for dial in dials(6, 5)}
    best = next((dial for dial in counted if counted[dial] <= limit), None)
    model, batch = gpt(), tokens(6)
    with bdia.attach(model, method, seed=0, budget=size) as handle:
        assert handle.plan is None
        if best is None:
            with pytest.raises(BudgetError, match="at the least, with 6 samples"):
                gpt_loss(model, batch)
            return
        gpt_loss(model, batch).backward()
        assert handle.plan is not None
        assert handle.dial == handle.plan.dial == best
        assert handle.plan.nbytes <= limit
        assert handle.plan.samples == 6


def held_by(method: str, dial: Dial) -> int:
    """The most bytes alive in a step of the blocks alone: forward and backward of the chain, no gradients of
    weights."""
    model, stream = gpt(), torch.randn(6, 7, 12, requires_grad=True)
    stack = Stack(model.transformer.h)
    with bdia.attach(stack, method, seed=0, keep=dial.keep, micro_batches=dial.micro_batches) as handle:
        live = LiveBytes()
        with handle.unguarded(), live:
            y = stack(stream.clone())
            torch.autograd.backward(y, torch.ones_like(y), inputs=[stream])
    return live.peak


class Stack(nn.Module):
    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        return run(self, x)


def run(stack: Any, x: Tensor) -> Tensor:
    for block in stack.blocks:
        x = block(x)
    return x


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("size", BUDGETS[:3])
def test_training_sees_nothing_of_the_trials(size: str, dropout: float) -> None:
    """Gradients, the loss, generators and γ are those of the same dial set by hand, bit for bit."""
    results = []
    plan = None
    for by_budget in (True, False):
        model, batch = gpt(dropout=dropout), tokens(6)
        options: dict[str, Any] = {"budget": size}
        if not by_budget:
            assert plan is not None
            options = {"keep": plan.dial.keep, "micro_batches": plan.dial.micro_batches}
        torch.manual_seed(5)
        with bdia.attach(model, seed=3, **options) as handle:
            losses = []
            for _ in range(3):
                loss = gpt_loss(model, batch)
                loss.backward()
                losses.append(loss.item())
            results.append((losses, {name: p.grad for name, p in model.named_parameters()}, torch.rand(3), handle))
            plan = handle.plan if by_budget else plan
    (losses, ours, drawn, handle), (expected, reference, drawn_then, other) = results
    assert losses == expected
    assert same(ours, reference)
    assert torch.equal(drawn, drawn_then)
    assert handle.state_dict() == other.state_dict()


def test_statistics_and_counters_are_not_moved() -> None:
    """Buffers that blocks update are as they would be with the same dial set by hand."""
    found = []
    for options in ({"budget": "1MiB"}, {"keep": 3}):
        model = Counting()
        with bdia.attach(model, "checkpoint", **options):
            model(torch.randn(4, 3, 6)).sum().backward()
        found.append([int(block.ran) for block in model.blocks])
    assert found[0] == found[1]


class Counting(nn.Module):
    """Blocks that count their runs, as a batch norm does."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CountingBlock() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return run(self, x)


class CountingBlock(nn.Module):
    ran: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.register_buffer("ran", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.ran += 1
        return x + self.inner(x).tanh()


def test_a_larger_batch_is_planned_for_anew() -> None:
    """A smaller one goes by the plan there is, and so does evaluation, which makes none."""
    model = gpt()
    with bdia.attach(model, budget="60KiB") as handle:
        model.eval()
        gpt_loss(model, tokens(6))
        model.train()
        with torch.no_grad():
            gpt_loss(model, tokens(6))
        assert handle.plan is None
        gpt_loss(model, tokens(4)).backward()
        first = handle.plan
        assert first is not None
        assert first.samples == 4
        gpt_loss(model, tokens(2)).backward()
        assert handle.plan is first
        gpt_loss(model, tokens(9)).backward()
        assert handle.plan is not None
        assert handle.plan.samples == 9
        assert handle.plan.nbytes <= handle.plan.limit == 60 * 1024
        recomputed = handle.dial.micro_batches, -handle.dial.keep
        assert recomputed > (first.dial.micro_batches, -first.dial.keep)


class Scoring(nn.Module):
    """What it holds grows with the square of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.turn(x) @ x.mT).softmax(-1) @ x


@pytest.mark.parametrize("shapes", [((32, 4, 8), (2, 64, 8)), ((2, 64, 8), (32, 4, 8)), ((8, 4, 8), (3, 40, 8))])
def test_a_longer_side_is_planned_for_anew(shapes: tuple[tuple[int, int, int], ...]) -> None:
    """As many elements as before may take more; and whichever comes next, the blocks stay within the budget."""
    torch.manual_seed(0)
    limit = 180 * 1024
    stack = Stack(nn.ModuleList(Scoring() for _ in range(4)))
    with bdia.attach(stack, budget=limit) as handle:
        plans = []
        for shape in (*shapes, *shapes):
            stream = torch.randn(*shape, requires_grad=True)
            for tried in (False, True):
                live = LiveBytes()
                with live:
                    y = stack(stream.clone())
                    torch.autograd.backward(y, torch.ones_like(y), inputs=[stream])
                if tried:  # and no more for it
                    assert live.peak <= limit
            plans.append(handle.plan)
    assert plans[0] is not plans[1] is plans[2] is plans[3]


@pytest.mark.parametrize("method", ["bdia", "checkpoint", "bdia-naive"])
@pytest.mark.parametrize("batch", [3, 8, 16])
def test_to_the_byte_what_is_said_to_be_needed_is_enough(method: str, batch: int) -> None:
    """The error's figure was counted, of single samples, and not guessed."""
    torch.manual_seed(0)
    stack = Stack(nn.ModuleList(Mlp() for _ in range(6)))
    x = torch.randn(batch, 7, 12)
    with bdia.attach(stack, method, budget=4096), pytest.raises(BudgetError) as caught:
        stack(x)
    assert caught.value.needed is not None
    with bdia.attach(stack, method, budget=caught.value.needed) as handle:
        stack(x)
        assert handle.plan is not None
        assert handle.plan.nbytes <= caught.value.needed


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 48), nn.GELU(), nn.Linear(48, 12))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def test_what_is_said_to_be_needed_does() -> None:
    """The error's figure, with a hundredth on top, is enough."""
    model, batch = gpt(), tokens(8)
    with bdia.attach(model, budget=4096), pytest.raises(BudgetError) as caught:
        gpt_loss(model, batch)
    assert caught.value.limit == 4096
    assert caught.value.needed is not None
    with bdia.attach(model, budget=int(caught.value.needed * 1.01)) as handle:
        gpt_loss(model, batch).backward()
        assert handle.dial == Dial(0, 8)


REFUSED = {
    "bloom": r"transformer.h.0 does not run .*RuntimeError",
    "albert": "calls its 1 blocks 5 times in a forward",
    **dict.fromkeys(
        ("swin", "convnext", "clip", "bart", "marian", "t5", "whisper", "nn.transformer"), "2 chains of blocks"
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_cannot_be_planned_for_are_refused(name: str) -> None:
    """With a reason, and before a backward."""
    found = specimen(name)
    model, batch = found.model(), found.batch()
    with pytest.raises((AttachError, BudgetError), match=REFUSED[name]), bdia.attach(model, budget="10GiB"):
        loss_of(model, batch)


@pytest.mark.parametrize("found", [each for each in ZOO if each.name not in REFUSED], ids=str)
def test_models_of_others_are_planned_for(found: Specimen) -> None:
    """Masks, caches and a batch along the second dimension are cut for the trials as x is."""
    model, batch = found.model(), found.batch()
    with bdia.attach(model, budget="10GiB") as handle:
        loss_of(model, batch).backward()
        assert handle.plan is not None
        assert handle.plan.dial.micro_batches == 1
        assert handle.plan.dial.keep == len(handle.chains[0])
        held = handle.plan.nbytes
    with bdia.attach(model, budget=held - 1) as handle:
        loss_of(model, batch).backward()
        assert handle.plan is not None
        assert handle.plan.nbytes < held


def test_copies_and_pickles_plan_for_themselves() -> None:
    """A copy of an attached model holds its own blocks to the budget."""
    model, batch = gpt(), tokens(6)
    with bdia.attach(model, seed=1, budget="60KiB"):
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            gpt_loss(twin, batch).backward()
            assert twin.transformer.h[0].attn.c_attn.weight.grad is not None
            assert all(p.grad is None for p in model.parameters())
        gpt_loss(model, batch).backward()


@pytest.mark.parametrize("bad", ["8GB", "8", "-1GiB", "0MiB", "", 0, -5, 1.5, True])
def test_what_is_no_size_is_refused(bad: Any) -> None:
    """Before the model is touched, with the value and what was expected."""
    with pytest.raises(MethodError, match="expected a size such as '8GiB'"):
        bdia.attach(gpt(), budget=bad)


def test_a_budget_stands_alone() -> None:
    """Beside what it sets, and for what stores everything, it is refused."""
    with pytest.raises(MethodError, match="it sets keep and micro_batches"):
        bdia.attach(gpt(), budget="1GiB", keep=1)
    with pytest.raises(MethodError, match="standard runs nothing again"):
        bdia.attach(gpt(), "standard", budget="1GiB")


class Picky(CountingBlock):
    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        if bias is None:
            raise ValueError("a bias is needed")
        return super().forward(x) + bias


class PickyLast(Counting):
    def __init__(self) -> None:
        super().__init__()
        self.blocks[2] = Picky()

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[1](self.blocks[0](x))
        return self.blocks[2](x, torch.ones(6))


def test_blocks_that_take_what_the_first_does_not_are_named() -> None:
    """They cannot be tried on what the first was given."""
    model = PickyLast()
    with (
        bdia.attach(model, "checkpoint", budget="1GiB", blocks=model.blocks),
        pytest.raises(BudgetError, match=r"blocks.2 does not run .*a bias is needed.*set keep and micro_batches"),
    ):
        model(torch.randn(4, 3, 6))


def test_a_batch_that_blocks_normalise_over_is_not_cut() -> None:
    """Graphs are kept or not; where that is not enough there is no other way."""
    model = Counting()
    for block in model.blocks:
        block.norm = nn.BatchNorm1d(6)
    x = torch.randn(8, 3, 6)
    with bdia.attach(model, "checkpoint", budget="1GiB") as handle:
        model(x).sum().backward()
        assert handle.dial == Dial(3)
    with bdia.attach(model, "checkpoint", budget="1KiB"), pytest.raises(BudgetError, match="with 8 samples;"):
        model(x)


class Scaled(CountingBlock):
    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        return super().forward(x) if scale is None else super().forward(x) * scale


class ScaledBySomething(Counting):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Scaled() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, torch.ones(6))
        return x


def test_ambiguous_rows_are_refused() -> None:
    """An argument that may or may not have a row for each sample cannot be cut for a trial."""
    model = ScaledBySomething()
    with bdia.attach(model, budget="1GiB") as handle:
        model(torch.randn(5, 3, 6)).sum().backward()
        assert handle.plan is not None
    with bdia.attach(model, budget="1GiB"), pytest.raises(TapeError, match="cannot tell whether its 6 rows"):
        model(torch.randn(6, 3, 6))


@pytest.mark.parametrize(
    ("text", "nbytes"), [("8GiB", 8 * 2**30), ("1.5 MiB", 3 * 2**19), ("1KiB", 1024), ("2TiB", 2 * 2**40)]
)
def test_sizes_are_read_as_people_write_them(text: str, nbytes: int) -> None:
    """Binary units, whole numbers and decimals, with a space or without."""
    assert sizes.parse(text) == nbytes


@pytest.mark.parametrize(
    ("nbytes", "text"), [(100, "0.10 KiB"), (1536, "1.50 KiB"), (12 * MIB, "12.0 MiB"), (2**33, "8.00 GiB")]
)
def test_sizes_are_written_in_their_unit(nbytes: int, text: str) -> None:
    """With three digits or so."""
    assert sizes.text(nbytes) == text


def test_only_what_is_made_inside_is_counted_while_it_lives() -> None:
    """Views and in-place operations take nothing; what is freed no longer counts; a backward counts as a forward
    does."""
    outside = torch.randn(256, requires_grad=True)
    live = LiveBytes()
    with live:
        view = outside.view(16, 16).t()
        assert live.peak == 0
        first = view.exp()  # 1 KiB, saved for its backward
        assert live.peak == 1024
        second = first.detach().neg().neg_().t()
        assert live.peak == 2048
        del second
        (first * 1.0).sum().backward()
    assert 3 * 1024 <= live.peak <= 4 * 1024 + 64
