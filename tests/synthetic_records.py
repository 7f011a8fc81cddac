"""Records as a run would leave them, made up by rule: what the tests of the reports read.

Every number follows from the case, so that tests can work out by hand what a table or figure must say.
"""

from __future__ import annotations

import math
import random
from typing import Any

from bench import parts
from bench.case import Case
from bench.environment import Environment
from bench.parts import Parts
from bench.record import BlockError, Record

MIB = 2**20
METHODS = ("standard", "checkpoint", "bdia-stored", "bdia-naive", "bdia")
"""Those of the suite `quick`."""
REVERSIBLE = ("bdia-naive", "bdia")
QUANTISED = ("bdia-stored", "bdia")
SPEED = {
    "standard": 1.0, "checkpoint": 0.80, "bdia-stored": 0.93, "bdia-unquantised": 0.95, "bdia-naive": 0.76, "bdia": 0.74
}  # fmt: skip
LARGEST_EXACT_BITS = 15
CPU = Environment(
    python="3.11.7", os="Linux", os_release="6", machine="x86_64", cpu_model="A processor", cpu_capability="AVX2",
    physical_cores=2, logical_cores=2, memory_bytes=2**34, threads=2, torch="2.13.0", cuda=None, cudnn=None,
    device="cpu", packages={}, bdia_bench="0.1.0", commit=None, dirty=None, variables={},
    float32_matmul_precision="highest", deterministic_algorithms=False, mkldnn=True, cudnn_benchmark=False,
)  # fmt: skip
"""A machine to have measured on."""


def case(method: str = "bdia", **axes: Any) -> Case:
    """A gpt case: depth 12, width 256, T=256, B=8, l=9 where the method quantises."""
    fields: dict[str, Any] = {
        "method": method, "model": "gpt", "depth": 12, "width": 256, "heads": 8, "seq": 256, "batch": 8,
        "bits": 9 if method in QUANTISED else None, "vocab": 256, "dtype": "fp32", "train_steps": 0,
        "device": "cpu", "seed": 0, "data": None,
    }  # fmt: skip
    return Case(**(fields | axes))


def record(of: Case, **measured: Any) -> Record:
    """A record of that case with the given fields and no others."""
    axes = {name: getattr(of, name) for name in Case.__struct_fields__}
    fields = {"suite": "quick", "fingerprint": "0" * 16, "threads": 2} | measured
    return Record(**axes, **fields)


def elements(of: Case) -> int:
    """Elements of the residual stream, B·T·D."""
    return of.batch * (of.seq or 65) * of.width


def activation_bytes(of: Case) -> int:
    """Standard keeps 512 bits an element and block, checkpointing 32, BDIA its one side bit."""
    bits = {
        "standard": 512, "checkpoint": 32, "bdia-stored": 540, "bdia-unquantised": 530, "bdia-naive": 0, "bdia": 1
    }[of.method]  # fmt: skip
    working_set = elements(of) * 4 * (22 if of.method in ("checkpoint", *REVERSIBLE) else 20)
    return working_set + of.depth * elements(of) * bits // 8


def static_bytes(of: Case) -> int:
    """Parameters, gradients and one state of the optimiser, in fp32."""
    return 3 * 4 * (12 * of.depth * of.width**2 + 512 * of.width)


def activation_parts(of: Case, total: int) -> Parts:
    """What makes up `total` bytes of activations, at the highest moment: the backward of the top block.

    What keeps activations holds each block's, checkpointing and BDIA those of the top block alone; each holds the
    states that it does not rebuild, and `bdia` its side bits. 512 bytes are `other`, and so is what a test adds."""
    size, blocks, top = elements(of), range(of.depth), of.depth - 1
    stored = {"standard": 60 * size, "bdia-stored": 508 * size // 8}.get(of.method)
    held: parts.Flat = {("block", block): stored for block in blocks} if stored else {("block", top): 48 * size}
    kept = range(max(0, top - 1), of.depth) if of.method in REVERSIBLE else blocks
    held |= {("residual_states", block): 4 * size for block in kept}
    if of.method == "bdia":
        held |= {("side_bits", block): size // 8 for block in blocks}
    held["head_and_loss", None] = activation_bytes(of) - sum(held.values()) - 512
    held["other", None] = total - sum(held.values())
    return parts.packed(held)


def peak_parts(of: Case, total: int) -> Parts:
    """What makes up a whole step's `total` bytes: what is there before the step, and the activations on top."""
    static = static_bytes(of)
    batch = of.batch * (of.seq or 65) * 16
    held: parts.Flat = {
        ("parameters", None): static // 3,
        ("gradients", None): static // 3,
        ("optimizer_state", None): static // 3 - batch,
        ("input", None): batch,
    }
    return parts.packed(held | parts.flat(activation_parts(of, total - static)))


def naive_errors(of: Case) -> list[float]:
    """Doubling from the top block down, as eq. 16 does; the top block's input is kept, so 0 there."""
    chance = random.Random(f"{of.seed} {of.train_steps}")
    error = 4.0e-7 * (1 + chance.random()) * (6 if of.train_steps else 1)
    errors = [0.0]
    for _ in range(of.depth - 1):
        errors.append(error)
        error *= 2 * 1.15 ** (chance.random() - 0.4)
    return errors[::-1]


def reconstruction(of: Case) -> list[BlockError] | None:
    """Exact for quantised methods within the range of fp32, and off by 2^-l·2^k beyond it."""
    if of.method not in REVERSIBLE:
        return None
    if of.method == "bdia-naive":
        errors = naive_errors(of)
    elif of.bits is not None and of.bits > LARGEST_EXACT_BITS:
        errors = [2.0 ** (of.depth - block - of.bits) * 3 for block in range(of.depth)]
    else:
        errors = [0.0] * of.depth
    return [
        BlockError(
            block=block,
            max_abs_error=error,
            rms_error=error / 4,
            relative_error=error / 5,
            mismatched=elements(of) // 2 if error else 0,
        )
        for block, error in enumerate(errors)
    ]


def step_seconds(of: Case, rounds: int = 7) -> list[float]:
    """Round i is slow or fast for every method alike, with a little noise of the method's own."""
    work = 3e-9 * elements(of) * of.depth * of.width * 12 / 40
    seconds = []
    for index in range(rounds):
        shared = 1 + 0.2 * math.sin(index)
        own = 1 + 0.02 * random.Random(f"{of.label()} {index}").random()
        seconds.append(work * shared * own / SPEED[of.method])
    return seconds


def full(of: Case, **changes: Any) -> Record:
    """Everything measured; the parts add up to the figures, changed ones as well."""
    size, seconds = elements(of), step_seconds(of)
    middle = sorted(seconds)[len(seconds) // 2]
    errors = reconstruction(of)
    static = static_bytes(of)
    tokens = None if of.seq is None else of.batch * of.seq
    fields: dict[str, Any] = {
        "parameters": static // 12, "stream_elements": size, "samples": of.batch, "tokens": tokens,
        "stream_dtype": "float32", "parameter_dtype": "float32", "compute_dtype": "float32",
        "static_bytes": static, "activation_bytes": activation_bytes(of),
        "peak_bytes": static + activation_bytes(of), "saved_bytes": activation_bytes(of) * 3 // 4,
        "side_bytes": of.depth * size // 8 if of.method == "bdia" else 0, "rng_bytes": 0,
        "rss_bytes": 2 * static + 400 * MIB,
        "step_seconds": seconds, "rounds_id": "one", "samples_per_second": of.batch / middle,
        "tokens_per_second": None if tokens is None else tokens / middle, "loss": 5.545,
        "reconstruction": errors,
        "bit_exact": None if errors is None else all(error.mismatched == 0 for error in errors),
        "gradient_error": {"bdia": 0.0, "bdia-naive": 3.1e-4}.get(of.method),
        "max_abs": 141.5 if of.method in QUANTISED else None,
        "largest_bits": LARGEST_EXACT_BITS if of.method in QUANTISED else None,
    }  # fmt: skip
    fields |= changes
    for name, made in (("activation", activation_parts), ("peak", peak_parts)):
        total = fields[f"{name}_bytes"]
        fields.setdefault(f"{name}_parts", None if total is None else made(of, total))
    return record(of, **fields)


def reconstruction_only(of: Case) -> Record:
    """What a case of the suite `fig1` leaves: neither memory nor time."""
    errors = reconstruction(of)
    exact = None if errors is None else all(error.mismatched == 0 for error in errors)
    return record(of, suite="fig1", stream_elements=elements(of), reconstruction=errors, bit_exact=exact)


def failed(of: Case, status: str, message: str, **measured: Any) -> Record:
    """A case that did not end well."""
    return record(of, status=status, message=message, **measured)


def depth_suite(depths: tuple[int, ...] = (6, 12, 24), methods: tuple[str, ...] = METHODS) -> list[Record]:
    """Each method at each depth, everything measured."""
    return [full(case(method, depth=depth)) for depth in depths for method in methods]


def fig1_suite(seeds: int = 5, train_steps: tuple[int, ...] = (0, 50)) -> list[Record]:
    """Eq. 16 beside eq. 24 over 12 blocks, at initial and at trained weights."""
    return [
        reconstruction_only(case(method, seed=seed, train_steps=steps))
        for steps in train_steps
        for seed in range(seeds)
        for method in REVERSIBLE
    ]


def quick_suite() -> list[Record]:
    """Everything at three depths, and Fig. 1 at one of them: what both measure is one record."""
    records = {record.case(): record for record in [*fig1_suite(), *depth_suite()]}
    return list(records.values())


def bits_suite(bits: tuple[int, ...] = tuple(range(3, 21))) -> list[Record]:
    """l from 3 to 20; beyond the range of fp32 the case is unsupported, with its error measured."""
    records = [full(case("standard")), full(case("bdia-naive"))]
    for value in bits:
        of = case("bdia", bits=value)
        if value <= LARGEST_EXACT_BITS:
            records.append(full(of))
        else:
            message = f"l={value} leaves the exact range of fp32 at block 3: max|x| 141.5, use l <= 15"
            records.append(
                failed(of, "unsupported", message, reconstruction=reconstruction(of), bit_exact=False,
                       max_abs=141.5, largest_bits=LARGEST_EXACT_BITS)
            )  # fmt: skip
    return records


def width_suite(methods: tuple[str, ...] = METHODS) -> list[Record]:
    """Width with heads."""
    widths = {128: 4, 256: 8, 512: 16}
    return [full(case(m, width=width, heads=heads)) for width, heads in widths.items() for m in methods]


def batch_suite(methods: tuple[str, ...] = METHODS) -> list[Record]:
    """Batch from 4 to 32."""
    return [full(case(method, batch=batch)) for batch in (4, 8, 16, 32) for method in methods]


def failing_beyond(measured: tuple[int, ...], failing: tuple[int, ...], axis: str = "depth") -> list[Record]:
    """Three methods measured at some values of `axis`, and none of them at the values beyond."""
    methods = {"standard": "oom", "bdia-stored": "timeout", "bdia": "oom"}
    done = [full(case(method, **{axis: value})) for value in measured for method in methods]
    lost = [
        failed(case(method, **{axis: value}), status, "no result")
        for value in failing
        for method, status in methods.items()
    ]
    return done + lost


def failing_suite() -> list[Record]:
    """Depth 6 to 48 with a case of every bad end."""
    records = depth_suite((6, 12, 24))
    ends = {
        "standard": ("oom", "needed more than the 8.0 GiB there are"),
        "checkpoint": ("timeout", "no result after 120 s"),
        "bdia-stored": ("oom", "needed more than the 8.0 GiB there are"),
        "bdia-naive": ("error", "RuntimeError: 50% of [blocks] & more_than that_failed"),
    }
    records += [failed(case(method, depth=48), status, why) for method, (status, why) in ends.items()]
    return [*records, full(case("bdia", depth=48))]


Reach = dict[tuple[str, int], tuple[float, float, float]]
REACH: Reach = {
    ("standard", 1): (130, 40, 1.0),
    ("checkpoint", 1): (130, 9, 0.78),
    ("bdia", 1): (131, 8, 0.74),
    ("bdia", 2): (131, 5, 0.70),
    ("bdia", 4): (131, 3.6, 0.64),
}
"""By method and micro-batches: MiB of a step without samples, MiB a sample, and the rate over standard's. Within 512
MiB batches of 9, 42, 47, 76 and 105."""


def frontier_suite(limit: int = 512 * MIB, reach: Reach = REACH) -> list[Record]:
    """Probes of a frontier over the batch, method by method: some on the way, the largest that fits, the next one that
    does not, and the largest that all have."""
    largest = {key: int((limit / MIB - base) // slope) for key, (base, slope, _) in reach.items()}
    equal = min((value for (_, cut), value in largest.items() if value >= cut), default=0)
    return [
        _probe(key, batch, limit=limit, line=reach[key], largest=top, equal=equal)
        for key, top in largest.items()
        for batch in sorted({key[1], 4 * key[1], top, top + 1, equal})
        if key[1] <= batch <= max(key[1], top + 1)
    ]


def _probe(
    of: tuple[str, int], batch: int, *, limit: int, line: tuple[float, float, float], largest: int, equal: int
) -> Record:
    (method, cut), (base, slope, rate) = of, line
    peak, held = int((base + slope * batch) * MIB), 120 * MIB
    told: dict[str, Any] = {
        "peak_bytes": peak, "static_bytes": held, "activation_bytes": peak - held, "samples": batch,
        "peak_parts": {"parameters": held, "block": peak - held - 8 * MIB, "head_and_loss": 8 * MIB},
    }  # fmt: skip
    if batch > largest:
        told = {"status": "oom", "message": "DefaultCPUAllocator: can't allocate memory"}
    elif batch in (largest, equal):
        told |= {
            "step_seconds": [batch / (50 * rate)] * 3, "samples_per_second": 50 * rate,
            "tokens_per_second": 50 * rate * 256, "confirmed_steps": 20 if batch == largest else None,
            "rounds_id": "together" if batch == equal else f"{method} {cut}",
        }  # fmt: skip
    probed = case(method, batch=batch) if cut == 1 else case(method, batch=batch, micro_batches=cut)
    marks = {"limit_bytes": limit, "frontier_over": "batch", "frontier_step": 1}
    return record(probed, suite="frontier of frontier", **marks, **told)
