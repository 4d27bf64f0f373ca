"""How many cores, how much memory and how much of Redis a number of calls takes: computed from
benchmarks/results into docs/operate/sizing.md by `make bench-report`.

Measured are calls on one core, memory of one process and lookups among a million speakers; all
beyond that is their product, and the page says so.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

CALLS = (100, 1_000, 10_000)  # at once
HEADROOM = 0.7  # of what a core holds at most, so that results are not late in a busy minute
CALL_S = 180.0
STORE_OPERATIONS = 2  # a call's one read and one note
CORES_PER_SERVER = 8
CORES_PER_PROCESS = 2  # the most that one process was measured on

Values = Mapping[str, float]  # figures by their names


@dataclass(frozen=True, slots=True)
class Size:
    """What a number of calls at once takes; memory is of one server, whose share of the calls it
    holds, that of a failed server too."""

    calls: int
    cores: int
    servers: int
    server_memory_gb: float
    store_operations_per_s: float


def compute_size(calls: int, measured: Values, model: str) -> Size:
    """Cores by the calls that one holds in real time, with headroom; one server more than needed,
    so that one may fail or restart."""
    cores = math.ceil(calls / (HEADROOM * measured[f"streaming_{model}_per_core"]))
    needed = math.ceil(cores / CORES_PER_SERVER)
    idle_mb = measured[f"streaming_{model}_idle_resident_before"]
    call_mb = measured[f"streaming_{model}_idle_resident_per_call"] / 1000
    loaded_mb = measured[f"requests_{model}_after"] - measured[f"requests_{model}_before"]
    processes = CORES_PER_SERVER / CORES_PER_PROCESS
    memory_mb = processes * (idle_mb + loaded_mb) + calls / needed * call_mb
    return Size(calls, cores, needed + 1, memory_mb / 1000, STORE_OPERATIONS * calls / CALL_S)


def render_sizes(measured: Values) -> str:
    """The tables of the page."""
    lines = [
        f"| calls at once | model | cores | servers of {CORES_PER_SERVER} cores, one to spare "
        "| memory of each | store operations a second |",
        "|---|---|---|---|---|---|",
        *_list_rows(measured),
        "",
        "| speakers | memory of Redis | SQLite file |",
        "|---|---|---|",
    ]
    for speakers in (10_000, 100_000, 1_000_000):
        redis = speakers * measured["redis_memory_each"] / 1e6
        sqlite = speakers * measured["sqlite_file_each"] / 1e6
        lines.append(f"| {speakers:,} | {redis:.2g} GB | {sqlite:.2g} GB |")
    share = compute_size(CALLS[-1], measured, "default").store_operations_per_s
    lines += [
        "",
        f"One core of Redis answered {measured['redis_read_rate']:,.0f} reads a second, asked by "
        f"one process 32 at a time: {CALLS[-1]:,} calls ask for {share:,.0f}.",
    ]
    return "\n".join(lines) + "\n"


def _list_rows(measured: Values) -> Iterator[str]:
    for calls in CALLS:
        for model in ("default", "small"):
            size = compute_size(calls, measured, model)
            yield (
                f"| {calls:,} | {model} | {size.cores} | {size.servers} "
                f"| {size.server_memory_gb:.1f} GB | {size.store_operations_per_s:.1f} |"
            )
