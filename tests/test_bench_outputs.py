"""What operators give, remembered: the same as torch's own fake tensors give, whatever was asked before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from bench.fakes.outputs import Outputs, flat

aten = torch.ops.aten


@pytest.fixture
def mode() -> Iterator[FakeTensorMode]:
    """Entered: what is made in a test is fake."""
    with FakeTensorMode(allow_non_fake_inputs=True) as entered:
        yield entered


def told(out: object) -> list[tuple[object, ...]]:
    return [(tuple(one.shape), one.stride(), one.dtype, one.storage_offset(), str(one.device)) for one in flat(out)]


GIVEN: dict[str, Callable[[], tuple[Any, tuple[Any, ...], dict[str, Any]]]] = {
    "product": lambda: (aten.mm.default, (torch.zeros(3, 5), torch.zeros(7, 5).t()), {}),
    "sum of two formats": lambda: (aten.add.Tensor, (torch.zeros(3, 5, dtype=torch.bfloat16), torch.zeros(5)), {}),
    "of two axes swapped": lambda: (aten.gelu.default, (torch.zeros(3, 5, 2).transpose(0, 1),), {}),
    "several": lambda: (aten.native_layer_norm.default, (torch.zeros(3, 5), [5], None, None, 1e-5), {}),
    "some left out": lambda: (
        aten.convolution_backward.default,
        (torch.zeros(2, 4, 3, 3), torch.zeros(2, 3, 5, 5), torch.zeros(4, 3, 3, 3), None, [1, 1], [0, 0], [1, 1],
         False, [0, 0], 1, [False, True, False]),
        {},
    ),
    "another format": lambda: (aten._to_copy.default, (torch.zeros(3, 5),), {"dtype": torch.float64}),
    "a view": lambda: (aten.slice.Tensor, (torch.zeros(9, 5)[2:], 0, 1, 6, 2), {}),
    "views": lambda: (aten.split.Tensor, (torch.zeros(9, 6), 2, 1), {}),
    "a view turned": lambda: (aten.t.default, (torch.zeros(9, 6),), {}),
    "new of a shape": lambda: (aten.zeros.default, ([3, 4],), {"dtype": torch.int64}),
    "a scalar": lambda: (aten.sum.default, (torch.zeros(9, 6),), {}),
    "nothing in it": lambda: (aten.relu.default, (torch.zeros(0, 6),), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_a_second_time_is_as_the_first(name: str, mode: FakeTensorMode) -> None:
    """Shapes, strides, formats, where a view begins: as torch has them, and known without torch the second time."""
    func, args, kwargs = GIVEN[name]()
    expected = told(func(*args, **kwargs))
    outputs = Outputs(mode)
    for _ in range(2):
        assert told(outputs.of(func, args, kwargs)) == expected
    calls = []

    def unasked(*args: Any, **kwargs: Any) -> None:
        calls.append(args)

    outputs._known = {(unasked, *key[1:]): recipe for key, recipe in outputs._known.items()}  # type: ignore[misc,index]
    assert told(outputs.of(unasked, args, kwargs)) == expected
    assert calls == []


def test_views_look_where_theirs_does(mode: FakeTensorMode) -> None:
    """Of another tensor of the same shape, which begins elsewhere, a view is that tensor's."""
    outputs = Outputs(mode)
    for x in (torch.zeros(9, 5), torch.zeros(12, 5)[3:]):
        view = outputs.of(aten.slice.Tensor, (x, 0, 2, 6), {})
        assert isinstance(view, FakeTensor)
        assert view.untyped_storage()._cdata == x.untyped_storage()._cdata
        assert view.storage_offset() == x.storage_offset() + 10


def test_new_memory_is_its_own(mode: FakeTensorMode) -> None:
    """What is made twice is two storages."""
    outputs, x = Outputs(mode), torch.zeros(4)
    made = [outputs.of(aten.relu.default, (x,), {}) for _ in range(3)]
    assert len({one.untyped_storage()._cdata for one in [x, *made]}) == 4


def test_what_is_changed_is_handed_back(mode: FakeTensorMode) -> None:
    """In place, of whichever tensor of that kind; an operator on lists gives nothing."""
    outputs = Outputs(mode)
    for x in (torch.zeros(4), torch.zeros(4)):
        assert outputs.of(aten.mul_.Tensor, (x, 2.0), {}) is x
        assert outputs.of(aten._foreach_add_.Scalar, ([x], 1.0), {}) is None


def test_numbers_of_two_kinds_are_two(mode: FakeTensorMode) -> None:
    """1 and 1.0 are equal, and make different formats; so do two defaults."""
    outputs, x = Outputs(mode), torch.zeros(4, dtype=torch.int64)
    assert [outputs.of(aten.add.Tensor, (x, one), {}).dtype for one in (1, 1.0, 1)] == [
        torch.int64, torch.float32, torch.int64,
    ]  # fmt: skip
    torch.set_default_dtype(torch.float64)
    try:
        assert outputs.of(aten.add.Tensor, (x, 1.0), {}).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_where_a_view_begins_is_asked_each_time(mode: FakeTensorMode) -> None:
    """`as_strided` goes by the storage, and is not remembered."""
    outputs, base = Outputs(mode), torch.zeros(20)
    for x in (base[:4], base[8:12]):
        assert outputs.of(aten.as_strided.default, (x, [2], [1], 3), {}).storage_offset() == 3


def test_what_is_written_to_is_handed_back(mode: FakeTensorMode) -> None:
    """An output that was given by name is that one, and not a new one."""
    outputs, x = Outputs(mode), torch.zeros(4)
    for _ in range(2):
        written = torch.zeros(4)
        assert outputs.of(aten.add.out, (x, x), {"out": written}) is written


def test_conjugates_are_asked_each_time(mode: FakeTensorMode) -> None:
    """They look as what they are of, and are not."""
    outputs, x = Outputs(mode), torch.zeros(4, dtype=torch.complex64)
    assert [outputs.of(aten._conj.default, (x,), {}).is_conj() for _ in range(2)] == [True, True]


def test_negatives_are_asked_each_time(mode: FakeTensorMode) -> None:
    """An imaginary part of a conjugate is one, of which copies are made later."""
    outputs, x = Outputs(mode), torch.zeros(4, dtype=torch.complex64)
    parts = [outputs.of(aten.view_as_real.default, (x,), {}) for _ in range(2)]
    turned = [outputs.of(aten._neg_view.default, (part,), {}) for part in parts]
    assert [one.is_neg() for one in turned] == [True, True]
    assert [outputs.of(aten.slice.Tensor, (one, 0, 0, 2), {}).is_neg() for one in turned] == [True, True]


def test_sparse_ones_are_asked_each_time(mode: FakeTensorMode) -> None:
    """They have no memory of their own to be told by."""
    outputs, x = Outputs(mode), torch.zeros(3, 3)
    for _ in range(2):
        assert outputs.of(aten._to_sparse.default, (x,), {}).layout is torch.sparse_coo


def test_real_tensors_are_not_remembered() -> None:
    """They have values."""
    outputs = Outputs(FakeTensorMode(allow_non_fake_inputs=True))
    out = outputs.of(aten.add.Tensor, (torch.ones(2), torch.ones(2)), {})
    assert torch.equal(out, torch.full((2,), 2.0))
    assert outputs._known == {}


def test_an_error_is_torch_s(mode: FakeTensorMode) -> None:
    """Each time."""
    outputs = Outputs(mode)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            outputs.of(aten.mm.default, (torch.zeros(3, 5), torch.zeros(3, 5)), {})


def test_tensors_are_found_in_lists() -> None:
    """However they nest."""
    x, y = torch.zeros(1), torch.zeros(2)
    found: list[Tensor] = flat(([x, None, 3], (y, "text"), x))
    assert [one is of for one, of in zip(found, (x, y, x), strict=True)] == [True] * 3
