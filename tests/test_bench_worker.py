"""The child process: real measurements at a tiny size, decoys, and what becomes of it without its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from bdia.errors import HeadroomError, TapeError
from bench import child, examination, supervise
from bench.case import MEASUREMENTS, Case, Measurement, Plan
from bench.diagnosis import diagnosis
from bench.errors import UsageError
from bench.outcome import MEASURED, of_end
from bench.outcome import said as said_of
from bench.protocol import Event, Finished, Job, Kind, Measured

WORKER = Path(child.__file__).with_name("worker.py")


def plan(method: str, *measure: Measurement, **axes: Any) -> Plan:
    fields: dict[str, Any] = {
        "method": method, "model": "gpt", "depth": 2, "width": 16, "heads": 2, "seq": 8, "batch": 2,
        "bits": 9 if method in ("bdia", "bdia-stored") else None, "vocab": 256, "dtype": "fp32", "train_steps": 0,
        "device": "cpu", "seed": 0, "data": None,
    }  # fmt: skip
    return Plan(case=Case(**(fields | axes)), measure=frozenset(measure or MEASUREMENTS))


def job(*plans: Plan, kind: Kind = "measure", rounds: int = 3) -> Job:
    return Job(kind=kind, members=plans, rounds=rounds, warmup=1, threads=2, events=-1)


def run(todo: Job, worker: Path = WORKER) -> dict[str, Finished]:
    """What a child says of each member, by method."""
    events: list[Event] = []
    end = supervise.run(todo, events.append, timeout_seconds=120, worker=worker)
    assert (end.status, end.message) == ("ok", None)
    return {todo.members[one.member].case.method: one for one in events if isinstance(one, Finished)}


def test_everything_but_time_is_measured() -> None:
    """A child measures memory, reconstruction and gradients of its members, and the facts of the workload."""
    plans = [plan(method, "memory", "reconstruction", "gradients", depth=3) for method in ("bdia", "bdia-naive")]
    found = run(job(*plans))
    for one in found.values():
        assert (one.status, one.message) == ("ok", None)
        assert one.fields.keys() <= MEASURED
    ours, naive = found["bdia"].fields, found["bdia-naive"].fields
    assert (ours["bit_exact"], ours["gradient_error"]) == (True, 0.0)
    assert [block["mismatched"] for block in ours["reconstruction"]] == [0, 0, 0]
    assert naive["bit_exact"] is False
    assert naive["gradient_error"] > 0
    assert (ours["stream_elements"], ours["samples"], ours["tokens"]) == (2 * 8 * 16, 2, 16)
    assert (ours["stream_dtype"], ours["parameter_dtype"], ours["compute_dtype"]) == ("float32",) * 3
    assert ours["side_bytes"] == (3 - 1) * 2 * 8 * 16 // 8  # none for the first block (19)
    assert ours["activation_bytes"] > 0
    assert ours["largest_bits"] == 23
    assert "largest_bits" not in naive


def test_gamma_and_verification_reach_the_engine() -> None:
    """|γ| = 2^-m keeps m side bits an activation, exactly; verification keeps what it compares, and finds nothing."""
    for gamma, m in (("0.5", 1), ("0.125", 3)):
        quarter = plan("bdia", "memory", "reconstruction", "gradients", gamma=gamma)
        plain, verified = (
            run(job(msgspec.structs.replace(quarter, verify=verify)))["bdia"] for verify in (False, True)
        )
        assert (plain.status, plain.message) == (verified.status, verified.message) == ("ok", None)
        assert plain.fields["side_bytes"] == m * 2 * 8 * 16 // 8
        assert plain.fields["bit_exact"] is verified.fields["bit_exact"] is True
        assert plain.fields["gradient_error"] == verified.fields["gradient_error"] == 0.0
        assert verified.fields["saved_bytes"] > plain.fields["saved_bytes"]


def test_both_losses_are_told() -> None:
    """The plain loss is the same for every method, and theirs only where they compute the plain transformer."""
    found = run(job(*(plan(method, "gradients") for method in ("checkpoint", "bdia-naive", "bdia"))))
    losses = {method: (one.fields["loss_plain"], one.fields["loss_method"]) for method, one in found.items()}
    assert len({plain for plain, _ in losses.values()}) == 1
    assert [ours == plain for plain, ours in losses.values()] == [True, False, False]
    assert all(one.fields["loss"] == one.fields["loss_method"] for one in found.values())


def test_the_doctor_is_answered() -> None:
    """A child examines its member, and what it answers can be read."""
    found = examination.examine(plan("bdia", model="vit", seq=None, vocab=None, depth=3), threads=2)
    assert (found.obstacle, found.exact) == (None, True)
    assert [block.stable for block in found.blocks] == [True] * 3
    assert (len(found.chains), len(found.chains[0])) == (1, 3)
    assert found.side_bytes > 0
    assert found.rng_bytes > 0  # dropout draws
    assert found.loss_plain != found.loss_method


def test_a_model_that_cannot_be_built_is_one_line_to_the_doctor(tmp_path: Path) -> None:
    """Data that is not there is told in its own words."""
    with pytest.raises(examination.ExaminationError, match="is not there"):
        examination.examine(plan("bdia", data=str(tmp_path / "nowhere.txt")), threads=2)


def test_a_group_is_timed_in_shared_rounds() -> None:
    """A timing child gives each member as many step times as there are rounds, and its rates."""
    found = run(job(plan("standard"), plan("bdia"), plan("bdia-stored", bits=6), kind="time"))
    assert found.keys() == {"standard", "bdia", "bdia-stored"}
    for one in found.values():
        assert len(one.fields["step_seconds"]) == 3
        median = sorted(one.fields["step_seconds"])[1]
        assert one.fields["samples_per_second"] == pytest.approx(2 / median)
        assert one.fields["tokens_per_second"] == pytest.approx(16 / median)


def test_beyond_the_exact_range_is_unsupported_and_measured_all_the_same() -> None:
    """Past the headroom a case is unsupported, with its bytes and its error, and timing says the same."""
    beyond = plan("bdia", "memory", "reconstruction", "gradients", model="vit", seq=None, vocab=None, depth=4, bits=23)
    one = run(job(beyond))["bdia"]
    assert one.status == "unsupported"
    assert one.fields["activation_bytes"] > 0
    assert one.fields["bit_exact"] is False
    assert one.fields["gradient_error"] > 0
    assert one.fields["largest_bits"] < 23
    assert run(job(beyond, kind="time"))["bdia"].status == "unsupported"


def test_training_comes_before_what_depends_on_the_weights() -> None:
    """With train_steps the loss is that of trained weights, which are the same from run to run; bytes do not
    change."""
    plans = [plan("bdia", "memory", train_steps=steps) for steps in (0, 5)]
    events: list[Event] = []
    supervise.run(job(*plans, plans[1]), events.append, timeout_seconds=120)
    initial, trained, again = (one.fields for one in events if isinstance(one, Finished))
    assert trained["loss"] < initial["loss"]
    assert (again["loss"], again["max_abs"]) == (trained["loss"], trained["max_abs"])
    assert trained["activation_bytes"] == initial["activation_bytes"]


def test_a_member_that_fails_is_no_end(tmp_path: Path) -> None:
    """A case that cannot be built is an error of its own, and the next one is measured."""
    missing = plan("bdia", "memory", data=str(tmp_path / "nowhere.txt"))
    events: list[Event] = []
    supervise.run(job(missing, plan("bdia", "gradients")), events.append, timeout_seconds=120)
    first, second = (one for one in events if isinstance(one, Finished))
    assert first.status == "error"
    assert "is not there" in (first.message or "")
    assert second.status == "ok"


def test_decoys_are_not_picked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started in a folder with a `bench`, a `bdia`, a `reports` and a `cli.py` of its own, and with that folder on
    PYTHONPATH, the child uses its own packages."""
    for name in ("bench", "bdia", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('a decoy was imported')")
    (tmp_path / "cli.py").write_text("raise SystemExit('a decoy was imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run(job(plan("bdia", "gradients")))["bdia"].fields["gradient_error"] == 0.0


def test_a_child_ends_with_its_parent() -> None:
    """When the other end of its standard input closes, as at its parent's death, a child exits in mid-work."""
    read, write = os.pipe()
    child_process = subprocess.Popen(
        [sys.executable, "-P", str(WORKER)], stdin=subprocess.PIPE, pass_fds=(write,), start_new_session=True
    )
    os.close(write)
    assert child_process.stdin is not None
    endless = job(plan("standard"), kind="time", rounds=10**9)
    child_process.stdin.write(msgspec.json.encode(msgspec.structs.replace(endless, events=write)) + b"\n")
    child_process.stdin.flush()
    assert os.read(read, 1)  # it has begun
    child_process.stdin.close()
    assert child_process.wait(30) in (1, -signal.SIGKILL)
    os.close(read)


def test_a_child_without_a_job_says_so() -> None:
    """A worker that is started by hand ends with one line."""
    done = subprocess.run(
        [sys.executable, "-P", str(WORKER)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "the parent sent no job\n")


@pytest.mark.parametrize("kind", ["time", "measure"])
def test_an_error_on_purpose_is_told_in_its_own_words(tmp_path: Path, kind: Kind) -> None:
    """What the bench raises for the user reaches the row without the name of a class."""
    missing = plan("bdia", data=str(tmp_path / "nowhere.txt"))
    events: list[Event] = []
    end = supervise.run(job(missing, kind=kind), events.append, timeout_seconds=120)
    said = [one.message for one in events if isinstance(one, Finished)] or [end.message]
    assert (said[0] or "").startswith("data '")


def headroom_error() -> HeadroomError:
    return HeadroomError("no headroom", block=1, max_abs=2.0, bits=3, largest_bits=None)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (headroom_error(), "unsupported", "no headroom"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has more"), "oom",
         "CUDA out of memory. Tried to allocate 2 GiB."),
        (MemoryError(), "oom", "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes."), "oom",
         "can't allocate memory: 9 bytes."),
        (TapeError("the chain broke"), "error", "the chain broke"),
        (UsageError("no such data"), "error", "no such data"),
        (ValueError("first line\n  second line"), "error", "ValueError: first line second line"),
    ],
)  # fmt: skip
def test_exceptions_have_their_status(error: Exception, status: str, message: str) -> None:
    """Running out of memory, leaving the exact range and everything else are told apart, in one line."""
    assert diagnosis(error) == (status, message)


def test_an_allocation_that_cannot_be_is_oom() -> None:
    """What torch raises for a tensor that no machine holds counts as out of memory."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**62, dtype=torch.uint8)
    assert diagnosis(caught.value)[0] == "oom"


def test_a_method_that_goes_wrong_does_not_spoil_the_others_weights() -> None:
    """Timing a method whose gradients explode leaves those timed beside it on finite weights."""
    found = run(job(*(plan(method, "throughput", depth=160) for method in ("bdia-naive", "bdia")), kind="time"))
    assert {method: one.status for method, one in found.items()} == {"bdia-naive": "ok", "bdia": "ok"}


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("os.kill(os.getpid(), 9)", "oom", "while measuring gradients: killed by signal 9"),
        ("raise MemoryError", "oom", "while measuring gradients: out of memory"),
        ("raise ValueError('no')", "error", "while measuring gradients: ValueError: no"),
    ],
)
def test_memory_survives_what_happens_to_the_gradients(tmp_path: Path, ending: str, status: str, said: str) -> None:
    """A child that fails or is killed over the gradients has told of memory and reconstruction before."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        f"import os, sys\nsys.path.insert(0, {str(WORKER.parent.parent)!r})\nfrom bench import child, worker\n"
        f"def fail(*arguments, **options): {ending}\nchild.measure_gradients = fail\nworker.main()\n"
    )
    events: list[Event] = []
    end = supervise.run(job(plan("bdia", "memory", "reconstruction", "gradients")), events.append,
                        timeout_seconds=120, worker=worker)  # fmt: skip
    last = events[-1]
    outcome = said_of(last) if isinstance(last, Finished) else of_end(end, last if isinstance(last, Measured) else None)
    assert outcome.status == status
    assert (outcome.message or "").startswith(said)
    assert outcome.fields["activation_bytes"] > 0
    assert outcome.fields["bit_exact"] is True
    assert "gradient_error" not in outcome.fields
