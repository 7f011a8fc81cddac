"""`frontier` on the command line: what it refuses, what it prints, how it is gone on with, and one that measures."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from synthetic_records import CPU

import cli
from bench import frontier, frontier_run, frontier_session, models, probe, store
from bench.environment import Environment
from bench.frontier_events import Doing, FrontierEvent
from bench.frontier_run import Settings
from bench.models import ModelSpec

FAKE = Path(__file__).with_name("fake_prober.py")
SIZES = ("--depth", "2", "--width", "32", "--heads", "2", "--seq", "64", "--device", "cpu")
Answer = tuple[int, str, str]
Bench = Callable[..., Answer]


@pytest.fixture(autouse=True)
def a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    """Runs one command line in this process, with children that measure nothing: its exit code, stdout and stderr."""
    mib = 2**20
    lines = {"standard": [mib, 400_000], "checkpoint": [mib, 100_000], "bdia": [mib, 80_000]}
    monkeypatch.setattr(probe, "probe", lambda device, threads: CPU)
    monkeypatch.setattr(frontier_session, "Settings", functools.partial(Settings, worker=FAKE))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FAKE_MEMORY", json.dumps(lines))

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = cli.execute([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "--memory: a CPU has no memory of its own that a step must fit into"),
        ("--memory lots", "--memory 'lots': expected a size above 0 with its unit, as in 4GiB"),
        ("--memory 0GiB", "--memory '0GiB': expected a size above 0"),
        ("--memory 17GiB", "--memory 17GiB: this machine has 16.0 GiB; give less"),
        ("--memory 1GiB --over width", "--over 'width': did you mean 'depth'? expected one of batch, seq, depth"),
        ("--memory 1GiB --over bacth", "did you mean 'batch'?"),
        ("--memory 1GiB --batch 4,8", "--batch 4,8: --over batch looks for it; leave it out"),
        ("--memory 1GiB --over depth --depth 4", "--depth 4: --over depth looks for it"),
        ("--memory 1GiB --train-steps 5", "--train-steps 5: memory does not depend on it"),
        ("--memory 1GiB --method bdai", "did you mean 'bdia'?"),
        ("--memory 1GiB --model vit --over seq", "--over seq: vit has no seq; take --over batch or depth"),
        (
            "--memory 1GiB --model resnet --over depth --step 4",
            "--over depth: of resnet a multiple of 3; take --step 3",
        ),
        ("--memory 1GiB --step 0", "--step '0': expected a whole number, at least 1"),
        ("--memory 1GiB --over seq --most 32", "--most 32: the first seq to try is 64"),
        ("--memory 1GiB --resume", "name its directory with --out"),
        ("--memory 1GiB --device cpu,cuda", "a run is on one device"),
        ("--memory 1GiB --method standard --keep 2", "runs no block again"),
        ("nope --memory 1GiB", "unknown suite 'nope'"),
    ],
)
def test_bad_input_is_one_line(bench: Bench, line: str, said: str) -> None:
    """What cannot be is one line with the cure, code 2, and nothing is written."""
    code, out, err = bench("frontier", *line.split())
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err
    assert list(Path().iterdir()) == []


def test_a_checkpoint_has_the_depth_it_has(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The depth of a model whose sizes are fixed is not looked for."""
    spec = ModelSpec("hf:./mine", "", "text", models.TEXT_AXES, {"depth": 12}, fixed=True)
    monkeypatch.setattr(probe, "introduce", lambda names: {"hf:./mine": spec})
    code, _, err = bench("frontier", "--memory", "1GiB", "--over", "depth")
    assert code == 2
    assert "--over depth: hf:./mine is a checkpoint of 12 blocks; take --over batch" in err


@pytest.mark.parametrize(
    ("asked", "limit", "text"), [((), 80 * 2**30, "A card"), (("--memory", "24GiB"), 24 * 2**30, "24GiB")]
)
def test_on_a_card_its_memory_is_the_limit(
    monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...], limit: int, text: str
) -> None:
    """All of it unless less is asked for, and children are held to it; more than it has is refused."""
    card: Environment = msgspec.structs.replace(CPU, device="cuda", gpu_name="A card", gpu_memory_bytes=80 * 2**30)
    monkeypatch.setattr(probe, "probe", lambda device, threads: card)
    given = None if not asked else frontier_session.Limit(asked[1], limit)
    request = frontier_session.Request(suite="frontier", axes={}, arguments=[], memory=given)
    settings = frontier_session.prepare(request).settings()
    assert (settings.limit, settings.limit_text, settings.on_card, settings.process_limit) == (limit, text, True, None)
    code = cli.execute(["frontier", "--memory", "81GiB"])
    assert code == 2


def test_a_frontier_ends_with_a_table_a_sentence_and_figures(bench: Bench) -> None:
    """Probes as they come on stderr; then the table, the verdict and the figures, in a directory of its own."""
    code, out, err = bench("frontier", "--memory", "16MiB", *SIZES)
    assert code == 0
    assert "standard" in err
    assert "fits" in err
    assert "does not fit" in err
    assert "largest: 20 training steps fit" in err
    assert out.replace("\u00a0", " ").startswith("frontier · within 16.0 MiB · gpt")
    assert "Within 16.0 MiB, bdia (micro-batches 4) trains batch 786 where standard trains batch 39" in out
    (directory,) = Path("results").iterdir()
    assert directory.name.startswith("frontier-batch-")
    drawn = {path.name for path in (directory / "figures").iterdir()}
    assert {"pareto.png", "frontier.png", "limit.png", "pareto.csv", "frontier.csv", "limit.csv"} <= drawn
    told = json.loads((directory / frontier_run.OUTCOMES).read_text())
    assert [one["value"] for one in told["largest"]] == [39, 157, 196, 393, 786]


def test_a_report_tells_it_again(bench: Bench) -> None:
    """`report` prints the same table and sentence from the records, in every format that has them."""
    _, out, _ = bench("frontier", "--memory", "16MiB", *SIZES, "--out", "out", "--no-figures")
    _, again, _ = bench("report", "out")
    table = out[: out.index("\n\n", out.index("probes"))]
    assert again.startswith(table)
    for format_ in ("markdown", "latex"):
        assert "frontier" in bench("report", "out", "--format", format_)[1]
    html = bench("report", "out", "--format", "html")[1]
    assert "trains batch 786" in html
    assert "frontier-" in html
    records = json.loads(bench("report", "out", "--format", "json")[1])
    assert sum(one["confirmed_steps"] == 20 for one in records) == 5
    code, _, err = bench("report", "out", "--figure", "limit")
    assert (code, "limit.png" in err) == (0, True)


def test_ctrl_c_says_how_to_go_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption is one line with the command that goes on, which measures what is left."""
    real = frontier_run.run

    def interrupted(plans: Any, opened: Any, settings: Any, tell: Callable[[FrontierEvent], None]) -> Any:
        def stop(event: FrontierEvent) -> None:
            tell(event)
            if isinstance(event, Doing) and event.number == 3:
                raise KeyboardInterrupt

        return real(plans, opened, settings, stop)

    monkeypatch.setattr(frontier_run, "run", interrupted)
    code, _, err = bench("frontier", "--memory", "16MiB", *SIZES, "--out", "out")
    assert code == 130
    assert "2 probes are in out; go on with: bdia-bench frontier --memory 16MiB" in err
    monkeypatch.setattr(frontier_run, "run", real)
    command = err.splitlines()[-1].rpartition("bdia-bench ")[2].split()
    before = (Path("out") / store.RESULTS).read_bytes()
    assert bench(*command)[0] == 0
    assert (Path("out") / store.RESULTS).read_bytes().startswith(before)


def test_another_frontier_and_another_run_are_not_mixed_in(bench: Bench) -> None:
    """A directory holds one frontier: neither another limit nor a run of the suite goes on in it."""
    bench("frontier", "--memory", "16MiB", *SIZES, "--method", "standard", "--out", "out", "--no-figures")
    code, _, err = bench("frontier", "--memory", "16MiB", *SIZES, "--out", "out")
    assert (code, "holds another run" in err) == (2, True)
    code, _, err = bench("frontier", "--memory", "8MiB", *SIZES, "--out", "out", "--resume")
    assert (code, "holds a frontier over batch by 1 within 16777216 bytes" in err) == (2, True)
    code, _, err = bench("run", "frontier", *SIZES, "--out", "out", "--resume")
    assert (code, "holds a run of suite frontier of frontier, not frontier" in err) == (2, True)


def test_nothing_that_fits_has_a_code(bench: Bench) -> None:
    """Where no method has a value that fits, the rows say so, and the code is 5."""
    code, out, _ = bench("frontier", "--memory", "1MiB", *SIZES, "--no-figures")
    assert code == 5
    assert "none" in out
    assert "Nothing fits 1.0 MiB" in out


def test_the_largest_that_is_found_is_the_largest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With real children on a CPU: what is found fits, one sample more was measured not to, and twenty steps did."""
    monkeypatch.setattr(probe, "probe", lambda device, threads: CPU)
    settings = ("--method", "bdia", "--micro-batches", "1", "--rounds", "2", "--warmup", "1", "--no-figures")
    code = cli.execute(["frontier", "--memory", "2MiB", *SIZES, *settings, "--out", "out"])
    assert code == 0, capsys.readouterr().err
    records = store.read(Path("out")).records
    (one,) = frontier.largests(records)
    assert one.value is not None
    assert (one.ending, one.confirmed_steps, one.beyond) == ("found", 20, one.value + 1)
    peaks = {record.batch: record.peak_bytes or 0 for record in records}
    assert peaks[one.value] <= 2 * 2**20 < peaks[one.beyond]
    assert one.probes <= 12
    assert one.tokens_per_second is not None
