"""What a fit costs with the size of the store: seconds, seconds of a step, and peak memory.

Stores of six snapshots in two dimensions are made one after the other and deleted again. Every fit
runs in a process of its own on one thread: by features, and by a network of 400 steps.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT_MB = 4096
STEPS = 400
OPTIONS: dict[str, dict[str, Any]] = {
    "features": {"model": "features"},
    "network": {"model": "network", "steps": STEPS},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--particles", default="100000,1000000,10000000", help="sizes with commas")
    parser.add_argument("--folder", help="where to write; a temporary folder without it")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "PATH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, path = arguments.child
        if kind in OPTIONS:
            print(json.dumps(measured(kind, path)))
        else:
            make(int(kind), path)
        return 0
    head = ("particles", "fit by", "seconds", "of CPU", "ms a step", "peak MB")
    print("".join(f"{name:>12}" for name in head))
    worst = 0.0
    for size in (int(n) for n in arguments.particles.split(",")):
        folder = Path(tempfile.mkdtemp(prefix="bench_training_", dir=arguments.folder))
        try:
            path = str(folder / "data.zarr")
            child(str(size), path)
            for kind in OPTIONS:
                found = json.loads(child(kind, path))
                worst = max(worst, found["megabytes"])
                cells = (
                    f"{size:.0e}",
                    kind,
                    f"{found['seconds']:.1f}",
                    f"{found['cpu']:.1f}",
                    f"{1e3 * found['step']:.1f}",
                    f"{found['megabytes']:.0f}",
                )
                print("".join(f"{cell:>12}" for cell in cells), flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    good = worst <= LIMIT_MB
    print(f"\npeak memory is to be {LIMIT_MB} MB or less: {'yes' if good else 'NO'}")
    return 0 if good else 1


def child(kind: str, path: str) -> str:
    """Make or fit a store in a process of its own, and return what that prints."""
    command = [sys.executable, __file__, "--child", kind, path]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def make(size: int, path: str) -> None:
    """Write a store of six snapshots of so many particles."""
    import popdyn

    energy = popdyn.FreeEnergy("styblinski_tang")
    popdyn.simulate(energy, particles=size, test_particles=0, seed=0, out=path)


def measured(kind: str, path: str) -> dict[str, float]:
    """Fit a store and return seconds, those of processor time and of a step, and megabytes.

    The seconds of a network's step are the difference to a fit of half as many, so that what is
    done once does not count; those of a Gauss–Newton step are all there are over their number.
    """
    import torch

    import popdyn

    torch.set_num_threads(1)

    def fitted(**options: Any) -> tuple[float, float, int]:
        begin, busy = time.monotonic(), time.process_time()
        run = popdyn.fit(popdyn.open_snapshots(path), "ijkonet", seed=0, **options)
        return time.monotonic() - begin, time.process_time() - busy, run.steps

    options = OPTIONS[kind]
    seconds, cpu, steps = fitted(**options)
    step = cpu / steps
    if "steps" in options:
        less = fitted(**options | {"steps": options["steps"] // 2})
        step = (cpu - less[1]) / (steps - less[2])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu": cpu, "step": step, "megabytes": peak}


if __name__ == "__main__":
    sys.exit(main())
