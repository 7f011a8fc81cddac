"""Imports flow one way, torch <- bdia <- bench <- reports <- cli.py, and the quick commands import little."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("bdia", "bench", "reports", "cli")
"""Each may import from itself and from those before it."""
SOURCES = [*sorted(path for layer in LAYERS[:3] for path in (ROOT / layer).rglob("*.py")), ROOT / "cli.py"]
HEAVY = ("torch", "numpy", "pandas", "matplotlib", "sklearn")
TORCHLESS = (
    "bench.against", "bench.axes", "bench.baseline", "bench.case", "bench.compare", "bench.comparison", "bench.curves",
    "bench.errors", "bench.events", "bench.examination", "bench.experiments", "bench.explain", "bench.frontier",
    "bench.frontier_events", "bench.frontier_run", "bench.frontier_search", "bench.frontier_session", "bench.gamma",
    "bench.launch", "bench.options", "bench.recipe", "bench.record", "bench.repository", "bench.rerun",
    "bench.session", "bench.slopes", "bench.store", "bench.streams", "bench.suite", "bench.train_events",
    "bench.train_run", "bench.train_session", "bench.training.folders", "bench.training.schedule", "bench.watches",
    "bdia", "bdia.errors", "bdia.methods", "cli", "reports.gate", "reports.request",
)  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every import of a file, wherever in the file it stands."""
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield node.lineno, ".".join([*base, *([node.module] if node.module else [])])


def importers(library: str) -> set[str]:
    """The files that import `library`."""
    return {name_of(path) for path in SOURCES for _, name in imported(path) if name.partition(".")[0] == library}


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_imports_against_the_arrow(path: Path) -> None:
    """A file imports only from its own layer and from those below it."""
    layer = LAYERS.index(path.relative_to(ROOT).parts[0].removesuffix(".py"))
    above = LAYERS[layer + 1 :]
    wrong = [f"line {line}: {name}" for line, name in imported(path) if name.partition(".")[0] in above]
    assert not wrong, f"{name_of(path)} imports from a layer above its own: {', '.join(wrong)}"


def test_the_code_imports_no_tests() -> None:
    """No file of the project imports a test."""
    assert importers("tests") == set()


def test_torch_stays_below_the_reports() -> None:
    """Neither the reports nor the command line import torch."""
    assert not {name for name in importers("torch") if name.startswith(("reports/", "cli"))}


def test_only_the_figures_import_matplotlib() -> None:
    """Drawing is confined to the figures."""
    assert {name for name in importers("matplotlib") if not name.startswith("reports/figures")} == set()


def test_only_the_reports_import_pandas() -> None:
    """Records become frames in the reports and nowhere else."""
    assert {name for name in importers("pandas") if not name.startswith("reports/")} == set()


def test_only_the_tables_build_rich_tables() -> None:
    """Rich tables are built in one file; five others print: lines with a bar, three kinds of progress, and pages."""
    assert importers("rich") <= {
        "reports/tables.py",
        "reports/bar.py",
        "reports/progress.py",
        "reports/frontier_live.py",
        "reports/page.py",
        "reports/train_live.py",
    }
    assert {name_of(path) for path in SOURCES for _, name in imported(path) if name == "rich.table"} == {
        "reports/tables.py"
    }


def test_only_the_command_line_imports_typer() -> None:
    """The packages are usable without the command line."""
    assert importers("typer") == {"cli.py"}


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if name_of(path).startswith(("reports/", "cli"))], ids=name_of
)
def test_units_alone_format(path: Path) -> None:
    """No file that shows numbers formats them itself: that is the work of `reports/units.py`."""
    if name_of(path) == "reports/units.py":
        return
    specs = [
        (node.lineno, part.value)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None
        for part in ast.walk(node.format_spec)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    assert not [(line, spec) for line, spec in specs if spec.endswith((*"eEfFgG%n", ","))]


def test_modules_that_need_no_torch_import_none() -> None:
    """Cases, suites, records, the store and the comparison work without torch, pandas or matplotlib."""
    code = f"import sys, importlib\nfor name in {TORCHLESS}: importlib.import_module(name)\n"
    assert in_a_fresh_process(code + f"print([name for name in {HEAVY} if name in sys.modules])") == "[]\n"


@pytest.mark.parametrize("arguments", ["--help", "--version", "list", "run --help", "check --help"])
def test_quick_commands_import_nothing_heavy(arguments: str) -> None:
    """`--help` and `list` answer without torch, pandas or matplotlib."""
    code = (
        "import sys, cli\n"
        f"assert cli.execute({arguments.split()!r}) == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert in_a_fresh_process(code).splitlines()[-1] == "[]"
