"""The stacked figure of where the bytes are."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import matplotlib
import msgspec
import pandas as pd
import pytest
import synthetic_records as synthetic
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench import parts
from bench.errors import UsageError
from bench.record import Record
from reports import figures, units
from reports.figures import by_part, style
from reports.figures.by_part import FILLS, NAMES
from reports.frame import frame, rows

FAILING = [
    *synthetic.depth_suite((12,), ("standard", "checkpoint", "bdia-naive", "bdia")),
    synthetic.failed(synthetic.case("bdia-stored"), "timeout", "late"),
]


def crowded() -> list[Record]:
    """Every part there is, a rest below 0, a failed case and a long name."""
    *others, bdia = synthetic.depth_suite((12,), ("standard", "checkpoint", "bdia"))
    assert bdia.peak_parts is not None
    flat = parts.flat(bdia.peak_parts) | {
        ("rng_states", 3): 5 * 2**20, ("optimizer_step", None): 20 * 2**20, ("other", None): -30 * 2**20,
    }  # fmt: skip
    packed = parts.packed(flat)
    return [
        *others,
        msgspec.structs.replace(bdia, peak_parts=packed, peak_bytes=parts.total(packed)),
        msgspec.structs.replace(others[0], method="mine.py:BLOCKWISE_OFFLOAD"),
        synthetic.failed(synthetic.case("bdia-stored"), "timeout", "late"),
    ]


def size(table: pd.DataFrame) -> tuple[float, float]:
    return by_part.size(figures.plots(table)["memory-parts"])


def drawn(records: list[Record]) -> Axes:
    """The figure at its own size, laid out."""
    table = frame(records)
    with matplotlib.rc_context(dict(style.HOUSE)):
        figure = Figure(figsize=size(table), layout="constrained")
        ax = figures.memory_parts(table, figure.add_subplot())
        figure.draw_without_rendering()
    return ax


def stacks(ax: Axes) -> list[list[Rectangle]]:
    """The pieces of each bar, from the top bar down."""
    pieces = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    return [list(bar) for _, bar in itertools.groupby(pieces, key=lambda piece: piece.get_y())]


def test_bars_are_the_figures_stacked_from_their_parts() -> None:
    """Each bar ends at its figure; its pieces join, in the order of the parts, in their colours and widths."""
    records = synthetic.depth_suite((12,))
    ax = drawn(records)
    assert ax.get_xscale() == "linear"
    expected = [(record, "activation") for record in records] + [(record, "peak") for record in records]
    for bar, (record, figure) in zip(stacks(ax), expected, strict=True):
        held = parts.totals(getattr(record, f"{figure}_parts"))
        assert [to_hex(piece.get_facecolor()) for piece in bar] == [FILLS[name].color for name in held]
        assert [round(piece.get_width() * 2**20) for piece in bar] == list(held.values())
        assert bar[0].get_x() == 0
        assert all(left.get_x() + left.get_width() == right.get_x() for left, right in itertools.pairwise(bar))
        assert round((bar[-1].get_x() + bar[-1].get_width()) * 2**20) == getattr(record, f"{figure}_bytes")


def test_each_bar_tells_its_number() -> None:
    """The figure stands at the end of its bar, the side bits beside it where too thin to see, and how a case failed."""
    texts = [text.get_text() for text in drawn(FAILING).texts]
    for record in FAILING[:-1]:
        for nbytes in (record.activation_bytes, record.peak_bytes):
            assert units.ByteScale("MiB", 1).number(nbytes) in texts
    assert texts.count("side bits 768.0 KiB") == 2
    assert texts.count("timeout") == 2
    assert {"activation memory", "whole-step peak"} <= set(texts)
    wide = [msgspec.structs.replace(record, width=8) for record in synthetic.depth_suite((12,), ("bdia",))]
    held = {"side_bits": {"1-11": 2 * 2**20}, "block": {"11": 22 * 2**20}}
    wide = [msgspec.structs.replace(wide[0], activation_parts=held, peak_parts=None, activation_bytes=44 * 2**20)]
    assert not [text for text in drawn(wide).texts if text.get_text().startswith("side bits")]


@pytest.mark.parametrize(
    "records", [synthetic.quick_suite(), FAILING, crowded(), synthetic.depth_suite((6,), ("bdia",))]
)
def test_no_text_is_cut_or_covered(records: list[Record]) -> None:
    """At its own size, every text lies within the figure, behind its bar, and on no other text."""
    ax = drawn(records)
    figure = ax.get_figure(root=True)
    assert figure is not None
    legend = ax.get_legend()
    assert legend is not None
    labels = [label for label in ax.get_yticklabels() if label.get_text()]
    boxes = [text.get_window_extent() for text in (*ax.texts, *labels)] + [legend.get_window_extent()]
    for box in boxes:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    for one, other in itertools.combinations(boxes, 2):
        apart = one.x1 <= other.x0 or other.x1 <= one.x0
        # Fonts keep some room above and below for letters that the line does not have.
        assert apart or min(one.y1, other.y1) - max(one.y0, other.y0) < 0.3 * min(one.height, other.height)
    pieces = [piece.get_window_extent() for bar in stacks(ax) for piece in bar]
    for box in boxes[: len(ax.texts)]:
        assert not [piece for piece in pieces if piece.x1 > box.x0 + 0.5 and piece.x0 < box.x1
                    and piece.y0 < (box.y0 + box.y1) / 2 < piece.y1]  # fmt: skip


def test_the_legend_has_all_parts() -> None:
    """Those that occur are named in their order, be they too thin to be seen, and no other."""

    def named(records: list[Record]) -> list[str]:
        legend = drawn(records).get_legend()
        assert legend is not None
        return [text.get_text() for text in legend.get_texts()]

    assert named(synthetic.depth_suite((12,))) == [
        "parameters", "gradients", "optimiser state", "batch", "residual states", "side bits", "blocks",
        "head and loss", "other",
    ]  # fmt: skip
    assert "side bits" not in named(synthetic.depth_suite((12,), ("standard", "checkpoint")))
    assert named(crowded()) == [NAMES[name] for name in parts.NAMES]


def test_parts_look_unlike_methods_and_one_another() -> None:
    """No part has the colour of a method; in grey, neighbours differ by a hatch or by far in lightness."""
    assert list(FILLS) == list(NAMES) == list(parts.NAMES)
    methods = {look.color.lower() for look in style.looks([*synthetic.METHODS, "a", "b", "c", "d", "e"]).values()}
    assert not methods & {fill.color.lower() for fill in FILLS.values()}
    assert len({fill.color for fill in FILLS.values()}) == len(FILLS)

    def lightness(color: str) -> float:
        red, green, blue = (int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for one, other in itertools.combinations(FILLS.values(), 2):
        assert one.hatch != other.hatch or abs(lightness(one.color) - lightness(other.color)) > 0.1


def test_the_numbers_beside_it_add_up(tmp_path: Path) -> None:
    """The CSV has a row a bar, whose parts sum to its bytes; a failed case is a row without."""
    figures.save("memory-parts", frame(crowded()), tmp_path, ["svg"])
    found = list(csv.DictReader((tmp_path / "memory-parts.csv").read_text(encoding="utf-8").splitlines()))
    assert len(found) == 2 * 5
    for row in found:
        sizes = [row[name] for name in parts.NAMES if row.get(name)]
        assert (
            (sum(map(int, sizes)) == int(row["bytes"]))
            if row["status"] == "ok"
            else (sizes == [] == list(row["bytes"]))
        )
    assert {(row["figure"], row["status"]) for row in found if row["method"] == "bdia-stored"} == {
        ("activation_bytes", "timeout"), ("peak_bytes", "timeout"),
    }  # fmt: skip


def test_one_setting_is_drawn_and_named() -> None:
    """Of depths, models, seeds and l, one bar a method, at the deepest point of the setting with the most methods."""
    others = [msgspec.structs.replace(record, model="other") for record in synthetic.depth_suite((48,), ("bdia",))]
    more = [synthetic.full(synthetic.case("bdia", depth=24, bits=bits)) for bits in (6, 12)]
    table = frame([*synthetic.quick_suite(), *others, *more, synthetic.full(synthetic.case("bdia", depth=24, seed=1))])
    assert figures.setting("memory-parts", table) == "model gpt, depth 24, l 9, seed 0"
    found = rows(figures.plots(table)["memory-parts"].numbers)
    assert [row["method"] for row in found] == 2 * list(synthetic.METHODS)
    legend = figures.memory_parts(table).get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "model gpt, depth 24, l 9, seed 0"


def test_it_is_as_high_as_it_has_bars(tmp_path: Path) -> None:
    """A column wide; more bars make it higher, and a size asked for is kept."""
    few, many = (frame(synthetic.depth_suite((6,), methods)) for methods in (("bdia",), synthetic.METHODS))
    assert size(few)[0] == size(many)[0] == style.COLUMN[0]
    assert size(few)[1] < size(many)[1]
    asked = figures.save("memory-parts", many, tmp_path, ["svg"], size=(5, 4))[0]
    assert 'width="360pt" height="288pt"' in asked.read_text()
    own = figures.memory_parts(many).get_figure(root=True)
    assert isinstance(own, Figure)
    assert tuple(own.get_size_inches()) == size(many)


def test_without_parts_it_says_what_it_needs() -> None:
    """Records of before there were parts make no figure."""
    old = [msgspec.structs.replace(one, activation_parts=None, peak_parts=None) for one in synthetic.depth_suite()]
    assert "memory-parts" not in figures.available(frame(old))
    with pytest.raises(UsageError, match="needs cases of which it was measured what their memory is made of"):
        figures.memory_parts(frame(old))
