"""The libraries of others as methods: on the same work, in the same tables, and gone without a trace afterwards."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from measuring import measured
from networks import gpt, gpt_loss, tokens
from torch import Tensor, nn

import bdia
import bench
from bdia.blocks import find_chains
from bdia.errors import MethodError
from bdia.methods import STORED
from bdia.models.gpt import GPT
from bdia.models.vit import ViT, ViTConfig
from bench import parts, peers, resolve
from bench.case import MEASUREMENTS, Case, Plan
from bench.errors import UnsupportedError, UsageError
from bench.examination import plan as to_examine
from bench.fingerprint import of as fingerprint_of
from bench.meters import MeterError
from bench.meters.gradients import measure_gradients
from bench.meters.memory import MemoryReading, measure_memory
from bench.meters.reconstruction import measure_reconstruction
from bench.peers import Library, Peer
from bench.peers.handle import PeerHandle, attach
from bench.suite import read
from bench.workload import Workload

LIBRARIES = tuple(peer.name for peer in peers.PEERS if not peer.switch)
TWO_STREAM = tuple(peer.name for peer in peers.PEERS if peer.in_pairs)
FORGETFUL = ("peer-revtorch", "peer-memcnn", "peer-momentumnet")
"""Their backward draws another dropout than their forward."""
ROUNDED = 1e-5
"""A gradient error that rounding explains."""


def peer_of(name: str) -> Peer:
    """The peer of that name; the test is skipped where its library is not installed."""
    peer = peers.get(name)
    assert peer is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of decorators that memcnn takes from where they no longer are
        pytest.importorskip(peer.library.module)
    return peer


def vit(depth: int = 4) -> ViT:
    """A small ViT with dropout, in training mode."""
    torch.manual_seed(0)
    return ViT(ViTConfig(classes=5, width=12, depth=depth, heads=3, head_width=4, mlp_width=20, dropout=0.2))


def images() -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 32, 32, generator=drawn), torch.randint(0, 5, (2,), generator=drawn)


def workload(model: str = "gpt", dropout: float = 0.0, depth: int = 4) -> Workload:
    if model == "gpt":
        return Workload(gpt(depth=depth, dropout=dropout), tokens(), gpt_loss)
    return Workload(vit(depth), images(), gpt_loss)


class Block(nn.Module):
    """x + f(x), in a tuple with something else; `scale` is a further argument."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x: Tensor, scale: Any = 1.0) -> tuple[Tensor, str]:
        return x + scale * torch.tanh(self.inner(x)), "more"


class Stack(nn.Module):
    """Embeds x, and runs its blocks, each in one of several ways."""

    def __init__(self, depth: int, way: str = "plain") -> None:
        super().__init__()
        self.embed = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(Block(8) for _ in range(depth))
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for number, block in enumerate(self.blocks):
            if self.way == "leaves one out" and number == 2:
                continue
            if self.way == "does more" and number == 2:
                x = x * 2
            if self.way == "argument each":
                x, _ = block(x, 1.0 + number)
            elif self.way == "gradients beside x":
                x, _ = block(x, self.blocks[0].inner.bias.sum())
            else:
                x, more = block(x, scale=0.5)
                assert more == "more"
        return x


def mean_square(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).square().mean()


def own(way: str = "plain", depth: int = 4) -> Workload:
    torch.manual_seed(0)
    return Workload(Stack(depth, way), torch.randn(3, 5, 8), mean_square)


def state(model: nn.Module) -> list[tuple[str, dict[str, Any]]]:
    """All that hangs on each module, by identity."""
    return [
        (name, {key: id(value) for key, value in vars(module).items()} | {"hooks": list(module._forward_hooks)})
        for name, module in model.named_modules()
    ]


def gradient_error(of: Workload, peer: Peer) -> float:
    torch.manual_seed(5)
    error = measure_gradients(of, peer, seed=0).gradient_error
    assert error is not None
    return error


STREAM_BYTES = 8 * 32 * 24 * 4
"""One x of what `memory` measures: B, T, D in fp32."""


def memory(peer: Peer, depth: int) -> MemoryReading:
    # So large that blocks outweigh all else.
    torch.manual_seed(0)
    of = Workload(gpt(depth=depth, width=24, tokens=32), tokens(batch=8, length=32), gpt_loss)
    with attach(of.model, peer) as handle:
        return measure_memory(of, handle, of.device)


@pytest.mark.parametrize("model", ["gpt", "vit"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_without_dropout_gradients_are_right_but_for_rounding(name: str, model: str) -> None:
    """Each library's gradients are those of plain autograd of its own equations, to some digits."""
    of = workload(model)
    for module in of.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert 0.0 < gradient_error(of, peer_of(name)) < ROUNDED


@pytest.mark.parametrize("model", ["gpt", "vit"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_gradients_under_dropout_are_right_or_shown_to_be_wrong(name: str, model: str) -> None:
    """Three libraries draw other masks in their backward, and their gradient error says so; revlib does not."""
    error = gradient_error(workload(model, dropout=0.2), peer_of(name))
    assert error > 0.05 if name in FORGETFUL else 0.0 < error < ROUNDED


@pytest.mark.parametrize("name", TWO_STREAM)
def test_two_streams_of_any_model_go_through_pairs_of_blocks(name: str) -> None:
    """Blocks of no known halves are coupled two by two; what they return beside x reaches the model."""
    assert 0.0 < gradient_error(own(), peer_of(name)) < ROUNDED


def test_a_momentum_network_takes_any_number_of_blocks() -> None:
    """Whole blocks, one step each."""
    assert 0.0 < gradient_error(own(depth=3), peer_of("peer-momentumnet")) < ROUNDED


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_equations_are_those_that_are_documented(name: str) -> None:
    """The reference is the coupling, or the momentum rule, written out by hand."""
    peer, of = peers.get(name), own()
    assert peer is not None
    model = of.model
    assert isinstance(model, Stack)
    x = model.embed(of.batch)
    h = [lambda z, block=block: 0.5 * torch.tanh(block.inner(z)) for block in model.blocks]
    with attach(model, peer.twin()):
        found = model(of.batch)
    if peer.in_pairs:
        one = two = x
        for f, g in ((h[0], h[1]), (h[2], h[3])):
            one = one + f(two)
            two = two + g(one)
        expected = (one + two) / 2
    else:
        v, expected = torch.zeros_like(x), x
        for each in h:
            v = 0.9 * v + 0.1 * each(expected)
            expected = expected + v
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", LIBRARIES)
def test_detaching_leaves_the_model_exactly_as_it_was(name: str) -> None:
    """Modules, parameters, forwards and hooks are the same objects, and the loss is the same to the last bit."""
    peer, of = peer_of(name), workload("gpt")
    before, keys = state(of.model), list(of.model.state_dict())
    loss = of.loss(of.model, of.batch)
    with attach(of.model, peer):
        assert list(of.model.state_dict()) == keys
        assert not torch.equal(of.loss(of.model, of.batch), loss)
    assert state(of.model) == before
    assert torch.equal(of.loss(of.model, of.batch), loss)


def test_a_forward_of_the_instance_s_own_comes_back() -> None:
    """A forward that was set on a block serves inside the sequence, and is on the block again afterwards."""
    of, called = own(), []
    block = of.model.blocks[1]  # type: ignore[index]
    plain = block.forward

    def mine(*args: Any, **kwargs: Any) -> Any:
        called.append(1)
        return plain(*args, **kwargs)

    block.forward = mine
    peer = peers.get("peer-revlib")
    assert peer is not None
    with attach(of.model, peer.twin()):
        of.loss(of.model, of.batch)
    assert (block.forward, called) == (mine, [1])


@pytest.mark.parametrize("name", LIBRARIES)
def test_memory_is_less_and_its_parts_add_up(name: str) -> None:
    """A library keeps less than plain autograd of its equations; blocks, streams and the rest make up the figure."""
    peer = peer_of(name)
    less, all_ = memory(peer, 8), memory(peer.twin(), 8)
    assert less.activation_bytes < all_.activation_bytes / 2
    assert (less.side_bytes, less.rng_bytes) == (None, None)
    for told, figure in ((less.activation_parts, less.activation_bytes), (less.peak_parts, less.peak_bytes)):
        assert told is not None
        assert parts.total(told) == figure
    sums = parts.totals(less.activation_parts or {})
    assert sums["block"] > less.activation_bytes / 4
    # Both streams, of which a library passes on as x what it likes to, and keeps the rest its own way.
    assert sums.get("residual_states", 0) + sums["other"] >= 2 * STREAM_BYTES


@pytest.mark.parametrize("name", ["peer-revtorch", "peer-memcnn"])
def test_the_memory_of_two_streams_does_not_grow_with_depth(name: str) -> None:
    """Twice the blocks cost less than one block's stream more."""
    peer = peer_of(name)
    rng = 5056 if name == "peer-memcnn" else 0  # a random state a pair
    more = memory(peer, 16).activation_bytes - memory(peer, 8).activation_bytes
    assert more <= 8 * rng + STREAM_BYTES


@pytest.mark.parametrize("model", ["gpt", "vit"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_what_is_rebuilt_is_seen_block_by_block(name: str, model: str) -> None:
    """The x of every block as the library rebuilds it, compared with the forward's: near, and seldom the same."""
    of = workload(model, depth=5)
    for module in of.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    reading = measure_reconstruction(of, peer_of(name), seed=0)
    assert [error.block for error in reading.reconstruction] == [0, 1, 2, 3, 4]
    assert (reading.bit_exact, reading.missing) == (False, ())
    assert all(error.relative_error is not None and error.relative_error < 1e-4 for error in reading.reconstruction)


@pytest.mark.parametrize("name", LIBRARIES)
def test_two_forwards_may_be_open_before_either_backward(name: str) -> None:
    """Each forward has a sequence of its own, so that the later one takes nothing from the earlier."""
    peer, of = peer_of(name), own()

    def gradients(of_peer: Peer) -> list[Tensor]:
        of.model.zero_grad()
        with attach(of.model, of_peer):
            losses = [of.loss(of.model, of.batch), of.loss(of.model, -of.batch)]
            for loss in losses:
                torch.autograd.backward(loss)
        return [parameter.grad.clone() for parameter in of.model.parameters() if parameter.grad is not None]

    for found, expected in zip(gradients(peer), gradients(peer.twin()), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_input_that_needs_no_gradient_is_trained_or_shown_not_to_be(name: str) -> None:
    """Under a frozen embedding, as with LoRA, two libraries give their blocks no gradients: an error that says so."""
    peer, of = peer_of(name), workload("gpt")
    assert isinstance(of.model, GPT)
    of.model.lm_head.weight = nn.Parameter(of.model.lm_head.weight.detach().clone())  # no longer tied
    for embedding in (of.model.transformer.wte, of.model.transformer.wpe):
        embedding.requires_grad_(False)
    if name in ("peer-revlib", "peer-revtorch"):
        with pytest.raises(MeterError, match="parameters have a gradient under the method or its reference only"):
            gradient_error(of, peer)
    else:
        assert 0.0 < gradient_error(of, peer) < ROUNDED


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_frozen_parameter_of_a_block_is_left_out_or_the_library_says_so(name: str) -> None:
    """One does not take blocks of which a part is frozen; with the others the rest is trained."""
    peer, of = peer_of(name), workload("gpt")
    assert isinstance(of.model, GPT)
    of.model.transformer.h[1].ln_1.weight.requires_grad_(False)
    if name == "peer-momentumnet":
        with pytest.raises(RuntimeError, match="does not require grad"):
            gradient_error(of, peer)
    else:
        assert 0.0 < gradient_error(of, peer) < ROUNDED


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("leaves one out", "blocks.3 is not given what blocks.2 returned"),
        ("does more", "blocks.2 is not given what blocks.1 returned"),
        ("argument each", "blocks.1 is called with other arguments than blocks.0"),
        ("gradients beside x", "blocks.0 is called with a tensor beside x that gradients must reach"),
    ],
)
def test_a_loop_that_no_sequence_can_stand_in_for_is_unsupported(way: str, why: str) -> None:
    """A model that does something between its blocks is told apart, rather than computed wrong."""
    peer, of = peers.get("peer-revlib"), own(way)
    assert peer is not None
    with attach(of.model, peer.twin()), pytest.raises(UnsupportedError, match=why):
        of.loss(of.model, of.batch)


def test_blocks_that_cannot_be_paired_are_unsupported() -> None:
    """An odd number of blocks of no known halves, and one module in several places."""
    peer = peers.get("peer-revlib")
    assert peer is not None
    with pytest.raises(UnsupportedError, match=r"depth 3: blocks\.0 … are coupled in pairs; take an even depth"):
        attach(own(depth=3).model, peer.twin())
    model = Stack(2)
    with pytest.raises(UnsupportedError, match="run one module several times"):
        attach(model, peer.twin(), blocks=[model.blocks[0], model.blocks[0]])
    assert "forward" not in vars(model.blocks[0])


def test_measuring_one_s_own_step_takes_a_peer() -> None:
    """`bench.measure` measures a peer as any method, and refuses what is the engine's to do."""
    peer_of("peer-revlib")
    found = bench.measure(workload("gpt", dropout=0.1), "peer-revlib")
    assert (found.blocks, found.bits, found.gamma, found.bit_exact) == (4, None, None, False)
    assert found.gradient_error is not None
    assert found.loss_method != found.loss_plain
    for asked in ({"keep": 1}, {"micro_batches": 2}, {"verify": True}):
        with pytest.raises(UsageError, match="are of bdia's own methods"):
            bench.measure(workload("gpt"), "peer-revlib", **asked)  # type: ignore[arg-type]


# A peer in the tables


ALL = frozenset(MEASUREMENTS)


def case(name: str, **axes: Any) -> Case:
    fields: dict[str, Any] = {
        "method": name, "model": "gpt", "depth": 2, "width": 16, "heads": 2, "seq": 8, "batch": 2, "bits": None,
        "vocab": 256, "dtype": "fp32", "train_steps": 0, "device": "cpu", "seed": 0, "data": None,
    }  # fmt: skip
    return Case(**(fields | axes))


def absent(monkeypatch: pytest.MonkeyPatch, name: str) -> Peer:
    """The peer of that name, whose library is not installed, whatever is here."""
    peer = resolve.method(name)
    assert isinstance(peer, Peer)
    gone = Library("no-such-library", "no_such_library", peer.library.install)
    changed = replace(peer, library=gone)
    monkeypatch.setattr(peers, "get", lambda asked: changed if asked == name else None)
    return changed


def test_a_peer_is_resolved_by_its_name_and_has_a_stored_twin() -> None:
    """Names of peers are methods; their twin stores, and needs no library."""
    for peer in peers.PEERS:
        assert resolve.method(peer.name) is peer
        assert (peer.twin().strategy, peer.twin().missing) == (STORED, None)
    with pytest.raises(UsageError, match="peer-revlib"):
        resolve.method("peer-revlip")


def test_the_library_attaches_no_peer_itself() -> None:
    """`bdia.attach` knows rules; a peer is told where it can be measured."""
    with pytest.raises(MethodError, match="peer-revlib is a library and no rule of bdia's"):
        bdia.attach(gpt(), peers.PEERS[0])


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_peer_that_is_not_installed_is_a_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sweep, and alone: unsupported, with what to install; nothing is measured, and nothing raised."""
    absent(monkeypatch, name)
    text = f'title = "t"\n[[cases]]\nmethod = ["standard", "{name}"]\nmodel = "gpt"\ndepth = 2\n'
    for chosen in (text, text.replace('"standard", ', "")):
        plan = read(chosen.encode(), "t", "t.toml").plans({}, "cpu", None, {})[-1]
        assert plan.measure == frozenset()
        assert plan.unsupported is not None
        assert plan.unsupported.startswith(f"{name} needs no-such-library: pip install ")
    found = measured(Plan(case(name), ALL))
    assert (found.status, found.message) == ("unsupported", plan.unsupported)


def test_a_peer_that_fails_to_import_is_a_row_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is there and breaks on the installed torch says what broke."""
    monkeypatch.setitem(sys.modules, "revlib", None)
    monkeypatch.delitem(sys.modules, "bench.peers.revlib", raising=False)
    found = measured(Plan(case("peer-revlib"), ALL))
    assert found.status == "error"
    assert found.message is not None
    assert "revlib" in found.message


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_child_measures_a_peer(name: str) -> None:
    """Memory, reconstruction and gradients of a peer are fields of its record, as of any method."""
    peer_of(name)
    found = measured(Plan(case(name), ALL))
    assert (found.status, found.fields["blocks"], found.fields["bit_exact"]) == ("ok", 2, False)
    assert found.fields["activation_bytes"] > 0
    assert 0 < found.fields["gradient_error"] < ROUNDED
    assert found.fields["stream_elements"] == 2 * 8 * 16


def test_another_version_of_a_library_is_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a peer's record rests on includes the version of its library, and no other record's does."""

    def prints() -> list[str]:
        return [
            fingerprint_of(
                Plan(case(name), frozenset()), environment="", code="", data="", rounds=1, warmup=1, threads=1
            )
            for name in ("peer-revlib", "standard")
        ]

    first = prints()
    monkeypatch.setattr(Library, "version", property(lambda library: "0.0"))
    again = prints()
    assert (first[0] == again[0], first[1] == again[1]) == (False, True)


def test_the_doctor_looks_at_no_peer() -> None:
    """Whether bdia's engine would be exact is no question to ask of a library."""
    with pytest.raises(UsageError, match="doctor looks at bdia's own methods"):
        to_examine({"model": "gpt", "method": "peer-revlib", "device": "cpu"}, None, threads=1)


# transformers' own checkpointing


def hugging_face() -> Workload:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=4, n_embd=24, n_head=2, n_positions=16, vocab_size=31, attn_implementation="eager", use_cache=False
    )
    model = transformers.GPT2LMHeadModel(config)
    ids = torch.randint(0, 31, (3, 16))
    return Workload(model, {"input_ids": ids, "labels": ids}, lambda model, batch: model(**batch).loss)


def test_transformers_own_checkpointing_is_exact_and_saves() -> None:
    """Its gradients are the plain model's bit for bit, dropout and all; its blocks are run twice and hold less."""
    peer, of = peers.PEERS[-1], hugging_face()
    assert gradient_error(of, peer) == 0.0
    with attach(of.model, peer) as handle:
        less = measure_memory(of, handle, of.device)
        assert handle.chains == (tuple(f"transformer.h.{number}" for number in range(4)),)
    with attach(of.model, peer.twin()) as handle:
        all_ = measure_memory(of, handle, of.device)
    assert less.activation_bytes < all_.activation_bytes / 2
    assert less.activation_parts is not None
    assert parts.total(less.activation_parts) == less.activation_bytes


def test_the_switch_leaves_nothing_behind() -> None:
    """Flags, functions and the hook on the embedding are gone, and the loss is the same."""
    of = hugging_face()
    before = state(of.model)
    with attach(of.model, peers.PEERS[-1]):
        assert state(of.model) != before
    assert state(of.model) == before


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_peer_attaches_to_a_model_of_transformers(name: str) -> None:
    """Its blocks are called with more than x, and two by two are coupled; gradients are right without dropout."""
    peer, of = peer_of(name), hugging_face()
    for module in of.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert 0.0 < gradient_error(of, peer) < ROUNDED


def test_a_model_of_no_transformers_has_no_such_switch() -> None:
    """In a sweep a row that says so; where only the child can know, it is one as well."""
    text = 'title = "t"\n[[cases]]\nmethod = ["standard", "hf-checkpoint"]\nmodel = "gpt"\ndepth = 2\n'
    plan = read(text.encode(), "t", "t.toml").plans({}, "cpu", None, {})[-1]
    assert plan.unsupported is not None
    assert "no model of transformers" in plan.unsupported
    of = own()
    with pytest.raises(UnsupportedError, match="Stack is no model of transformers"):
        attach(of.model, peers.PEERS[-1])
    assert isinstance(attach(of.model, peers.PEERS[-1].twin()), PeerHandle)
    assert find_chains(of.model)
