"""What people do to a model before they train it, and how they train it: the columns of the matrix."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peft
import torch
from networks import Errors
from torch import Tensor, nn
from zoo import Subject, loss_of

import bdia


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
