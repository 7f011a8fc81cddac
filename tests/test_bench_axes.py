"""Reading the values of axes."""

from __future__ import annotations

import pytest

from bench import axes
from bench.case import Case
from bench.errors import UsageError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4", (4,)),
        ("4,8,16", (4, 8, 16)),
        (" 4 , 8 ", (4, 8)),
        ("4:64:x2", (4, 8, 16, 32, 64)),
        ("4:63:x2", (4, 8, 16, 32)),
        ("4:16:+4", (4, 8, 12, 16)),
        ("4:15:+4", (4, 8, 12)),
        ("6:6:x2", (6,)),
        ("2,4:16:x2,4", (2, 4, 8, 16)),
    ],
)
def test_whole_numbers_are_read(text: str, values: tuple[int, ...]) -> None:
    """A value, a list, a geometric and an arithmetic range are read, ends included and repeats dropped."""
    assert axes.parse("depth", text) == values


def test_words_are_read() -> None:
    """Axes of words take a value or a list."""
    assert axes.parse("method", "standard,bdia") == ("standard", "bdia")
    assert axes.parse("dtype", "fp32,bf16-amp") == ("fp32", "bf16-amp")


def test_spellings_of_one_value_are_one_value() -> None:
    """Values of γ that differ in nothing but their spelling count once; a file may give a number."""
    assert axes.parse("gamma", ".5,0.50,uniform:.5") == ("0.5", "uniform:0.5")
    assert axes.check("gamma", 0.25, "mine.toml: gamma") == "0.25"


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("depth", "0", ("--depth 0", "at least 1")),
        ("depth", "-3", ("--depth -3", "at least 1")),
        ("depth", "", ("--depth ''", "whole number")),
        ("accumulate", "0", ("--accumulate 0", "at least 1")),
        ("accumulate", "1,2,x", ("--accumulate 'x'", "whole number at least 1")),
        ("loss_chunks", "-1", ("--loss-chunks -1", "at least 1")),
        ("loss_chunks", "1.5", ("--loss-chunks '1.5'", "whole number")),
        ("depth", "4,", ("--depth ''", "whole number")),
        ("depth", "six", ("--depth 'six'", "whole number")),
        ("depth", "6.0", ("--depth '6.0'", "whole number")),
        ("depth", "9" * 5000, ("--depth", "whole number")),
        ("depth", "99999999999", ("--depth 99999999999", "whole number")),
        ("depth", "4:64", ("'4:64'", "4:64:x2")),
        ("depth", "4:64:2", ("'4:64:2'", "4:16:+4")),
        ("depth", "64:4:x2", ("'64:4:x2'", "smaller end first")),
        ("depth", "4:64:x1", ("'4:64:x1'", "factor above 1")),
        ("depth", "4:64:+0", ("'4:64:+0'", "at least 1")),
        ("depth", "0:64:+8", ("'0:64:+8'", "at least 1")),
        ("depth", "1:2000000000:+1", ("more than 1000", "larger step")),
        ("train_steps", "0:64:x2", ("'0:64:x2'", "above 0")),
        ("train_steps", "-1", ("--train-steps -1", "at least 0")),
        ("seed", "-1", ("--seed -1", "at least 0")),
        ("batch", "0", ("--batch 0", "at least 1")),
        ("bits", "0", ("--bits 0", "from 1 to 23", "24 significant bits")),
        ("bits", "24", ("--bits 24", "from 1 to 23", "24 significant bits")),
        ("dtype", "fp64", ("--dtype 'fp64'", "fp32, bf16-amp, bf16")),
        ("method", "", ("--method ''", "a name")),
        ("gamma", "2", ("--gamma '2'", "from 0 to 1", "uniform:0.5")),
        ("gamma", "foo", ("--gamma 'foo'", "from 0 to 1", "normal:0.3")),
        ("gamma", "0.5,", ("--gamma ''", "a number g")),
        ("dpeth", "4", ("'dpeth'", "did you mean 'depth'?")),
    ],
)
def test_a_wrong_value_is_one_line_with_the_cure(name: str, text: str, parts: tuple[str, ...]) -> None:
    """A wrong value is refused in one line that has the value and what was expected."""
    with pytest.raises(UsageError) as caught:
        axes.parse(name, text)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("value", [True, 6.0, "6", None, 0])
def test_a_typed_value_must_be_of_the_axis(value: object) -> None:
    """A value from a file must have the axis's type: no boolean, fraction or text passes for a number."""
    with pytest.raises(UsageError, match=r"^mine\.toml: depth .*expected a whole number at least 1$"):
        axes.check("depth", value, "mine.toml: depth")


def test_every_axis_is_a_field_of_the_case() -> None:
    """The table's names are `Case`'s fields, all but the path of the data and the arm of an experiment."""
    assert set(axes.NAMES) == set(Case.__struct_fields__) - {"data", "arm"}


def test_options_are_named_after_axes() -> None:
    """Options are the axes' names with dashes, and l has its short form."""
    assert axes.get("train_steps").option == "--train-steps"
    assert axes.get("bits").alias == "-l"
