"""The command line: arguments in, a function of the packages called, an exit code out.

What is imported up here is light, so that `--help` and `list` answer at once; torch, pandas and matplotlib are
imported inside the commands that need them. Exit codes are those of `bench.errors`.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from bdia.errors import BdiaError
from bench import axes, errors, limits, options, signals, skipping, streams, suite
from bench import tolerance as tolerances
from bench.errors import BenchError
from bench.record import Record
from reports.request import FORMATS, PICTURES, Request

PROGRAM = "bdia-bench"
GARBAGE_AT = 1_000_000
"""New objects after which the collector of garbage has a look at them."""

app = typer.Typer(
    help="Measures what reversible backprop saves over standard backprop, what it costs, and whether the "
    "gradients are still right.",
    epilog="Exit codes: 0 ok · 1 regression · 2 usage · 3 a case ended in oom, timeout or error · "
    "4 no baseline to compare with · 5 nothing measured · 130 interrupted",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The console command."""
    # What a command reads and prints stays until it ends. Looking it through for cycles again and again, as there comes
    # to be more of it, takes a quarter of the time of a report on many records.
    gc.set_threshold(GARBAGE_AT)
    streams.open_missing()
    code = signals.heeded_to_the_end(lambda: execute(sys.argv[1:]))
    # Nor need what is left be looked through at the end, which takes half a second of a report's figures.
    gc.freeze()
    sys.exit(code)


def execute(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code. Whatever goes wrong on purpose is one line on stderr."""
    code = errors.EXIT_OK
    try:
        code = _answer(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        return _refuse(arguments, "interrupted", errors.EXIT_BY_SIGNAL + signals.number(interrupt))
    except BrokenPipeError:
        # Whoever read has left, as `head` does.
        streams.abandon(sys.stdout)
    except OSError as error:
        streams.abandon(sys.stdout)
        where, why = error.filename or "the output", error.strerror or error
        return _fail(f"{where}: {why}; give a place that can be written", errors.EXIT_USAGE)
    return code


def _answer(arguments: Sequence[str]) -> int:
    """The exit code of one command line, and one line on stderr for whatever went wrong on purpose."""
    try:
        command = typer.main.get_command(app)
        with command.make_context(PROGRAM, list(arguments) or ["--help"], obj=list(arguments)) as context:
            code = command.invoke(context)
    except typer.Exit as exit_:
        return exit_.exit_code
    except BenchError as error:
        return _refuse(arguments, error, error.exit_code)
    except BdiaError as error:
        return _refuse(arguments, error, errors.EXIT_USAGE)
    except Exception as error:
        # Typer's own usage errors: their classes have moved between its versions, this method has not.
        if not hasattr(error, "format_message"):
            raise
        return _refuse(arguments, options.complaint(error, PROGRAM), errors.EXIT_USAGE)
    return code if isinstance(code, int) else errors.EXIT_OK


def _refuse(arguments: Sequence[str], error: object, code: int) -> int:
    """One line on stderr, and of a `check` what a CI reads as well."""
    if list(arguments[:1]) == ["check"]:
        from reports import published

        published.publish_error(errors.one_line(error), code, os.environ, json="--json" in arguments)
    return _fail(error, code)


def _with_axes(command: Callable[..., int]) -> Callable[..., int]:
    """Gives a command an option for each axis of `bench.axes`; its parameter `given` gets their texts by name."""

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> int:
        texts = {name: arguments.pop(name) for name in axes.NAMES}
        return command(given={name: text for name, text in texts.items() if text is not None}, **arguments)

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "given"]
    added = [_axis_option(axis) for axis in axes.AXES]
    setattr(wrapper, "__signature__", signature.replace(parameters=[*own, *added]))  # noqa: B010
    return wrapper


def _axis_option(axis: axes.Axis) -> inspect.Parameter:
    names = [axis.option, *([axis.alias] if axis.alias else [])]
    summary = f"{axis.summary}: {', '.join(axis.choices)}" if axis.choices else axis.summary
    panel = "Axes: one value, a list 4,8,16, or a range 4:64:x2 or 4:16:+4"
    option = typer.Option(*names, metavar="VALUES", help=summary, rich_help_panel=panel)
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(axis.name, kind, default=None, annotation=Annotated[str | None, option])


RunDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a run: its --out.")]
Data = Annotated[
    str | None, typer.Option(metavar="PATH", help="A text file, nanoGPT's .bin, or CIFAR's folder of .bin files.")
]
Base = Annotated[Path, typer.Argument(metavar="BASE", help="The directory of one run, or a baseline's file.")]
Head = Annotated[Path, typer.Argument(metavar="HEAD", help="The other.")]
Tolerance = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[METRIC=]T",
        parser=tolerances.checked,
        help="What still counts as the same, over the suite's own: of bytes a share as in 0.5%, or bytes as in 64KiB; "
        "of one metric as in gradient_error=20x. May be repeated.",
    ),
]
NoFigures = Annotated[bool, typer.Option("--no-figures", help="Draw none; report --figures does later.")]
Rows = Annotated[
    str | None, typer.Option("--rows", metavar="N|all", help="Rows of a table, at most; 200 unless given.")
]


def _count(option: str, said: str) -> Any:
    """An option that takes a whole number from 1 on."""
    return typer.Option(option, metavar="N", parser=options.count(option), help=said)


def _timeout(said: str) -> Any:
    """--timeout: seconds."""
    return typer.Option("--timeout", metavar="S", parser=options.seconds("--timeout"), help=said)


def _into(name: str) -> Any:
    """--out: the directory to be written, results/NAME-TIME where there is none given."""
    return typer.Option("--out", metavar="DIR", help=f"Where to; results/{name}-TIME unless given.")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {metadata.version(PROGRAM)}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What holds for every command: `--version`, which has answered already."""


@app.command("run")
@_with_axes
def run_command(
    context: typer.Context,
    given: Mapping[str, str],
    name: Annotated[str, typer.Argument(metavar="SUITE|FILE.toml", help=f"See `{PROGRAM} list`.")] = suite.FIRST,
    data: Data = None,
    out: Annotated[Path | None, _into("SUITE")] = None,
    timeout: Annotated[float | None, _timeout("Seconds a case may take; no limit unless given.")] = None,
    rounds: Annotated[int | None, _count("--rounds", "Timed steps of each method, not the suite's.")] = None,
    warmup: Annotated[int | None, _count("--warmup", "Steps before those, not the suite's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    rerun: Annotated[
        str | None, typer.Option(metavar="failed|all", help="Go on, and measure these cases again.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every rebuilt activation; what it costs is in the figures.")
    ] = False,
    no_skip: Annotated[
        bool, typer.Option(skipping.OPTION, help="Measure what is larger than a case that ran out of memory, too.")
    ] = False,
    memory_limit: Annotated[
        limits.Limit | None,
        typer.Option(
            limits.OPTION,
            metavar="SIZE",
            parser=limits.parse,
            help="Memory a measuring process may have on a CPU, as in 4GiB; what needs more is a row, oom.",
        ),
    ] = None,
    no_figures: NoFigures = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cases and measure nothing.")] = False,
) -> int:
    """Measure a suite: rows as they come on stderr, then tables and a verdict; figures go to DIR/figures."""
    from bench import session

    request = session.Request(
        suite=name, axes=given, arguments=context.obj, data=data, out=out, timeout_seconds=timeout, rounds=rounds,
        warmup=warmup, resume=resume, rerun=rerun, verify=verify, skip=not no_skip, memory_limit=memory_limit,
    )  # fmt: skip
    prepared = session.prepare(request)
    if dry_run:
        from reports import listed

        streams.show(listed.plans(prepared.plans))
        return errors.EXIT_OK

    from reports.progress import Live

    prepared = prepared.claimed()
    with Live(sys.stderr, [plan.case for plan in prepared.plans]) as live:
        summary = prepared.measure(streams.unheard(live), _note)
    _conclude(summary.records, prepared.directory, drawn=not no_figures)
    return summary.exit_code


@app.command("frontier")
@_with_axes
def frontier_command(
    context: typer.Context,
    given: Mapping[str, str],
    name: Annotated[
        str, typer.Argument(metavar="SUITE|FILE.toml", help=f"Whose methods and sizes; see `{PROGRAM} list`.")
    ] = suite.FRONTIER,
    over: Annotated[
        str, typer.Option(metavar="AXIS", help="What to look for the largest of: batch, seq or depth.")
    ] = "batch",
    memory: Annotated[
        limits.Limit | None,
        typer.Option(
            limits.MEMORY,
            metavar="SIZE",
            parser=limits.parse_memory,
            help="What a training step must fit into, as in 24GiB; all of the card's memory unless given.",
        ),
    ] = None,
    step: Annotated[int | None, _count("--step", "To how much to find it: 1 unless given, of seq 64.")] = None,
    most: Annotated[int | None, _count("--most", "Try nothing larger.")] = None,
    data: Data = None,
    out: Annotated[Path | None, _into("frontier-AXIS")] = None,
    timeout: Annotated[float | None, _timeout("Seconds a probe may take; no limit unless given.")] = None,
    rounds: Annotated[int | None, _count("--rounds", "Timed steps, not the suite's.")] = None,
    warmup: Annotated[int | None, _count("--warmup", "Steps before those, not the suite's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the frontier in --out.")] = False,
    no_figures: NoFigures = False,
) -> int:
    """How deep, how large a batch, at what speed: the largest that fits, method by method, by measuring it."""
    from bench import frontier_session

    request = frontier_session.Request(
        suite=name, axes=given, arguments=context.obj, over=over, memory=memory, step=step, most=most, data=data,
        out=out, timeout_seconds=timeout, rounds=rounds, warmup=warmup, resume=resume,
    )  # fmt: skip
    prepared = frontier_session.prepare(request)

    from reports.frontier_live import Live

    prepared = prepared.claimed()
    live = Live(sys.stderr, [plan.case for plan in prepared.plans], prepared.settings())
    summary = prepared.measure(streams.unheard(live), _note)
    _conclude(summary.records, prepared.directory, drawn=not no_figures)
    return summary.exit_code


@app.command("train")
def train_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="EXPERIMENT|FILE.toml", help=f"See `{PROGRAM} list`.")],
    small: Annotated[
        bool | None,
        typer.Option(
            "--small/--full",
            help="A size for minutes on a CPU, or the paper's; on a CPU small, on a GPU full, unless given.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int | None, _count("--seeds", "How many seeds, from 0 on; not the experiment's.")] = None,
    steps: Annotated[int | None, _count("--steps", "Optimiser steps, not the experiment's.")] = None,
    arms: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Only these arms of the experiment, as in standard,bdia.")
    ] = None,
    data: Data = None,
    device: Annotated[str | None, typer.Option(metavar="D", help="Where to run: auto, cpu, cuda.")] = None,
    out: Annotated[Path | None, _into("EXPERIMENT")] = None,
    timeout: Annotated[float | None, _timeout("Seconds an arm may take at one seed; no limit unless given.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, from its checkpoints.")
    ] = False,
    no_figures: NoFigures = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be trained, and train nothing.")] = False,
) -> int:
    """Train the arms of an experiment side by side, over seeds: curves as they come, then tables and a verdict."""
    from bench import train_session

    request = train_session.Request(
        experiment=name, arguments=context.obj, form=None if small is None else "small" if small else "full",
        seeds=seeds, steps=steps, arms=arms, data=data, device=device, out=out, timeout_seconds=timeout, resume=resume,
    )  # fmt: skip
    prepared = train_session.prepare(request)
    if dry_run:
        from reports import listed

        streams.show(listed.trainings(prepared.plans))
        return errors.EXIT_OK

    from reports.train_live import Live

    prepared = prepared.claimed()
    with Live(sys.stderr, [plan.case for plan in prepared.plans], prepared.title) as live:
        summary = prepared.train(streams.unheard(live), _note)
    _conclude(summary.records, prepared.directory, drawn=not no_figures)
    return summary.exit_code


@app.command("predict")
@_with_axes
def predict_command(
    context: typer.Context,
    given: Mapping[str, str],
    name: Annotated[
        str, typer.Argument(metavar="SUITE|FILE.toml|RUN", help="A suite, or the directory of a run: its cases.")
    ] = suite.FIRST,
    data: Data = None,
    out: Annotated[Path | None, _into("SUITE-predicted")] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="RUN", help="A run's directory: its measured figures beside.")
    ] = None,
    memory: Annotated[
        limits.Limit | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            parser=limits.parse_memory,
            help="How deep, and how large a batch, each case could be in it, as in 24GiB.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the predictions in --out.")] = False,
) -> int:
    """What a suite's cases would hold in memory, without running them at size: on any machine, a CPU will do."""
    from bench import fits, predict, session
    from reports.progress import Live

    request = session.Request(suite=name, axes=given, arguments=context.obj, data=data, out=out, resume=resume)
    measured = predict.measured_in(against, request)
    prepared = predict.prepare(request).claimed()
    with Live(sys.stderr, [plan.case for plan in prepared.plans]) as live:
        summary = prepared.measure(streams.unheard(live), _note)

    from reports import forecast

    with _concluding(prepared.directory):
        forecast.show(summary.records, measured)
    if memory is None:
        return summary.exit_code
    found = fits.find(prepared, memory, _note)
    with _concluding(prepared.directory):
        forecast.show_fits(found, memory.text)
    return summary.exit_code or fits.exit_code(found)


@app.command("list")
def list_command() -> int:
    """Suites, experiments, methods and models."""
    from reports import listed

    streams.show(listed.everything())
    return errors.EXIT_OK


@app.command("report")
def report_command(
    directory: RunDirectory,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="F", help=f"{', '.join(FORMATS)}; of a --figure {', '.join(PICTURES)}."),
    ] = None,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw the figures, into this directory.")] = None,
    figure: Annotated[
        str | None, typer.Option(metavar="NAME", help="Draw this one only; without --figures, into DIR/figures.")
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size of a figure in inches, as in 3.25x2.2.")] = None,
    style: Annotated[
        Path | None, typer.Option(metavar="FILE.mplstyle", help="Matplotlib style, over the house style.")
    ] = None,
    caption: Annotated[
        bool, typer.Option("--caption", help="Add a caption: what is shown, hardware, versions, commit, command.")
    ] = False,
    limit: Rows = None,
) -> int:
    """Show a run again: its tables, as text or for other programs, or its figures."""
    request = Request(
        directory=directory, format=format_, figures=figures, figure=figure, size=size, style=style, caption=caption,
        rows=limit,
    )  # fmt: skip
    from bench import stored_run

    run = stored_run.load(directory, predicted=True)
    _note_all(run.messages)

    from reports import report

    report.answer(request, run, _note)
    return errors.EXIT_OK


@app.command("compare")
def compare_command(base: Base, head: Head, tolerance: Tolerance = None, limit: Rows = None) -> int:
    """Two runs side by side: the memory of each case, before and after, and what else changed."""
    from bench import check, compare, comparison, sides
    from reports import compared, excerpt, page

    old, new = sides.pair(base, head)
    _note_all(sides.remarks(old, new))
    allowed = check.tolerances(new.run or old.run, tolerance or ())
    found = compare.compare(old.measured, new.measured, allowed)
    page.show_sheet(compared.compared(found, excerpt.limit(limit)))
    print(f"{base} -> {head}: {comparison.counted(found)}")
    return errors.EXIT_OK


@app.command("check")
@_with_axes
def check_command(
    given: Mapping[str, str],
    what: Annotated[
        str,
        typer.Argument(
            metavar="DIR|SUITE|FILE.toml", help="With --baseline a run's directory, its --out; with --against a suite."
        ),
    ],
    path: Annotated[
        Path | None, typer.Option("--baseline", metavar="FILE", help="The baseline, a small JSON file to commit.")
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option("--against", metavar="REV", help="Measure this commit and the working tree, and compare the two."),
    ] = None,
    tolerance: Tolerance = None,
    rated: Annotated[
        bool, typer.Option("--rates", help="Compare rates as well, as ratios to standard's within the run.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Make this run the baseline of its environment, and say what changes.")
    ] = False,
    incomplete: Annotated[
        bool,
        typer.Option(
            "--allow-incomplete", help="Of --update: also where cases are still to be measured, or have failed."
        ),
    ] = False,
    any_environment: Annotated[
        bool,
        typer.Option(
            "--allow-environment-mismatch", help="Compare with the nearest environment where there is none like this."
        ),
    ] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the verdict as JUnit XML.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the verdict as JSON, as the last line of stdout.")
    ] = False,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of --against: keep both runs, in DIR/base and DIR/head.")
    ] = None,
    timeout: Annotated[float | None, _timeout("Of --against: seconds a case may take.")] = None,
) -> int:
    """The gate for CI: exit 1 where a figure is worse, or a case of the baseline is missing or newly fails."""
    from reports import gate

    request = gate.Request(
        what=what, baseline=path, revision=revision, tolerance=tolerance or (), rated=rated, update=update,
        incomplete=incomplete, any_environment=any_environment, junit=junit, json=json, axes=given, data=data,
        out=out, timeout_seconds=timeout,
    )  # fmt: skip
    return gate.answer(request, _note)


@app.command("explain")
@_with_axes
def explain_command(
    given: Mapping[str, str],
    base: Base,
    head: Head,
    metric: Annotated[
        str | None, typer.Option(metavar="METRIC", help="Only activation_bytes, or only peak_bytes.")
    ] = None,
    traced: Annotated[
        bool, typer.Option("--stacks", help="Run what moved most again: what is alive at its peak, line by line.")
    ] = False,
) -> int:
    """Where the memory of two runs differs: which part, in which blocks, of the cases that the axes pick."""
    from bench import explain, sides, stacks
    from bench.session import THREADS
    from reports import explained, page, sites

    metrics = explain.metrics(metric)
    old, new = sides.pair(base, head)
    _note_all(sides.remarks(old, new))
    before, after = explain.chosen(given, old.measured, new.measured)
    found = explain.explain(before, after, metrics)
    page.show_sheet(explained.sheet(found))
    streams.show(explained.lines(found, f"{base} -> {head}"))
    if traced:
        case = explain.case_to_trace(found, after, metrics, picked=bool(given))
        if case is None:
            streams.show(["--stacks: nothing moved, so nothing is run again; pick a case with --method, --depth, …"])
            return errors.EXIT_OK
        again, peak = case
        told = stacks.trace(again.case(), threads=THREADS, verify=again.verify)
        page.show_sheet(sites.sheet(again.case(), told, peak))
        streams.show(sites.lines(again, told, peak))
    return errors.EXIT_OK


@app.command("doctor")
@_with_axes
def doctor_command(given: Mapping[str, str], data: Data = None) -> int:
    """What this machine is, and what can be measured on it; with --model, whether that model can be trained exactly."""
    from bench import doctor, examination
    from bench.session import THREADS
    from reports import findings

    if not given and data is None:
        if not doctor.all_well(findings.show(doctor.examine(THREADS))):
            return _fail("nothing can be measured here: see what is broken above", errors.EXIT_NOTHING_MEASURED)
        print("This machine can measure.")
        return errors.EXIT_OK
    asked = examination.plan(given, data, threads=THREADS)
    found = examination.examine(asked, threads=THREADS)
    if not doctor.all_well(findings.show(examination.findings(asked.case, found))):
        what = f"{asked.case.model} cannot be trained with {asked.case.method} as it is"
        return _fail(f"{what}: see what is broken above", errors.EXIT_FAILED_CASE)
    print(f"{asked.case.model} can be trained with {asked.case.method} as it is.")
    return errors.EXIT_OK


def _conclude(records: Sequence[Record], directory: Path, *, drawn: bool) -> None:
    """What a run ends with."""
    with _concluding(directory):
        from reports import report

        report.conclude(records, directory, _note, drawn=drawn)


@contextmanager
def _concluding(directory: Path) -> Iterator[None]:
    """Inside, what is in `directory` is told: nothing is lost any more by an interruption, nor is the exit code by a
    reader who has left."""
    try:
        yield
    except BrokenPipeError:
        streams.abandon(sys.stdout)
    except KeyboardInterrupt as interrupt:
        from bench.session import RunInterruptedError

        kept = f"all cases are in {directory}; see them by: {PROGRAM} report {directory}"
        raise RunInterruptedError(interrupt, kept) from None


@streams.unheard
def _note(message: str) -> None:
    print(f"{PROGRAM}: {message}", file=sys.stderr)


def _note_all(messages: Iterable[str]) -> None:
    for message in messages:
        _note(message)


def _fail(error: object, code: int) -> int:
    _note(errors.one_line(error))
    return code
