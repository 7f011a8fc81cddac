"""The dial: blocks that keep their graph, and batches cut into parts inside each block."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from networks import Errors, gpt, gpt_loss, same, tokens, trained
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from zoo import ZOO, Specimen, loss_of, specimen

import bdia
from bdia.errors import AttachError, MethodError, ReconstructionError, TapeError

STRATEGIES = {"bdia-stored": "bdia", "standard": "checkpoint"}


def gradients(
    model: nn.Module, batch: Any, method: str, *, train_seed: int = 3, loss: Any = gpt_loss, **options: Any
) -> tuple[dict[str, Tensor | None], Errors, float]:
    """One forward and backward: all gradients, how x was rebuilt, and the loss."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(train_seed)
    errors = Errors()
    with bdia.attach(model, method, seed=train_seed, **options) as handle, handle.observing(errors):
        value = loss(model, batch)
        value.backward()
    return {name: p.grad for name, p in model.named_parameters()}, errors, value.item()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("keep", [0, 1, 3, 5])
@pytest.mark.parametrize("micro_batches", [1, 2, 3, 8])
@pytest.mark.parametrize("stored", STRATEGIES)
def test_wherever_the_dial_stands_gradients_are_those_of_stored_activations(
    stored: str, micro_batches: int, keep: int, dropout: float, seed: int
) -> None:
    """Batch 5 in 1, 2 and 3 parts and one sample each; dropout draws alike; every rebuilt x is the forward's."""
    model, batch = gpt(dropout=dropout, seed=seed), tokens(5, seed=seed)
    with trained(model, batch, 2):
        cut = {"micro_batches": micro_batches, "train_seed": seed}
        reference, _, loss = gradients(model, batch, stored, **cut)
        ours, errors, our_loss = gradients(model, batch, STRATEGIES[stored], keep=keep, **cut)
        assert our_loss == loss
        assert same(ours, reference)
        assert all(errors.equal.values())
        if stored == "bdia-stored":
            assert sorted(errors.equal) == list(range(5 - keep))


def test_the_blocks_kept_are_not_rerun() -> None:
    """A block's forward runs once where it is kept, twice where not, and once more for each part of a batch."""
    model, batch = gpt(), tokens(4)
    runs = dict.fromkeys(range(5), 0)
    for number, block in enumerate(model.transformer.h):
        block.mlp.register_forward_hook(lambda *_, number=number: runs.__setitem__(number, runs[number] + 1))
    gradients(model, batch, "bdia", keep=2)
    assert list(runs.values()) == [2, 2, 2, 1, 1]
    runs.update(dict.fromkeys(range(5), 0))
    gradients(model, batch, "bdia", keep=2, micro_batches=4)
    assert list(runs.values()) == [8, 8, 8, 4, 4]


UNCUT = {"bloom": "its bias of positions has rows for every head of every sample"}
"""Architectures whose blocks fail on a part of a batch, and say so in their own words."""


@pytest.mark.parametrize("found", [each for each in ZOO if each.name not in UNCUT], ids=str)
def test_any_architecture_is_cut_and_rebuilt(found: Specimen) -> None:
    """Masks, positions, cross-attention and samples along the second dimension go with their part of the batch."""
    model, batch = found.model(), found.batch()
    reference, _, _ = gradients(model, batch, "bdia-stored", loss=loss_of, micro_batches=2)
    ours, errors, _ = gradients(model, batch, "bdia", loss=loss_of, micro_batches=2)
    assert same(ours, reference)
    assert all(errors.equal.values())
    assert errors.equal


@pytest.mark.parametrize("found", [each for each in ZOO if each.name not in UNCUT], ids=str)
def test_cutting_a_batch_changes_nothing_but_rounding(found: Specimen) -> None:
    """Without dropout, the plain model's loss is that of whole batches: nothing is cut that is shared, or shared that
    is cut."""
    model, batch = found.model(), found.batch()
    for attention in model.modules():
        if isinstance(attention, nn.MultiheadAttention):
            attention.dropout = 0.0
    losses = []
    for parts in (1, 2):
        with Undropped(), torch.no_grad(), bdia.attach(model, "standard", micro_batches=parts):
            losses.append(loss_of(model, batch).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


class Undropped(TorchFunctionMode):
    """Dropout drops nothing, drop path and LayerDrop keep all: their draws differ from part to part."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (nn.functional.dropout, torch.dropout):
            return args[0] if args else kwargs["input"]
        if function is nn.functional.scaled_dot_product_attention:
            kwargs = kwargs | {"dropout_p": 0.0}
        drawn = function(*args, **kwargs)
        return torch.full_like(drawn, 0.999) if function is torch.rand else drawn


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_of_two_chains_the_later_keeps_first(name: str) -> None:
    """The decoder's backward comes first, so its blocks are the last of all."""
    found = specimen(name)
    model, batch = found.model(), found.batch()
    whole, errors, _ = gradients(model, batch, "bdia", loss=loss_of)
    calls = len(errors.equal)
    ours, errors, _ = gradients(model, batch, "bdia", loss=loss_of, keep=calls // 2 + 1)
    assert sorted(errors.equal) == list(range(calls - calls // 2 - 1))
    assert same(ours, whole)


def test_a_part_computes_what_its_samples_alone_would() -> None:
    """The stream of a batch cut in two is that of its halves put together, bit for bit."""
    model, (text, targets) = gpt(), tokens(4)
    streams = []
    for samples in (slice(0, 2), slice(2, 4), slice(None)):
        errors, parts = Errors(), 2 if samples == slice(None) else 1
        with bdia.attach(model, "standard", micro_batches=parts) as handle, handle.observing(errors):
            gpt_loss(model, (text[samples], targets[samples]))
        streams.append(errors.forward)
    for call, whole in streams[2].items():
        assert torch.equal(whole, torch.cat([streams[0][call], streams[1][call]]))


@pytest.mark.parametrize(("value", "said"), [(0, "micro_batches=0"), (True, "micro_batches=True"), (2.0, "=2.0")])
def test_a_number_of_parts_that_is_none_is_refused(value: object, said: str) -> None:
    with pytest.raises(MethodError, match=said):
        bdia.attach(gpt(), "bdia", micro_batches=value)  # type: ignore[arg-type]


def test_no_more_blocks_are_kept_than_there_are() -> None:
    with pytest.raises(MethodError, match="keep=6: there are 5 blocks; keep at most as many"):
        bdia.attach(gpt(), "bdia", keep=6)
    with pytest.raises(MethodError, match="keep=-1"):
        bdia.attach(gpt(), "bdia", keep=-1)


class Odd(nn.Module):
    """A model of one block, to be given whatever it is called with beside x."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([block])

    def forward(self, x: Tensor, *others: Any) -> Any:
        for block in self.blocks:
            x = block(x, *others)
        return x


class Scalar(nn.Module):
    """A block that returns a loss of its own beside x."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        h = self.inner(x)
        return x + h, h.square().mean()


class Adding(Scalar):
    """A block that adds an argument."""

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        return x + self.inner(x) + others[0]


class Writing(Scalar):
    """A block that writes into a list it is given."""

    def forward(self, x: Tensor, *others: Any) -> Any:
        others[0].append(x)
        return x + self.inner(x)


class Normalising(nn.Module):
    """A block that takes statistics over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(x)


def test_what_cannot_be_cut_or_put_together_is_refused_and_nothing_guessed() -> None:
    """A loss of each part, a tensor that may or may not hold samples, a list written into, statistics over a batch."""
    x, square = torch.randn(4, 5, 6), torch.randn(5, 5, 6)
    tried: list[tuple[nn.Module, tuple[Any, ...], str]] = [
        (Scalar(), (x,), r"returns a tensor of shape \(\) beside x"),
        (Writing(), (x, []), "writes tensors into what it is called with"),
        (Adding(), (square, torch.randn(5, 6)), "cannot tell whether its 5 rows are samples"),
    ]
    for block, arguments, said in tried:
        model = Odd(block)
        with bdia.attach(model, "checkpoint", micro_batches=2), pytest.raises(TapeError, match=said):
            model(*arguments)
    with pytest.raises(AttachError, match=r"blocks\.0\.norm is a BatchNorm1d"):
        bdia.attach(Odd(Normalising()), "bdia", micro_batches=2)
    bdia.attach(Odd(Normalising()), "bdia").detach()


def test_arguments_with_rows_for_samples_are_cut_and_others_shared() -> None:
    """[B, 1, D] goes with its samples, [1, T, D] and a parameter of B rows to every part."""
    torch.manual_seed(0)
    x = torch.randn(4, 5, 6)
    for other in (torch.randn(4, 1, 6), torch.randn(1, 5, 6), nn.Parameter(torch.randn(5, 6)), torch.randn(())):
        model = Odd(Adding())
        whole = model(x, other)
        with bdia.attach(model, "checkpoint", micro_batches=3):
            assert torch.allclose(model(x, other), whole)


def test_a_batch_of_fewer_samples_than_parts_is_cut_into_single_ones() -> None:
    """The last batch of an epoch may be small; one sample is not cut at all."""
    model = gpt()
    for batch in (1, 2):
        reference, _, _ = gradients(model, tokens(batch), "bdia-stored", micro_batches=4)
        ours, errors, _ = gradients(model, tokens(batch), "bdia", micro_batches=4)
        assert same(ours, reference)
        assert all(errors.equal.values())


@pytest.mark.parametrize("options", [{"verify": True}, {"on_overflow": "store", "bits": 22}, {"gamma": 0.25}])
def test_the_dial_goes_with_what_else_can_be_asked(options: dict[str, Any]) -> None:
    """Verification, states stored beyond the exact range, several side bits an element."""
    model, batch = gpt(), tokens(4)
    reference, _, _ = gradients(model, batch, "bdia-stored", micro_batches=2, **_without_verify(options))
    ours, _, _ = gradients(model, batch, "bdia", micro_batches=2, keep=1, **options)
    assert same(ours, reference)


def test_verify_names_the_samples_of_a_part() -> None:
    """What differs is said to be in the block, and in which samples."""
    model, batch = gpt(), tokens(4)
    with bdia.attach(model, "bdia", micro_batches=2, verify=True, seed=0):
        loss = gpt_loss(model, batch)
        model.transformer.h[2].mlp.c_fc.weight.data.add_(0.01)
        with pytest.raises(ReconstructionError, match=r"transformer\.h\.2, samples 2-3 .*: y"):
            loss.backward()


@pytest.mark.parametrize("method", ["bdia", "checkpoint"])
def test_side_bits_are_of_the_blocks_that_are_rebuilt(method: str) -> None:
    """A kept block needs none, and the parts of a batch have as many together as the whole."""
    model, batch = gpt(), tokens(4)
    held = {}
    for keep, parts in ((0, 1), (0, 2), (2, 1), (5, 1)):
        with bdia.attach(model, method, keep=keep, micro_batches=parts) as handle:
            gpt_loss(model, batch)
            held[keep, parts] = handle.side_bytes
    elements = 4 * 7 * 12
    each = elements // 8 if method == "bdia" else 0
    assert held == {(0, 1): 4 * each, (0, 2): 4 * each, (2, 1): 2 * each, (5, 1): 0}


def test_copies_and_pickles_turn_the_same_dial() -> None:
    """An EMA copy of an attached model, and one that went through pickle, train as the original."""
    model, batch = gpt(), tokens(4)
    with bdia.attach(model, "bdia", micro_batches=2, keep=1, seed=0):
        twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        results = []
        for each in (model, *twins):
            each.zero_grad()
            gpt_loss(each, batch).backward()
            results.append({name: p.grad for name, p in each.named_parameters()})
    assert same(results[0], results[1])
    assert same(results[0], results[2])


def test_without_gradients_and_in_eval_mode_nothing_is_kept() -> None:
    """A training forward under no_grad computes the same function; eval mode is the plain model, uncut."""
    model, batch = gpt(), tokens(4)
    plain = gpt_loss(model.eval(), batch)
    model.train()
    with bdia.attach(model, "bdia", micro_batches=2, keep=2, seed=0) as handle:
        trained_loss = gpt_loss(model, batch).item()
        handle.load_state_dict({"seed": 0, "forwards": 0})
        with torch.no_grad():
            assert gpt_loss(model, batch).item() == trained_loss
        assert torch.equal(gpt_loss(model.eval(), batch), plain)


def _without_verify(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "verify"}
