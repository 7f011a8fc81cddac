"""The file of curves: what it holds after whatever has happened to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import curves
from bench.curves import Curves, Point
from bench.errors import UsageError

ONE = Point(arm="bdia", seed=0, step=5, name="validation_loss", value=2.5)
OTHER = Point(arm="bdia", seed=0, step=5, name="reconstruction_error", value=0.0, block=3)


def append(directory: Path, *points: Point) -> None:
    with Curves(directory) as opened:
        opened.append(points)


def test_points_come_back_as_they_were_written(tmp_path: Path) -> None:
    """A value that is not finite is null, and what a point does not have is not in its line."""
    lost = Point(arm="bdia", seed=1, step=0, name="accuracy_at_gamma", value=None, gamma=-0.5)
    append(tmp_path, ONE, OTHER)
    append(tmp_path, lost)
    assert curves.read(tmp_path) == [ONE, OTHER, lost]
    lines = (tmp_path / curves.CURVES).read_text().splitlines()
    assert lines[0] == '{"arm":"bdia","seed":0,"step":5,"name":"validation_loss","value":2.5}'


def test_of_points_with_one_key_the_last_counts(tmp_path: Path) -> None:
    """A run that goes on tells some points again; those that differ in block or γ are others."""
    again = Point(arm="bdia", seed=0, step=5, name="validation_loss", value=2.25)
    beside = Point(arm="bdia", seed=0, step=5, name="reconstruction_error", value=1.0, block=4)
    append(tmp_path, ONE, OTHER, again, beside)
    assert curves.read(tmp_path) == [again, OTHER, beside]


@pytest.mark.parametrize("torn", [b'{"arm":"bdia","se', b"\xff\xfe", b"{}", b"[" * 5000])
def test_a_torn_line_is_left_out_and_cut_off(torn: bytes, tmp_path: Path) -> None:
    """What was cut off as it was written is no point, and does not spoil the next."""
    append(tmp_path, ONE)
    file = tmp_path / curves.CURVES
    file.write_bytes(file.read_bytes() + torn)
    assert curves.read(tmp_path) == [ONE]
    append(tmp_path, OTHER)
    assert curves.read(tmp_path) == [ONE, OTHER]
    assert file.read_bytes().count(b"\n") == 2


def test_a_last_line_that_lacks_its_end_is_kept(tmp_path: Path) -> None:
    """A whole point without a line break gets one."""
    append(tmp_path, ONE)
    file = tmp_path / curves.CURVES
    file.write_bytes(file.read_bytes().rstrip())
    append(tmp_path, OTHER)
    assert curves.read(tmp_path) == [ONE, OTHER]


def test_a_run_without_curves_has_none(tmp_path: Path) -> None:
    """Only a file that is there and cannot be read is an error."""
    assert curves.read(tmp_path) == []
    (tmp_path / curves.CURVES).mkdir()
    with pytest.raises(UsageError, match="give the directory of a run"):
        curves.read(tmp_path)
