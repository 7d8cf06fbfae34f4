"""Measure the simulator: rates beside their limits, memory, and the cost of size."""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from popdyn.dynamics import FreeEnergy
from popdyn.dynamics.pairwise import mean_interaction_gradient
from popdyn.simulation import configure, simulate
from popdyn.simulation.blocks import CHUNK, simulate_block

ENERGY = FreeEnergy("styblinski_tang", diffusivity=0.1)  # quartic, so a cubic drift
SIZES = [(10_000, 2), (10_000, 10), (1_000_000, 2), (1_000_000, 10)]
PAIRS = [(10_000, 2), (10_000, 10)]
SCALING = [10**5, 10**6, 10**7, 5 * 10**7]


def best(function: Callable[[], Any], repeats: int = 5) -> float:
    """Return the shortest of a few runs, in seconds: the one least disturbed.

    With one thread this is processor time, which other programs disturb less than the clock.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds = []
    for _ in range(repeats):
        began = clock()
        function()
        seconds.append(clock() - began)
    return min(seconds)


def popdyn_rate(n: int, d: int, steps: int) -> float:
    config = configure(
        particles=n,
        dim=d,
        times=[0, steps * 1e-4],
        step=1e-4,
        paired=True,
        scheme="euler_maruyama",
        block=n,
    )
    simulate_block(ENERGY, configure(particles=1000, dim=d), "train", 0)
    return n * steps / best(lambda: simulate_block(ENERGY, config, "train", 0)) / 1e6


def normals_rate(n: int, d: int, steps: int) -> float:
    """Normals alone, in chunks that stay in the cache: the limit."""
    chunk = torch.empty(min(n * d, CHUNK))
    generator = torch.Generator()

    def draw() -> None:
        for _ in range(steps * n * d // chunk.numel()):
            chunk.normal_(generator=generator)

    return n * steps / best(draw) / 1e6


class System(torch.nn.Module):
    noise_type, sde_type = "diagonal", "ito"

    def f(self, t: Any, x: torch.Tensor) -> torch.Tensor:
        assert ENERGY.V is not None
        return -ENERGY.V.gradient(x)

    def g(self, t: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, (2 * ENERGY.diffusivity) ** 0.5)


def torchsde_rate(n: int, d: int, steps: int, step: float) -> float:
    """The rate of its Euler scheme; it falls with the steps, as its Brownian tree grows.

    Where float32 times leave a last sliver of a step, the tree grows down to it: 100 steps of
    1e-4 do, and cost a second whatever n.
    """
    import torchsde

    n = min(n, 2_000_000 // d)  # its rate does not grow beyond, and its time does
    x = torch.rand(n, d) * 8 - 4
    times = torch.tensor([0.0, steps * step])

    def solve() -> None:
        with torch.no_grad():
            torchsde.sdeint(System(), x, times, dt=step, method="euler")

    return n * steps / best(solve, 1 if n > 10**5 else 3) / 1e6


def pair_rates(n: int, d: int) -> dict[str, float]:
    W = FreeEnergy(interaction="gaussian_repulsion").W
    assert W is not None
    x = torch.randn(n, d)

    def plain() -> None:
        total = torch.empty_like(x)
        for i in range(0, n, 256):
            z = x[i : i + 256, None] - x[None]
            total[i : i + 256] = -(z * torch.exp(-0.5 * z.square().sum(-1, keepdim=True))).sum(1)

    some = -torch.rand(CHUNK)

    def exponentials() -> None:
        for _ in range(n * n // CHUNK):
            torch.exp(some)

    runs = {
        "popdyn": lambda: mean_interaction_gradient(W, x, x, exclude_self=True),
        "broadcast": plain,
        "exp": exponentials,
    }
    return {name: n * n / best(run) / 1e6 for name, run in runs.items()}


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_rates(threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    rows = []
    for n, d in SIZES:
        steps = 2000 if n < 10**5 else 40
        rows.append(
            {
                "n": n,
                "d": d,
                "popdyn": popdyn_rate(n, d, steps),
                "normals": normals_rate(n, d, steps),
                "torchsde, 512 of 2^-13": torchsde_rate(n, d, 512, 2.0**-13),
                "torchsde, 100 of 1e-4": torchsde_rate(n, d, 100, 1e-4),
            }
        )
    return {"rates": rows, "pairs": [{"n": n, "d": d, **pair_rates(n, d)} for n, d in PAIRS]}


def measure_pair_memory() -> dict[str, float]:
    """Peak memory above that of the imports, of exact forces on 10⁵ particles."""
    torch.set_num_threads(1)
    W = FreeEnergy(interaction="gaussian_repulsion").W
    assert W is not None
    x = torch.randn(100_000, 2)
    before = peak_megabytes()
    seconds = best(lambda: mean_interaction_gradient(W, x, x, exclude_self=True), 1)
    return {
        "seconds": seconds,
        "peak": peak_megabytes(),
        "above imports": peak_megabytes() - before,
    }


def measure_size(n: int) -> dict[str, float]:
    """Six snapshots of n particles, streamed to disk."""
    torch.set_num_threads(1)
    before = peak_megabytes()
    with tempfile.TemporaryDirectory(dir=os.environ.get("POPDYN_BENCH_DISK")) as folder:
        out = Path(folder) / "x.zarr"
        began = time.perf_counter()
        simulate(
            ENERGY, particles=n, test_particles=0, step=0.002, scheme="euler_maruyama", out=out
        )
        seconds = time.perf_counter() - began
        size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    return {
        "n": n,
        "seconds": seconds,
        "seconds per million particles": seconds / n * 1e6,
        "peak": peak_megabytes(),
        "above imports": peak_megabytes() - before,
        "store": size / 2**20,
    }


def in_a_process(*arguments: str, threads: int = 1) -> Any:
    env = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}
    command = [sys.executable, __file__, *arguments]
    return json.loads(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout)


def table(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [f"{v:,}" if isinstance(v, int) else f"{v:.3g}" for v in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def hardware() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, torch {torch.__version__}, {platform.system()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", action="store_true", help="add 50 million particles to disk")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        what, *rest = arguments.measure
        print(json.dumps(globals()[f"measure_{what}"](*map(int, rest))))
        return
    print(f"Hardware: {hardware()}\n")
    for threads in (1, 2):
        found = in_a_process("--measure", "rates", str(threads), threads=threads)
        print(f"Million particle-steps a second, Euler, cubic drift, {threads} thread(s)\n")
        for row in found["rates"]:
            row["of normals"] = row["popdyn"] / row["normals"]
            row["times torchsde, 2^-13"] = row["popdyn"] / row["torchsde, 512 of 2^-13"]
            row["times torchsde, 1e-4"] = row["popdyn"] / row["torchsde, 100 of 1e-4"]
        print(table(found["rates"]) + "\n")
        print(f"Million pairs a second, exact Gaussian forces, {threads} thread(s)\n")
        for row in found["pairs"]:
            row["times broadcast"] = row["popdyn"] / row["broadcast"]
        print(table(found["pairs"]) + "\n", flush=True)
    print("Exact Gaussian forces on 100 000 particles, one thread: memory in MB\n")
    print(table([in_a_process("--measure", "pair_memory")]) + "\n", flush=True)
    if arguments.size:
        print("Six snapshots to disk, 5 steps an interval, one thread: memory and store in MB\n")
        print(table([in_a_process("--measure", "size", str(n)) for n in SCALING]), flush=True)


if __name__ == "__main__":
    main()
