"""Runs many seeds on all cores: `python -m tests.simulation [--seeds N] [--first N]`; one: `--seed N`, with its trace."""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable

from tests.simulation.simulation import Result, simulate

FAILURES_SHOWN = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5000, help="how many runs (5000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="run this one and print what happened")
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        result = simulate(arguments.seed)
        print(result.report())
        return 1 if result.wrong else 0
    return _many(range(arguments.first, arguments.first + arguments.seeds), fail_fast=arguments.fail_fast)


def _many(seeds: range, *, fail_fast: bool) -> int:
    started = time.monotonic()
    failed: list[int] = []
    done = segments = 0
    with multiprocessing.Pool(os.cpu_count()) as pool:
        results: Iterable[Result] = pool.imap_unordered(simulate, seeds, chunksize=1 if fail_fast else 20)
        for result in results:
            done += 1
            segments += result.segments
            if result.wrong:
                failed.append(result.seed)
                print(result.report() if len(failed) <= FAILURES_SHOWN else f"seed {result.seed}: {result.wrong[0]}")
                if fail_fast:
                    break
    took = time.monotonic() - started
    print(
        f"seeds {seeds.start} to {seeds.start + len(seeds) - 1}: {done} runs, {len(failed)} failed {sorted(failed)[:20]}; "
        f"{segments} segments; {done / took:.0f} runs/s, {took:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
