"""docs/attaching.md: its code runs from top to bottom, and everything in its table is refused in those words."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import gpt, tokens
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import bdia

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "attaching.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [
    line
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", "").splitlines()
]
REFUSED = [row.replace("\\|", "|") for row in re.findall(r"^\| `(.+?)` \|", PAGE, re.MULTILINE)]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # torch's own advice on batch_first
def test_the_code_runs_and_prints_what_it_says() -> None:
    """The blocks of the page, one after the other, print what the comments beside their prints say."""
    namespace: dict[str, object] = {"__name__": "attaching"}
    torch.manual_seed(0)
    for number, block in enumerate(BLOCKS):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, f"block {number} of docs/attaching.md", "exec"), namespace)
        assert printed.getvalue().splitlines() == re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)


def test_all_code_is_run_here() -> None:
    """Every block of code on the page is Python, a command, or what the command printed."""
    assert re.findall(r"^```(\w*)$", PAGE, re.MULTILINE)[::2].count("python") == len(BLOCKS)
    kinds = re.findall(r"^```(\w*)$", PAGE, re.MULTILINE)[::2]
    assert set(kinds) <= {"python", "console", "text"}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_take_the_options_shown(command: str) -> None:
    """Each command of the page names a script that is there, with options that it has."""
    python, script, *options = shlex.split(command)
    assert python == "python"
    done = subprocess.run(
        [sys.executable, ROOT / script, "--help"], capture_output=True, text=True, cwd=ROOT, check=True, timeout=120,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert [option for option in options if option.startswith("--") and f"{option} " not in done.stdout] == []


class Step(nn.Module):
    """x + tanh(Wx), and `then` of it: a residual block that a refusal can be provoked with."""

    def __init__(self, then: Callable[[Tensor, Tensor], Tensor] = lambda x, y: y) -> None:
        super().__init__()
        self.linear, self.then = nn.Linear(4, 4), then

    def forward(self, x: Tensor, cu_seqlens: Tensor | None = None) -> Tensor:
        return self.then(x, x + torch.tanh(self.linear(x)))


class Loop(nn.Module):
    """Blocks in a loop; `between` is done to each x on its way, and `call` calls a block."""

    def __init__(
        self,
        *blocks: nn.Module,
        between: Callable[[Tensor], Tensor] = lambda x: x,
        call: Callable[[nn.Module, Tensor], Tensor] = lambda block, x: block(x),
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks or (Step(), Step(), Step()))
        self.between, self.call = between, call

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.between(self.call(layer, x))
        return x


class Two(nn.Module):
    """Two lists of as many blocks, of classes that say nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = (nn.ModuleList([Step(), Step()]) for _ in range(2))


def x(*shape: int) -> Tensor:
    return torch.ones(shape or (2, 3, 4), requires_grad=True)


def forward(model: nn.Module, batch: Tensor | None = None, method: str = "bdia", **options: object) -> Tensor:
    """A training forward of an attached model, which stays attached."""
    bdia.attach(model, method, seed=0, **options)  # type: ignore[arg-type]
    out: Tensor = model(x() if batch is None else batch)
    return out.sum()


def twice() -> None:
    model = Loop()
    bdia.attach(model)
    bdia.attach(model)


def second_backward() -> None:
    loss = forward(Loop())
    loss.backward(retain_graph=True)
    loss.backward()


def backward_inside() -> None:
    class Impatient(Loop):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            torch.autograd.grad(out.sum(), x)
            return out

    forward(Impatient())


def weights_changed() -> None:
    model = Loop()
    loss = forward(model)
    with torch.no_grad():
        model.layers[1].linear.weight.add_(1)  # type: ignore[union-attr, operator]
    loss.backward()


def switched() -> None:
    model = Loop()
    loss = forward(model)
    model.eval()
    loss.backward()


def output_changed() -> None:
    model = Loop()
    bdia.attach(model)
    out = model(x())
    out.detach().add_(1)
    out.sum().backward()


def checkpointing_of_its_own() -> None:
    model = Loop()
    for layer in model.layers:
        layer.gradient_checkpointing = True
    forward(model)


def inside_a_checkpoint() -> None:
    model = gpt()
    idx, _ = tokens()
    bdia.attach(model)
    checkpoint(model, idx, use_reentrant=False)[0].sum().backward()


def alone() -> None:
    model = Loop()
    bdia.attach(model)
    model.layers[0](x())


def nested() -> None:
    model = Loop()
    bdia.attach(model, blocks=[model.layers[0], model.layers[0].linear])  # type: ignore[list-item, union-attr]


class Attending(nn.Module):
    """A block of one's own around torch's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)


def probing() -> None:
    losses: list[Tensor] = []

    def left(_: Tensor, y: Tensor) -> Tensor:
        losses.append(y.square().mean())
        return y.detach()

    forward(Loop(Step(left), Step(left)), torch.ones(2, 3, 4))
    torch.stack(losses).sum().backward()


def counting() -> None:
    calls = iter(range(1, 100))
    forward(Loop(Step(), Step(lambda _, y: y + next(calls)), Step())).backward()


PROVOKED: dict[str, Callable[[], object]] = {
    "found no list of blocks": lambda: bdia.attach(Step()),
    "found 2 lists of 2 blocks": lambda: bdia.attach(Two()),
    "a module inside of it": nested,
    "say where samples lie with batch_dim": lambda: bdia.attach(Loop(Attending(), Attending())),
    "has a method attached already": twice,
    "divides by γ, so |γ| must be 2^-m": lambda: bdia.attach(Loop(), gamma=0.3),
    "draws no γ": lambda: bdia.attach(Loop(), "checkpoint", gamma=0.5),
    "l must be an int from 1 to 23": lambda: bdia.attach(Loop(), bits=24),
    "rebuilds nothing bit for bit": lambda: bdia.attach(Loop(), "checkpoint", verify=True),
    "called none of the blocks": lambda: forward(Loop(call=lambda block, x: block.linear(x))),
    "a residual block returns the shape it was given": lambda: forward(Loop(Step(lambda _, y: y[:, 1:]), Step())),
    "was given another x than the block before returned": lambda: forward(Loop(between=lambda x: x + 1)),
    "was changed in place since the block before returned it": lambda: forward(Loop(between=lambda x: x.add_(1))),
    "changes its x in place": lambda: forward(Loop(Step(), Step(lambda x, _: x.mul_(2)), Step())),
    "was called without a tensor as its first argument": lambda: forward(Loop(call=lambda block, x: block([x]))),
    "pad the batch instead of packing it": lambda: forward(
        Loop(call=lambda block, x: block(x, cu_seqlens=torch.tensor([0, 1, 3])))
    ),
    "one sample without a batch": lambda: forward(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2, enable_nested_tensor=False), x(3, 4)
    ),
    "a float64 model": lambda: forward(Loop().double(), x().double()),
    "the stream of residual blocks holds real numbers": lambda: forward(Loop(), torch.ones(2, 3, 4, dtype=torch.long)),
    "the model's own gradient checkpointing on": checkpointing_of_its_own,
    "was run again inside a backward": inside_a_checkpoint,
    "was called outside the forward of": alone,
    "leaves no headroom": lambda: forward(Loop(), 100 * x(), bits=23),
    "returned nothing that requires a gradient": probing,
    "a second backward reached": second_backward,
    "before the forward of its model had ended": backward_inside,
    "was changed in place between forward and backward": weights_changed,
    "was switched between train() and eval()": switched,
    "output of the last block was changed in place": output_changed,
    "computed something else when it was rerun": counting,
}
"""How to come by each refusal of the table."""


def test_the_table_is_complete() -> None:
    """Each row of the table is provoked below, and nothing is provoked that is not in the table."""
    assert list(PROVOKED) == REFUSED


@pytest.mark.parametrize("words", PROVOKED)
def test_what_the_table_names_is_refused_in_those_words(words: str) -> None:
    """The error says what the table says, in one line."""
    with pytest.raises(bdia.BdiaError) as refused:
        PROVOKED[words]()
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
