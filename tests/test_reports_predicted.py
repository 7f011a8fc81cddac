"""What is said of how large a case may be: of which setting, and each method once."""

from __future__ import annotations

from typing import Any

from synthetic_records import case

from bench.fit import Fit, Found
from reports import forecast, predicted

LIMIT = 8 * 2**20


def fit(method: str, depth: int | None, batch: int | None, *, limit: int = LIMIT, **axes: Any) -> Fit:
    """What fits of a case: so many blocks, so many samples."""
    return Fit(
        case=case(method, **axes), limit_bytes=limit,
        depth=None if depth is None else Found(depth, 100), batch=None if batch is None else Found(batch, 100),
    )  # fmt: skip


def test_each_method_is_named_once() -> None:
    """Of the last setting, in the table's order."""
    fits = [fit(name, width * 10, width, width=width) for width in (64, 128) for name in ("bdia", "standard")]
    assert predicted.sentence(fits, "8MiB") == (
        "In 8MiB with width 128, predicted depths at batch 8 go to: standard 1280, bdia 1280; "
        "predicted batches at depth 12 go to: standard 128, bdia 128."
    )


def test_several_settings_of_a_method_are_told_apart() -> None:
    """By what of the dial is turned, where it is."""
    fits = [fit("standard", 5, 6), *(fit("bdia", 7, m, keep=keep, micro_batches=m) for keep in (0, 2) for m in (1, 4))]
    said = predicted.sentence(fits, "8MiB")
    assert said.endswith(
        "at depth 12 go to: standard 6, bdia 1, bdia (keep 2) 1, bdia (micro-batches 4) 4, bdia (micro-batches 4, "
        "keep 2) 4."
    )


def test_of_settings_as_large_the_last_is_told_and_named() -> None:
    """Loss chunks are no method's: what is said is said of one number of them."""
    fits = [fit("bdia", 7, chunks, loss_chunks=chunks) for chunks in (1, 8)]
    assert predicted.sentence(fits, "8MiB") == (
        "In 8MiB with loss chunks 8, predicted depths at batch 8 go to: bdia 7; predicted batches at depth 12 go to: "
        "bdia 8."
    )


def test_one_answer_of_two_is_told() -> None:
    """A depth that could not be predicted does not silence the batch."""
    assert predicted.sentence([fit("bdia", None, 8)], "8MiB") == (
        "In 8MiB, predicted batches at depth 12 go to: bdia 8."
    )  # fmt: skip
    assert predicted.sentence([fit("bdia", None, None)], "8MiB") == "Nothing could be predicted of what fits in 8MiB."


def test_a_table_shows_what_failed_beside_what_did_not() -> None:
    """The status stands in the place of the size."""
    one = Fit(
        case=case("bdia"), limit_bytes=LIMIT, batch=Found(8, 100), status="error", message="depth: no such depth",
    )  # fmt: skip
    sheet = predicted.fitting([one], "8MiB")
    assert sheet is not None
    assert [cell.text for cell in sheet.lines[0].cells][-4:] == ["error", "—", "8", "100 B"]
    assert any("depth: no such depth" in note for note in sheet.notes)


def test_each_limit_has_a_table(capsys: Any) -> None:
    """A directory that was asked of two limits shows both."""
    forecast.show_fits([fit("bdia", 7, 8), fit("bdia", 14, 16, limit=2 * LIMIT)])
    out = capsys.readouterr().out.replace("\u00a0", " ")
    assert "In 8.0 MiB, predicted depths at batch 8 go to: bdia 7;" in out
    assert "In 16.0 MiB, predicted depths at batch 8 go to: bdia 14;" in out
    forecast.show_fits([])
    assert capsys.readouterr().out == ""
