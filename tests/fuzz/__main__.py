"""Attack: `python -m fuzz --number 2000 --calls inspect spikes fit`, in tests/; 1 where any failed."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from fuzz.attack import attack


def main() -> None:
    """Print the counts, and whatever is no sentence."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--number", type=int, default=2000, help="of mutants")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--calls", nargs="+", default=["inspect", "spikes", "fit"])
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        numbers = range(given.first, given.first + given.number)
        for ending in attack(numbers, given.calls, Path(folder), given.workers):
            counts[ending.call, ending.kind] += 1
            if ending.kind in ("hdf5", "else"):
                print(f"--- {ending.kind}: {ending.call} of {ending.mutant}\n{ending.text}", flush=True)
    for call in given.calls:
        print(call, {kind: counts[call, kind] for kind in ("fine", "sentence", "hdf5", "else")})
    sys.exit(any(kind == "else" for (_, kind), n in counts.items() if n))


if __name__ == "__main__":
    main()
