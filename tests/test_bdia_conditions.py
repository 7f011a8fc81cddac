"""The conditions people train under, each on unmodified models of several kinds: exact, or a refusal that says why."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peft
import pytest
import torch
from networks import Errors, same
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutput
from zoo import Specimen, loss_of, specimen

import bdia
from bdia.errors import ReconstructionError, TapeError

Outcome = dict[str, Tensor | None]


@dataclass(frozen=True)
class Subject:
    """A specimen, where its blocks are, and which of its projections LoRA adapts."""

    specimen: Specimen
    lists: tuple[str, ...]
    embeddings: str
    adapted: tuple[str, ...]

    def blocks(self, model: nn.Module) -> list[nn.Module]:
        """All blocks, list by list."""
        return [block for path in self.lists for block in model.get_submodule(path)]

    def __str__(self) -> str:
        return str(self.specimen)


SUBJECTS = (
    Subject(specimen("llama"), ("model.layers",), "embed_tokens", ("q_proj", "v_proj")),  # pre-norm, cache, rotary
    Subject(specimen("bert"), ("bert.encoder.layer",), "embeddings", ("query", "value")),  # post-norm, dropout
    Subject(specimen("dinov2"), ("dinov2.encoder.layer",), "embeddings", ("q_proj", "v_proj")),  # drop path
    Subject(
        specimen("bart"),
        ("model.encoder.layers", "model.decoder.layers"),
        "shared",
        ("q_proj", "v_proj"),
    ),  # two chains, cross-attention
)


# Hugging Face has given `gradient_checkpointing_enable` another name, which its own peft does not use yet; torch warns
# of backward hooks on a module whose x comes by keyword. Neither has to do with a method.
foreign_warnings = pytest.mark.filterwarnings(
    "ignore:.*is deprecated and will be removed in v6:FutureWarning", "ignore:Full backward hook is firing:UserWarning"
)


class Step:
    """One training step of a model under a method. Each forward has a watcher of its own."""

    def __init__(self, subject: Subject, model: nn.Module, handle: bdia.Handle) -> None:
        self.model = model
        self.seen: list[Tensor] = []
        """What the hooks of a condition saw, in order."""
        self.errors: list[Errors] = []
        self._subject = subject
        self._handle = handle

    @property
    def blocks(self) -> list[nn.Module]:
        """All blocks, list by list."""
        return self._subject.blocks(self.model)

    def forward(self, draw: int = 0) -> Tensor:
        """The loss on batch number `draw`."""
        batch = self._subject.specimen.batch(draw)
        self.errors.append(Errors())
        with self._handle.observing(self.errors[-1]):
            return loss_of(self.model, batch)

    def outputs(self, **wanted: Any) -> Any:
        """All that the model returns for the first batch."""
        self.errors.append(Errors())
        with self._handle.observing(self.errors[-1]):
            return self.model(**self._subject.specimen.batch(), **wanted)

    def detach(self) -> None:
        self._handle.detach()


@dataclass(frozen=True)
class Condition:
    """What is done to a model before attaching, and how it is trained after."""

    name: str
    prepare: Callable[[Subject, nn.Module], nn.Module] = lambda subject, model: model
    train: Callable[[Step], None] = lambda step: step.forward().backward()
    rebuilds_all: bool = True
    """False where the backward has no need of the lower blocks."""

    def __str__(self) -> str:
        return self.name


def raise_dropout(subject: Subject, model: nn.Module) -> nn.Module:
    """Dropout of 0.3 wherever the model could have some."""
    for module in model.modules():
        for name in ("p", "attention_dropout", "dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.3)
    return model


def under_autocast(step: Step) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss = step.forward()
    loss.backward()


def accumulate(step: Step) -> None:
    for draw in range(3):
        (step.forward(draw) / 3).backward()


def forwards_first(step: Step, *, order: tuple[int, ...]) -> None:
    losses = [step.forward(draw) for draw in range(2)]
    for index in order:
        losses[index].backward()


def joint_backward(step: Step) -> None:
    (step.forward(0) * step.forward(1)).backward()


def freeze(subject: Subject, model: nn.Module, *, which: slice) -> nn.Module:
    """Freezes those blocks, and with the lowest of them the embeddings."""
    for block in subject.blocks(model)[which]:
        block.requires_grad_(False)
    return freeze_embeddings(subject, model) if which.start is None else model


def freeze_embeddings(subject: Subject, model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        if subject.embeddings in name:
            parameter.requires_grad_(False)
    return model


def adapt(subject: Subject, model: nn.Module) -> nn.Module:
    """LoRA on the query and value projections; everything else is frozen."""
    config = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=list(subject.adapted))
    adapted = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:  # 0 at first, when A would have no gradient
                parameter.normal_(std=0.1)
    return adapted.train()


def hook_tensors(step: Step) -> None:
    """Hooks on parameters, and on what each block returns: one looks, one scales."""
    handles: list[Any] = []

    def on_output(module: nn.Module, args: Any, output: Any) -> None:
        x = output if isinstance(output, Tensor) else output[0]
        handles.append(x.register_hook(lambda grad: step.seen.append(grad.clone())))
        handles.append(x.register_hook(lambda grad: grad * 0.5))

    handles += [block.register_forward_hook(on_output) for block in step.blocks]
    handles += [parameter.register_hook(lambda grad: grad.sign()) for parameter in step.model.parameters()]
    step.forward().backward()
    for handle in handles:
        handle.remove()
    assert len(step.seen) == len(step.blocks)


def hook_modules(step: Step) -> None:
    """Full backward hooks: those of the blocks' parts look at gradients, those of the blocks change them too."""

    def look(module: nn.Module, given: Any, grads: Any) -> None:
        step.seen.extend(grad.clone() for grad in grads if grad is not None)

    def halve(module: nn.Module, given: Any, grads: Any) -> Any:
        return tuple(grad * 0.5 if grad is not None and grad.is_floating_point() else grad for grad in given)

    parts = [part for block in step.blocks for part in block.modules()]
    handles = [part.register_full_backward_hook(look) for part in parts]
    handles += [block.register_full_backward_hook(halve) for block in step.blocks]
    step.forward().backward()
    for handle in handles:
        handle.remove()
    assert len(step.seen) > len(step.blocks)


def optimise_in_backward(step: Step) -> None:
    """Each parameter is updated, and its gradient dropped, as soon as it has been accumulated."""

    def update(parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        with torch.no_grad():
            parameter.sub_(parameter.grad, alpha=0.1)
        parameter.grad = None

    handles = [parameter.register_post_accumulate_grad_hook(update) for parameter in step.model.parameters()]
    for draw in range(2):
        step.forward(draw).backward()
    for handle in handles:
        handle.remove()


def gradients_of_some(step: Step) -> None:
    """`autograd.grad` of the inputs' embedding and the last parameter: no `.grad` is touched."""
    wanted = [parameter for parameter in step.model.parameters() if parameter.requires_grad]
    step.seen.extend(grad for grad in torch.autograd.grad(step.forward(), [wanted[0], wanted[-1]]) if grad is not None)


def supervise_deeply(step: Step) -> None:
    """A loss on every hidden state, which the model collects by hooks of its own."""
    outputs = step.outputs(output_hidden_states=True)
    (outputs.loss + sum(x.square().mean() for x in hidden_states(outputs))).backward()


def train_on_a_middle_state(step: Step) -> None:
    """A loss that the upper blocks are no part of: they are rerun for their value alone."""
    hidden_states(step.outputs(output_hidden_states=True))[2].square().mean().backward()


def hidden_states(outputs: Any) -> Any:
    found = getattr(outputs, "hidden_states", None)
    return outputs.decoder_hidden_states if found is None else found


def eager(subject: Subject, model: nn.Module) -> nn.Module:
    """Attention written out, whose probabilities can be returned."""
    model.set_attn_implementation("eager")
    return model


def train_on_attention(step: Step) -> None:
    """A loss on the attention probabilities, which blocks return beside x."""
    outputs = step.outputs(output_attentions=True)
    found = getattr(outputs, "attentions", None)
    attentions = outputs.decoder_attentions if found is None else found
    (outputs.loss + sum(probabilities.square().mean() for probabilities in attentions)).backward()


def detach_first(step: Step) -> None:
    """Detaching between forward and backward."""
    loss = step.forward()
    step.detach()
    loss.backward()


CONDITIONS = (
    Condition("dropout", raise_dropout),
    Condition("bf16 autocast", train=under_autocast),
    Condition("bf16 autocast and dropout", raise_dropout, under_autocast),
    Condition("bf16 parameters", lambda subject, model: model.to(torch.bfloat16)),
    Condition("gradient accumulation", train=accumulate),
    Condition("frozen lower blocks", functools.partial(freeze, which=slice(None, 2)), rebuilds_all=False),
    Condition("a frozen middle block", functools.partial(freeze, which=slice(2, 3))),
    Condition("frozen upper blocks", functools.partial(freeze, which=slice(3, None))),
    Condition("frozen embeddings", freeze_embeddings),
    Condition("LoRA", adapt, rebuilds_all=False),
    Condition("LoRA under bf16 autocast", adapt, under_autocast, rebuilds_all=False),
    Condition("tensor hooks", train=hook_tensors),
    Condition("module backward hooks", train=hook_modules),
    Condition("optimiser in backward", train=optimise_in_backward),
    Condition("two forwards, backward in order", train=functools.partial(forwards_first, order=(0, 1))),
    Condition("two forwards, backward in reverse", train=functools.partial(forwards_first, order=(1, 0))),
    Condition("two forwards, one backward", train=joint_backward),
    Condition("gradients of some", train=gradients_of_some),
    Condition("losses on all hidden states", train=supervise_deeply),
    Condition("a loss on a middle state", train=train_on_a_middle_state),
    Condition("a loss on attention", eager, train_on_attention),
    Condition("detached before the backward", train=detach_first),
)


def run(subject: Subject, condition: Condition, method: str, seed: int) -> tuple[Outcome, list[Errors]]:
    """Gradients, parameters, buffers and what hooks saw, after one step from a fixed start; and how x was rebuilt."""
    model = condition.prepare(subject, subject.specimen.model(seed))
    with bdia.attach(model, method, seed=seed) as handle:
        step = Step(subject, model, handle)
        torch.manual_seed(seed)
        condition.train(step)
    outcome: Outcome = {f"grad of {name}": parameter.grad for name, parameter in model.named_parameters()}
    outcome |= {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    outcome |= {f"seen {index}": tensor for index, tensor in enumerate(step.seen)}
    return outcome, step.errors


@foreign_warnings
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_conditions(condition: Condition, subject: Subject, seed: int) -> None:
    """Under each condition every x the backward needs is rebuilt with `torch.equal`, and all that training leaves
    behind is bit for bit what the stored twin leaves."""
    ours, errors = run(subject, condition, "bdia", seed)
    stored, _ = run(subject, condition, "bdia-stored", seed)
    assert errors
    for each in errors:
        assert each.equal
        assert all(each.equal.values())
        assert not condition.rebuilds_all or each.equal.keys() == each.forward.keys()
    assert same(ours, stored)


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_bf16_parameters_leave_the_stream_in_fp32(subject: Subject) -> None:
    """Whatever the blocks compute in, what goes from one to the next keeps its 24 bits."""
    (condition,) = (each for each in CONDITIONS if each.name == "bf16 parameters")
    _, (errors,) = run(subject, condition, "bdia", 0)
    assert {x.dtype for x in errors.forward.values()} == {torch.float32}


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_a_copy_trains_on_its_own(subject: Subject, how: Callable[[nn.Module], nn.Module]) -> None:
    """A copy of an attached model (an EMA) has its own blocks and its own count of forwards, and goes on exactly."""
    model, batch = subject.specimen.model(), subject.specimen.batch()

    def loss(model: nn.Module) -> Tensor:
        torch.manual_seed(1)
        return loss_of(model, batch)

    with bdia.attach(model, "bdia", seed=2) as handle:
        loss(model)
        twin = how(model)
        assert torch.equal(loss(twin), loss(model))  # both count their second forward
        state = handle.state_dict()
        third = loss(twin)
        third.backward()
        assert all(parameter.grad is None for parameter in model.parameters())
    grads = {name: parameter.grad for name, parameter in twin.named_parameters()}
    with bdia.attach(model, "bdia-stored") as handle:
        handle.load_state_dict(state)
        again = loss(model)
        again.backward()
    assert torch.equal(again, third)
    assert same(grads, {name: parameter.grad for name, parameter in model.named_parameters()})


@foreign_warnings
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_the_models_own_checkpointing_is_refused(subject: Subject, when: str) -> None:
    """Hugging Face's gradient checkpointing, turned on before attaching or after, is an error that says how to turn it
    off; evaluation goes on, and so does training once it is off."""
    model, batch = subject.specimen.model(), subject.specimen.batch()
    if when == "before":
        model.gradient_checkpointing_enable()
    with bdia.attach(model, "bdia"):
        if when == "after":
            model.gradient_checkpointing_enable()
        with pytest.raises(TapeError, match=r"gradient_checkpointing_disable\(\)"):
            loss_of(model, batch)
        loss_of(model.eval(), batch)
        model.train().gradient_checkpointing_disable()
        loss_of(model, batch).backward()


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpoint_around_each_block_is_refused(use_reentrant: bool) -> None:
    """A loop that checkpoints its blocks runs them again where they have no place in a chain."""

    def call(block: nn.Module, x: Tensor, scale: Tensor) -> Any:
        return checkpoint(block, x, scale, use_reentrant=use_reentrant)

    model = Stack(call=call).train()
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match="checkpoint"):
        model(torch.randn(3, 4, 6, requires_grad=True)).backward()


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_an_outer_checkpoint_is_refused(subject: Subject, use_reentrant: bool) -> None:
    """A model run again inside a backward would draw other γ."""
    model, batch = subject.specimen.model(), subject.specimen.batch()
    anchor = torch.ones((), requires_grad=True)  # what reentrant checkpoints need to take part in the graph

    def forward(anchor: Tensor) -> Tensor:
        return loss_of(model, batch) * anchor

    with bdia.attach(model, "bdia"):
        loss = checkpoint(forward, anchor, use_reentrant=use_reentrant)
        with pytest.raises(TapeError, match="run again inside a backward"):
            loss.backward()


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_a_second_backward_is_refused(subject: Subject) -> None:
    """What the first one rebuilt it has used and freed."""
    model = subject.specimen.model()
    with bdia.attach(model, "bdia"):
        loss = loss_of(model, subject.specimen.batch())
        loss.backward(retain_graph=True)
        with pytest.raises(TapeError, match="second backward"):
            loss.backward()


def replace_output(module: nn.Module, args: Any, output: Any) -> Any:
    """A forward hook that makes another x."""
    return output * 1.5 if isinstance(output, Tensor) else (output[0] * 1.5, *output[1:])


def change_output(module: nn.Module, args: Any, output: Any) -> None:
    """A forward hook that writes into x."""
    with torch.no_grad():
        (output if isinstance(output, Tensor) else output[0]).mul_(1.5)


def replace_input(module: nn.Module, args: Any, kwargs: Any) -> Any:
    """A forward pre-hook that makes another x."""
    return (args[0] * 1.5, *args[1:]), kwargs


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("hook", [replace_output, change_output, replace_input])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_hooks_that_change_x_between_blocks_are_refused(subject: Subject, hook: Any, place: int) -> None:
    """A hook may look at x; what changes it breaks the chain, and the error names the block that it reached."""
    model = subject.specimen.model()
    block = subject.blocks(model)[place + (hook is replace_input)]
    if hook is replace_input:
        block.register_forward_pre_hook(hook, with_kwargs=True)
    else:
        block.register_forward_hook(hook)
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match=rf"\.{place + 1} .*(another x|changed in place)"):
        loss_of(model, subject.specimen.batch())


# Blocks that are called, or that answer, in other ways than the models above.


@dataclass
class Output:
    """A plain dataclass, of no library."""

    hidden: Tensor
    norm: Tensor


class Block(nn.Module):
    """x + tanh(Wx), answered in the form that `wrap` gives it."""

    def __init__(self, wrap: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.wrap = wrap

    def forward(self, hidden_states: Tensor, scale: Tensor | None = None) -> Any:
        h = self.inner(hidden_states).tanh()
        y = hidden_states + (h if scale is None else h * scale)
        return self.wrap(y, h.square().mean())


class Stack(nn.Module):
    """Blocks called and unwrapped in given ways; its loss includes what they answer beside x."""

    def __init__(
        self,
        wrap: Callable[[Tensor, Tensor], Any] = lambda y, norm: (y, norm),
        unwrap: Callable[[Any], tuple[Tensor, Tensor]] = lambda output: output,
        call: Callable[[nn.Module, Tensor, Tensor], Any] = lambda block, x, scale: block(x, scale=scale),
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(wrap) for _ in range(5))
        self.scale = nn.Parameter(torch.ones(6))
        self.unwrap, self.call = unwrap, call

    def forward(self, x: Tensor) -> Tensor:
        total, scale = x.new_zeros(()), self.scale.exp()
        for layer in self.layers:
            x, norm = self.unwrap(self.call(layer, x, scale))
            total = total + norm
        return x.square().mean() + total


ANSWERS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], tuple[Tensor, Tensor]]]] = {
    "a tensor": (lambda y, norm: y, lambda output: (output, output.mean())),
    "a tuple": (lambda y, norm: (y, norm), lambda output: output),
    "a list": (lambda y, norm: [y, norm], lambda output: (output[0], output[1])),
    "a dict": (
        lambda y, norm: {"hidden_states": y, "norm": norm},
        lambda output: (output["hidden_states"], output["norm"]),
    ),
    "a dataclass": (Output, lambda output: (output.hidden, output.norm)),
    "a ModelOutput": (
        lambda y, norm: BaseModelOutput(last_hidden_state=y, hidden_states=(norm,)),
        lambda output: (output.last_hidden_state, output.hidden_states[0]),
    ),
}

CALLS: dict[str, Callable[[nn.Module, Tensor, Tensor], Any]] = {
    "positional": lambda block, x, scale: block(x, scale),
    "x positional, the rest by name": lambda block, x, scale: block(x, scale=scale),
    "by name": lambda block, x, scale: block(hidden_states=x, scale=scale),
    "by name, x last": lambda block, x, scale: block(scale=scale, hidden_states=x),
}


def stack_outcome(method: str, build: Callable[[], nn.Module]) -> tuple[Outcome, Errors]:
    torch.manual_seed(0)
    model, x, errors = build().train(), torch.randn(3, 4, 6, requires_grad=True), Errors()
    with bdia.attach(model, method, seed=5) as handle, handle.observing(errors):
        model(x).backward()
    return {**{name: p.grad for name, p in model.named_parameters()}, "x": x.grad}, errors


def assert_exact(build: Callable[[], nn.Module], calls: int = 5) -> None:
    ours, errors = stack_outcome("bdia", build)
    stored, _ = stack_outcome("bdia-stored", build)
    assert errors.equal == dict.fromkeys(range(calls), True)
    assert same(ours, stored)


@pytest.mark.parametrize("answer", ANSWERS)
def test_blocks_may_answer_in_any_form(answer: str) -> None:
    """x is found in what a block returns, and what comes beside it keeps its form and its gradient."""
    wrap, unwrap = ANSWERS[answer]
    assert_exact(lambda: Stack(wrap, unwrap))


@pytest.mark.parametrize("call", CALLS)
def test_blocks_may_be_called_in_any_form(call: str) -> None:
    """x may be given by name; a learned tensor beside it gets its gradient either way."""
    assert_exact(lambda: Stack(call=CALLS[call]))


def test_a_block_that_answers_without_a_tensor_is_refused() -> None:
    """The error says what came and what was expected."""
    model = Stack(lambda y, norm: "nothing").train()
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match="returned a str: expected a tensor"):
        model(torch.randn(3, 4, 6))


class Passing(Block):
    """Stochastic depth: now and then x comes out as it went in, the same tensor."""

    def forward(self, hidden_states: Tensor, scale: Tensor | None = None) -> Any:
        if torch.rand(()) < 0.4:
            return self.wrap(hidden_states, hidden_states.new_zeros(()))
        return super().forward(hidden_states, scale)


def test_a_block_may_return_its_own_x() -> None:
    """h = 0, and no copy."""

    def build() -> nn.Module:
        model = Stack()
        model.layers = nn.ModuleList(Passing(lambda y, norm: (y, norm)) for _ in range(8))
        return model

    assert_exact(build, calls=8)


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_functional_calls_are_exact_or_refused(factor: float) -> None:
    """Weights lent to a model for one forward get the gradients of stored activations where a rerun finds weights of
    the same value; where it does not, it is an error."""
    grads: dict[str, Outcome] = {}

    def train(method: str) -> None:
        torch.manual_seed(0)
        model, x = Stack().train(), torch.randn(3, 4, 6)
        lent = {name: (p.detach() * factor).requires_grad_() for name, p in model.named_parameters()}
        with bdia.attach(model, method, seed=1):
            torch.func.functional_call(model, lent, (x,)).backward()
        grads[method] = {name: tensor.grad for name, tensor in lent.items()}

    train("bdia-stored")
    if factor == 1.0:
        train("bdia")
        assert same(grads["bdia"], grads["bdia-stored"])
    else:
        with pytest.raises(ReconstructionError, match=r"layers\.\d computed something else"):
            train("bdia")


def test_shared_blocks_are_calls_like_any_other() -> None:
    """A block that stands in the list several times is trained with the sum of its gradients."""

    def build() -> nn.Module:
        model = Stack()
        first, second = model.layers[0], model.layers[1]
        model.layers = nn.ModuleList([first, second, first, first, second])
        return model

    assert_exact(build)


def test_running_statistics_are_updated_once() -> None:
    """Batch norm inside blocks ends with the statistics, and the count of batches, of stored activations."""

    def build() -> nn.Module:
        model = Stack()
        for layer in model.layers:
            layer.inner = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(4), nn.Linear(6, 6))
        return model

    assert_exact(build)
    buffers: dict[str, Outcome] = {}
    for method in ("bdia", "bdia-stored"):
        torch.manual_seed(0)
        model = build().train()
        with bdia.attach(model, method, seed=5):
            for _ in range(2):
                model(torch.randn(3, 4, 6)).backward()
        buffers[method] = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert same(buffers["bdia"], buffers["bdia-stored"])
    counts = [tensor for name, tensor in buffers["bdia"].items() if name.endswith("num_batches_tracked")]
    assert counts == [2] * 5
