"""Throughput of the core: alignment and both weight batches, against rapidfuzz's edit path alone on the same pairs.

    python benchmarks/core.py [--pairs 1024] [--tokens 1024] [--edits 0.1]

Prints ratios. The target is 1.5 at the defaults. Long pairs are also measured for memory.
"""

import argparse
import gc
import random
import resource
import sys
import time
from collections.abc import Callable
from typing import get_args

from rapidfuzz.distance import Levenshtein

from difference_feedback import align, pad_weights, token_weights
from difference_feedback.method.alignment import Alignment, AlignmentMethod

VOCABULARY = 150_000  # about that of Qwen2.5-VL
TARGET = 1.5
Pair = tuple[list[int], list[int]]


def edited_pair(rng: random.Random, tokens: int, edits: float) -> Pair:
    """A sequence, and a copy in which each token is edited with probability `edits`, by one of three edits."""
    source = [rng.randrange(VOCABULARY) for _ in range(tokens)]
    target: list[int] = []
    for token in source:
        edit = rng.choice(("substitute", "delete", "insert")) if rng.random() < edits else None
        if edit in ("substitute", "insert"):
            target.append(rng.randrange(VOCABULARY))
        if edit in ("insert", None):
            target.append(token)
    return source, target


def align_and_weigh(pairs: list[Pair]) -> None:
    """What a training step does: align every pair, and pad the weights of both sides."""
    alignments: list[Alignment] = [align(source, target) for source, target in pairs]
    pad_weights([token_weights(alignment, "wrong") for alignment in alignments])
    pad_weights([token_weights(alignment, "repair") for alignment in alignments])


def shortest(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the shortest run of each, taken in turns: other work on the machine only ever adds to a time."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            gc.collect()
            start = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def peak_mib() -> float:
    """Most memory this process ever held."""
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--edits", type=float, default=0.1, help="share of tokens edited")
    options = parser.parse_args()

    rng = random.Random(0)
    pairs = [edited_pair(rng, options.tokens, options.edits) for _ in range(options.pairs)]
    works: dict[str, Callable[[], object]] = {
        "rapidfuzz Levenshtein.editops on lists": lambda: [Levenshtein.editops(*pair) for pair in pairs],
        "align": lambda: [align(*pair) for pair in pairs],
        "align, both weight batches": lambda: align_and_weigh(pairs),
    }
    rows = shortest(works, repeats=7)
    base = next(iter(rows.values()))
    print(f"{options.pairs} pairs of {options.tokens} tokens, {options.edits:.0%} edited")
    for name, took in rows.items():
        print(f"  {name:<40} {took * 1e3:8.1f} ms   {took / options.pairs * 1e6:6.0f} µs a pair   x {took / base:.2f}")
    print(f"  target for the last line: x {TARGET} or less")

    print("one pair of 16384 tokens")
    for edits in (options.edits, 1.0):
        source, target = edited_pair(rng, 16_384, edits)
        for method in get_args(AlignmentMethod):
            before, start = peak_mib(), time.perf_counter()
            align(source, target, method).source_mask  # noqa: B018 - the mask is made on access
            took, more = time.perf_counter() - start, peak_mib() - before
            print(f"  {method:<12} {edits:4.0%} edited  {took * 1e3:8.1f} ms   {more:6.1f} MiB more at the peak")


if __name__ == "__main__":
    main()
