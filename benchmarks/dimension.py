"""The dimension of short recordings of few neurons, beside the naive participation ratio and PyPI `dimensionality`.

Recordings of one random network (N = 1000, random modes of effective rank 0.3, g = 6, erf), whose dimension is known
from products of different recordings. Each row: neurons and samples of a recording, then mean and standard deviation
over recordings of each estimate, and how often the 95 % interval holds the dimension of these neurons. An estimate is
as good as its ratio to the truth is close to 1. `pip install dimensionality` adds a column (it takes
samples for independent).

    python benchmarks/dimension.py            a few minutes
    python benchmarks/dimension.py --quick    half a minute, fewer and shorter recordings
"""

import argparse
import importlib.util

import numpy as np
from scipy.special import erf

from nwb_lrrnn import dimension_of_recording

N, G, EFFECTIVE_RANK, DT = 1000, 6.0, 0.3, 0.1
ROWS = ((1000, 100), (1000, 250), (300, 250), (100, 500), (1000, 1500), (300, 1500), (100, 1500))


def network(rng: np.random.Generator) -> np.ndarray:
    """Return J (target, source) of independent modes with exponential strengths."""
    ratios = np.linspace(0.01, 20, 4000)  # of the strengths: participation ratio tanh(b) / b
    decay = ratios[np.argmin(np.abs(np.tanh(ratios) / ratios - EFFECTIVE_RANK))]
    strengths = np.exp(-decay * (np.arange(N) + 0.5) / N)
    strengths *= G * np.sqrt(N / np.sum(strengths**2))
    left, right = rng.standard_normal((2, N, N)) / np.sqrt(N)
    return (left * strengths) @ right.T


def recordings(n: int, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return rates (recording, time, neuron), a sample a time constant, after 100 of them."""
    J = network(rng).astype(np.float32)
    x = rng.standard_normal((N, n)).astype(np.float32)
    out = np.empty((n, n_samples, N), dtype=np.float32)
    for sample in range(-100, n_samples):
        for _ in range(round(1 / DT)):
            x += np.float32(DT) * (-x + J @ erf(np.float32(np.sqrt(np.pi) / 2) * x))
        if sample >= 0:
            out[:, sample] = erf(np.sqrt(np.pi) / 2 * x).T
    return out


def truth(rates: np.ndarray) -> float:
    """Return the dimension by products of different recordings."""
    moments = np.stack([(one.T @ one / len(one)).ravel() for one in rates])
    products = (moments @ moments.T).astype(float)
    traces = np.array([np.square(one, dtype=float).sum() / len(one) for one in rates])
    away = ~np.eye(len(rates), dtype=bool)
    return float(np.outer(traces, traces)[away].mean() / products[away].mean())


def naive(x: np.ndarray) -> float:
    """Return the participation ratio of the sample covariance."""
    roots = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    return float(roots.sum() ** 2 / np.sum(roots**2))


def other(x: np.ndarray) -> float:
    """Return what PyPI `dimensionality` says of these neurons, corrected for the number of samples."""
    from dimensionality import participation_ratio  # pyright: ignore[reportMissingImports]

    return float(participation_ratio(x, return_all=True)["row"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    n_recordings, longest = (6, 250) if quick else (12, 1500)
    rng = np.random.default_rng(0)
    rates = recordings(n_recordings, longest, rng)
    population = truth(rates)
    print(f"dimension of all {N} neurons: {population:.1f}")
    has_other = importlib.util.find_spec("dimensionality") is not None
    print(f"{'n':>5} {'T':>5} {'true':>6} {'naive':>12} {'ours':>12} {'held':>6} {'ours, of N':>12}  dimensionality")
    for n, n_samples in ROWS:
        if n_samples > longest:
            continue
        chosen = np.sort(rng.choice(N, n, replace=False))
        parts = [one[:n_samples, chosen].astype(float) for one in rates]
        known = truth(rates[:, :, chosen])
        tables = []
        for part in parts:
            try:
                tables.append(dimension_of_recording(part, n_population=N))
            except ValueError as error:  # too short by its own judgement
                print(f"      refused: {error}")
        ours = [float(table["dimension"]) for table in tables]
        held = [float(table["dimension_low"]) <= known <= float(table["dimension_high"]) for table in tables]
        of_all = [float(table["dimension_of_population"]) for table in tables]
        cells = [f"{np.mean(v):.1f} ± {np.std(v):.1f}" for v in ([naive(part) for part in parts], ours, of_all)]
        last = f"{np.mean([other(part) for part in parts]):.1f}" if has_other else "-"
        held_in = f"{sum(held)}/{len(held)}"
        print(
            f"{n:>5} {n_samples:>5} {known:>6.1f} {cells[0]:>12} {cells[1]:>12} {held_in:>6} {cells[2]:>12}  {last}",
            flush=True,
        )


if __name__ == "__main__":
    main()
