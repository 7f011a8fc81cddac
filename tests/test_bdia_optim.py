"""SET-Adam against its formula, written down once more in NumPy, and as an optimiser of torch among others."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import bdia
from bdia.optim import SetAdam, _statistics_of_all, _statistics_of_each

SHAPES: tuple[tuple[int, ...], ...] = ((), (1,), (0,), (7,), (1, 1), (3, 5), (2, 3, 4), (130, 9))
BOTH = pytest.mark.parametrize("foreach", [False, True])


class Formula:
    """One tensor's SET-Adam as the paper has it, in double precision and without a thought for speed."""

    def __init__(
        self, theta: np.ndarray, *, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-18,
        weight_decay: float = 0.0, maximize: bool = False,
    ) -> None:  # fmt: skip
        self.theta = theta.astype(np.float64)
        self.m, self.v, self.t = np.zeros_like(self.theta), np.zeros_like(self.theta), 0
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.sign = -1 if maximize else 1

    def step(self, grad: np.ndarray) -> None:
        beta1, beta2 = self.betas
        g = self.sign * grad.astype(np.float64)
        self.t += 1
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g**2
        if self.v.size == 0:
            return
        squares = np.sum(self.v**2)
        scaled = self.v * np.sum(self.v) ** 2 / (self.v.size * squares) if squares else self.v
        w = np.sqrt(scaled / (1 - beta2**self.t) + self.eps)
        lowered = w - 0.5 * np.min(w)
        self.theta = self.theta * (1 - self.lr * self.weight_decay)
        self.theta = self.theta - self.lr / (1 - beta1**self.t) * self.m / lowered


def parameters(seed: int = 0, dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    torch.manual_seed(seed)
    made = [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in SHAPES]
    made.append(nn.Parameter(torch.randn(6, 4, dtype=dtype).t()))  # not contiguous
    return made


def gradient(like: Tensor, step: int, place: int) -> Tensor:
    """Gradients whose size differs from tensor to tensor, from element to element and from step to step."""
    generator = torch.Generator().manual_seed(1000 * step + place)
    scale = 10.0 ** (place - 5) * torch.exp(2 * torch.randn(like.shape, generator=generator, dtype=torch.float64))
    return (scale * torch.randn(like.shape, generator=generator, dtype=torch.float64)).to(like.dtype)


@BOTH
@pytest.mark.parametrize(
    "options",
    [
        {}, {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-6}, {"lr": 0.02, "weight_decay": 0.3},
        {"lr": 0.01, "maximize": True}, {"lr": 0.01, "betas": (0.0, 0.0), "maximize": True, "weight_decay": 0.1},
    ],
)  # fmt: skip
def test_it_is_the_formula(foreach: bool, options: dict[str, Any]) -> None:
    """In float64, 100 steps on tensors of odd shapes end within 1e-12 of the formula, whatever the options."""
    mine = parameters()
    theirs = [Formula(one.detach().numpy(), **options) for one in mine]
    optimizer = SetAdam(mine, foreach=foreach, **options)
    for step in range(100):
        for place, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            one.grad = gradient(one, step, place)
            other.step(one.grad.numpy())
        optimizer.step()
    for one, other in zip(mine, theirs, strict=True):
        assert one.numel() == 0 or np.abs(one.detach().numpy() - other.theta).max() <= 1e-12


@BOTH
def test_a_group_without_gradients_is_left_alone(foreach: bool) -> None:
    """A frozen group, or a step before any backward, changes nothing and raises nothing, as with torch's Adam."""
    trained, frozen = (nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = SetAdam([{"params": [frozen]}, {"params": [trained]}], foreach=foreach)
    optimizer.step()
    assert torch.equal(trained, torch.ones(3))
    trained.grad = torch.arange(3.0)
    optimizer.step()
    assert torch.equal(frozen, torch.ones(3))
    assert not torch.equal(trained, torch.ones(3))


@BOTH
def test_groups_have_options_of_their_own(foreach: bool) -> None:
    """Each group steps by its own options, a schedule's changes included, and a tensor without a gradient waits."""
    mine = parameters(1)
    halves = [{"lr": 0.01, "weight_decay": 0.1}, {"lr": 0.02, "betas": (0.8, 0.99), "eps": 1e-10, "maximize": True}]
    theirs = [Formula(one.detach().numpy(), **halves[place % 2]) for place, one in enumerate(mine)]
    optimizer = SetAdam([{"params": mine[half::2], **options} for half, options in enumerate(halves)], foreach=foreach)
    for step in range(100):
        if step == 50:
            for group in optimizer.param_groups:
                group["lr"] *= 0.1
            for one in theirs:
                one.lr *= 0.1
        for place, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            one.grad = None if (step + place) % 3 == 0 else gradient(one, step, place)
            if one.grad is not None:
                other.step(one.grad.numpy())
        optimizer.step()
    for one, other in zip(mine, theirs, strict=True):
        assert one.numel() == 0 or np.abs(one.detach().numpy() - other.theta).max() <= 1e-12
    assert [int(optimizer.state[one]["step"]) for one in mine] == [other.t for other in theirs]


@BOTH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gradients_of_zero_change_nothing(foreach: bool, dtype: torch.dtype) -> None:
    """Tensors whose gradients have all been 0 stay as they are to the bit; they move as usual once one is not."""
    mine = parameters(2, dtype)
    before = [one.detach().clone() for one in mine]
    optimizer = SetAdam(mine, foreach=foreach)
    for _ in range(5):
        for one in mine:
            one.grad = torch.zeros_like(one)
        optimizer.step()
    assert all(torch.equal(one, was) for one, was in zip(mine, before, strict=True))
    for one in mine:
        one.grad = torch.ones_like(one)
    optimizer.step()
    assert all(one.isfinite().all() for one in mine)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("maximize", [False, True])
def test_foreach_and_single_tensor_are_equal(dtype: torch.dtype, maximize: bool) -> None:
    """Both paths end with the same bits in weights and state, tensors of several formats in one group."""
    ends = []
    for foreach in (False, True):
        mine = [*parameters(3, dtype), *parameters(4, torch.float32)]
        optimizer = SetAdam(mine, lr=0.01, weight_decay=0.1, maximize=maximize, foreach=foreach)
        for step in range(10):
            for place, one in enumerate(mine):
                one.grad = gradient(one, step, place % 9)
            optimizer.step()
        ends.append([*mine, *(optimizer.state[one][name] for one in mine for name in ("exp_avg", "exp_avg_sq"))])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


@BOTH
@pytest.mark.parametrize("size", [1e-25, 1e-20, 1e-15, 1e-10, 1.0, 1e10, 1e15])
def test_squares_outside_the_range_of_fp32(foreach: bool, size: float) -> None:
    """In fp32, gradients whose v is, but for v² is not, a number of that range take the formula's steps."""
    torch.manual_seed(5)
    grads = [size * torch.rand(300).add(0.1) for _ in range(3)]
    mine = nn.Parameter(torch.zeros(300))
    theirs = Formula(np.zeros(300), lr=1.0, eps=0.0)
    optimizer = SetAdam([mine], lr=1.0, eps=0.0 if size > 1e-16 else 1e-42, foreach=foreach)
    for grad in grads:
        mine.grad = grad.clone()
        optimizer.step()
        theirs.step(grad.numpy())
    if size > 1e-16:
        torch.testing.assert_close(mine.double(), torch.from_numpy(theirs.theta), rtol=1e-4, atol=1e-6)
    assert mine.isfinite().all()


@BOTH
def test_a_gradient_that_is_not_finite_spoils_its_tensor_alone(foreach: bool) -> None:
    """A NaN or an infinity makes all of its tensor NaN, no error, and no other tensor is touched."""
    mine = [nn.Parameter(torch.ones(3)) for _ in range(3)]
    optimizer = SetAdam(mine, foreach=foreach)
    for one, value in zip(mine, (float("nan"), float("inf"), 1.0), strict=True):
        one.grad = torch.tensor([1.0, value, 2.0])
    optimizer.step()
    assert [bool(one.isnan().all()) for one in mine] == [True, True, False]
    assert mine[2].isfinite().all()


def trained(optimizer: SetAdam, mine: list[nn.Parameter], steps: range) -> list[Tensor]:
    for step in steps:
        for place, one in enumerate(mine):
            one.grad = gradient(one, step, place)
        optimizer.step()
    return [one.detach().clone() for one in mine]


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return dict(torch.load(file, weights_only=True))


@BOTH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("carry", [copy.deepcopy, through_a_file], ids=["copied", "saved"])
def test_its_state_goes_on_where_it_was(foreach: bool, dtype: torch.dtype, carry: Callable[..., Any]) -> None:
    """An optimiser that loads another's state_dict takes the same steps from there, to the bit."""
    one, other = parameters(6, dtype), parameters(7, dtype)
    first = SetAdam(one, lr=0.01, weight_decay=0.1, foreach=foreach)
    trained(first, one, range(5))
    second = SetAdam(other, lr=1.0, foreach=not foreach)
    second.load_state_dict(carry(first.state_dict()))
    for target, source in zip(other, one, strict=True):
        target.data.copy_(source.data)
    assert second.param_groups[0]["lr"] == 0.01
    assert second.param_groups[0]["foreach"] is foreach
    ends = (trained(optimizer, mine, range(5, 10)) for optimizer, mine in ((first, one), (second, other)))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*ends, strict=True))


def test_a_copy_goes_its_own_way() -> None:
    """A deep copy of model and optimiser together trains like the original, and apart from it."""
    mine = parameters(8)
    optimizer = SetAdam(mine, lr=0.01)
    trained(optimizer, mine, range(3))
    twins, twin = copy.deepcopy((mine, optimizer))
    ends = trained(optimizer, mine, range(3, 6)), trained(twin, twins, range(3, 6))
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def test_state_is_kept_under_adams_names() -> None:
    """State has m, v and the step as torch's Adam names them, in the parameters' format and strides; 0 bytes more."""
    mine = parameters(9, torch.float32)
    optimizer = SetAdam(mine)
    trained(optimizer, mine, range(1))
    for one in mine:
        state = optimizer.state[one]
        assert list(state) == ["step", "exp_avg", "exp_avg_sq"]
        assert state["step"].item() == 1
        for name in ("exp_avg", "exp_avg_sq"):
            assert (state[name].dtype, state[name].stride()) == (one.dtype, one.stride())


def test_a_closure_is_evaluated_with_gradients() -> None:
    """`step(closure)` evaluates it under grad mode and returns its loss; without one it returns None."""
    mine = nn.Parameter(torch.ones(3))
    optimizer = SetAdam([mine], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = mine.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 3.0
    assert optimizer.step() is None
    assert (mine < 1).all()


def test_schedulers_and_a_rate_in_a_tensor_work() -> None:
    """torch's schedulers set its rate, and a rate that is a tensor is read at each step."""
    one, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    rate = torch.tensor(0.1)
    first, second = SetAdam([one], lr=0.1), SetAdam([other], lr=rate)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(first, gamma=0.5)
    for _ in range(3):
        for mine in (one, other):
            mine.grad = torch.tensor([1.0, 2.0, 3.0])
        first.step()
        second.step()
        scheduler.step()
        rate *= 0.5
    torch.testing.assert_close(one, other)
    assert first.param_groups[0]["lr"] == 0.0125


@pytest.mark.parametrize(
    "options",
    [
        {"lr": -1.0}, {"lr": float("nan")}, {"eps": -1e-9}, {"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)},
        {"weight_decay": -0.1}, {"lr": torch.ones(2)},
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused_in_torchs_words(options: dict[str, Any]) -> None:
    """A wrong option raises the error that torch's Adam raises for it, word for word."""
    said = []
    for optimizer in (torch.optim.Adam, SetAdam):
        with pytest.raises(ValueError, match=r"Invalid|1-element") as caught:
            optimizer([nn.Parameter(torch.ones(1))], **options)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_no_parameters_are_refused_in_torchs_words() -> None:
    """An empty list of parameters is refused by torch's own check."""
    with pytest.raises(ValueError, match="optimizer got an empty parameter list"):
        SetAdam([])


def test_what_it_does_not_support_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sparse gradients, complex or sharded parameters and the capture of a CUDA graph raise RuntimeError."""
    embedding = nn.Embedding(3, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="SetAdam does not support sparse gradients"):
        SetAdam(embedding.parameters()).step()
    number = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    number.grad = torch.ones_like(number)
    with pytest.raises(RuntimeError, match="SetAdam does not support complex parameters"):
        SetAdam([number]).step()

    class DTensor(Tensor):
        """As torch calls a sharded one."""

    shard = nn.Parameter(torch.ones(2).as_subclass(DTensor))
    shard.grad = torch.ones(2).as_subclass(DTensor)
    with pytest.raises(RuntimeError, match=r"SetAdam does not support sharded parameters \(DTensor\)"):
        SetAdam([shard]).step()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="SetAdam does not support CUDA graph capture"):
        SetAdam([nn.Parameter(torch.ones(1))]).step()


class Passes(TorchDispatchMode):
    """Counts operations that touch a tensor of so many elements."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.elements = elements
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if isinstance(args[0], Tensor) and args[0].numel() == self.elements:
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def passes(optimizer: torch.optim.Optimizer, mine: nn.Parameter) -> list[str]:
    mine.grad = torch.ones_like(mine)
    optimizer.step()
    with Passes(mine.numel()) as seen:
        optimizer.step()
    return seen.names


def test_passes_over_memory_are_few() -> None:
    """A step goes over a tensor ten times, three of which only read it, where torch's Adam goes over it seven times."""
    mine = nn.Parameter(torch.ones(1000))
    assert passes(SetAdam([mine], foreach=False), mine) == [
        "lerp_", "mul_", "addcmul_", "sum", "linalg_vector_norm", "min", "add", "sqrt_", "sub_", "addcdiv_",
    ]  # fmt: skip
    assert len(passes(torch.optim.Adam([mine], foreach=False), mine)) == 7


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_statistics_for_many_tensors_at_once_are_those_of_each(dtype: torch.dtype) -> None:
    """Sum, norm and minimum as a GPU's kernels are asked for them agree with those of one tensor after the other."""
    v = [gradient(one.detach(), 0, 5).square().to(dtype) for one in parameters() if one.numel()]
    torch.testing.assert_close(
        torch.tensor(_statistics_of_all(v)), torch.tensor(_statistics_of_each(v)), rtol=1e-6, atol=0
    )


def test_it_is_found_in_the_package() -> None:
    """`bdia.SetAdam` is the optimiser."""
    assert bdia.SetAdam is SetAdam
    assert "SetAdam" in bdia.__all__


@BOTH
@pytest.mark.parametrize(
    ("device", "dtype", "within"),
    [
        ("cpu", torch.float32, 5e-6),
        pytest.param("cuda", torch.float32, 5e-6, marks=pytest.mark.gpu),
        pytest.param("cuda", torch.float64, 1e-12, marks=pytest.mark.gpu),
    ],
)
def test_it_is_the_formula_within_rounding(foreach: bool, device: str, dtype: torch.dtype, within: float) -> None:
    """In fp32, and by a GPU's kernels for one tensor or for many at once, it stays within rounding of the formula."""
    mine = [nn.Parameter(one.detach().to(device)) for one in parameters(10, dtype)]
    theirs = [Formula(one.detach().cpu().numpy(), lr=0.01, weight_decay=0.1) for one in mine]
    optimizer = SetAdam(mine, lr=0.01, weight_decay=0.1, foreach=foreach)
    for step in range(20):
        for place, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            grad = gradient(one.detach().cpu(), step, place)
            one.grad = grad.to(device)
            other.step(grad.numpy())
        optimizer.step()
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one.detach().cpu().double(), torch.tensor(other.theta), rtol=0, atol=within)


def test_the_script_that_times_steps_tells_all_four() -> None:
    """`scripts/step-times.py` sets both paths of SET-Adam beside both of torch's AdamW."""
    script = Path(__file__).parent.parent / "scripts" / "step-times.py"
    command = [sys.executable, str(script), "--layers=1", "--width=8", "--vocab=16", "--rounds=3", "--device=cpu"]
    environment = os.environ | {"PYTHONPATH": str(script.parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    first, *rows = done.stdout.splitlines()
    assert first == "9,112 parameters in 9 tensors, cpu, 3 rounds"
    assert [row[:24].rstrip() for row in rows] == [
        "AdamW, foreach", "AdamW, single tensor", "SET-Adam, foreach", "SET-Adam, single tensor",
    ]  # fmt: skip
