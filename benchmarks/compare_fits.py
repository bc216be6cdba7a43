"""Planted kinds of dynamics are told apart by their fits, and one kind is one kind: how often.

    python benchmarks/compare_fits.py                    # 60 recordings of each kind, about five minutes
    python benchmarks/compare_fits.py --recordings 12

Each recording is of another random network of its kind, with other units, noise, bins (20 or 25 ms) and another seed
of the fit (`LeastSquaresRNN` of rank 2, of 24 trials of 80 bins). "noise" are recordings of nothing. Beside the chosen
clusters stand two clusters that are asked for, by the distance of flows and by that of the eigenvalues of an operator
on polynomials of the latents (per second; extended dynamic mode decomposition of simulated activity).
"""

from __future__ import annotations

import argparse
import itertools
import logging
import warnings

import numpy as np
import xarray as xr
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

from nwb_lrrnn import LeastSquaresRNN
from nwb_lrrnn.alignment.clusters import kinds_of
from nwb_lrrnn.alignment.flow import flow_signature
from nwb_lrrnn.dynamics import LowRankDynamics

OVERLAPS = {
    "cycle": [[1.8, -0.8], [0.8, 1.8]],
    "fast cycle": [[1.8, -1.6], [1.6, 1.8]],
    "ring": [[1.8, 0.0], [0.0, 1.8]],
    "two states": [[2.2, 0.0], [0.0, 0.4]],
    "one state": [[0.6, -0.3], [0.3, 0.6]],
}
KINDS = (*OVERLAPS, "noise")
N_NEURONS, N_TRIALS, N_BINS, N_DRAWS = 400, 24, 80, 40
BANDS = np.geomspace(0.025, 64 * 0.025, 13)  # as compare_fits has them for these bins


def recording(kind: str, seed: int) -> xr.DataArray:
    """Return trials (trial, time, unit) of a random network of a kind."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    dt, n_units = float(rng.choice([0.02, 0.025])), int(rng.integers(15, 40))
    coords = {"time": dt * np.arange(N_BINS)}
    if kind == "noise":
        values = rng.standard_normal((N_TRIALS, N_BINS, n_units))
        return xr.DataArray(values, dims=("trial", "time", "unit"), coords=coords, attrs={"bin_size": dt})
    m = np.linalg.qr(rng.standard_normal((N_NEURONS, 2)))[0] * np.sqrt(N_NEURONS)
    network = LowRankDynamics(
        m,
        m @ np.array(OVERLAPS[kind]).T + 0.5 * rng.standard_normal((N_NEURONS, 2)),
        dt=dt,
        tau=0.1,
        latent_noise=rng.uniform(0.1, 0.3) * dt * np.eye(2),
        loadings=rng.standard_normal((n_units, 2)),
        offset=rng.standard_normal(n_units),
        observation_variance=np.full(n_units, rng.uniform(0.1, 0.5)),
    )
    values = network.simulate(N_TRIALS, N_BINS, random_state=seed)["observations"].values
    return xr.DataArray(values, dims=("trial", "time", "unit"), coords=coords, attrs={"bin_size": dt})


def rates_of_change(network: LowRankDynamics) -> np.ndarray:
    """Return the six slowest eigenvalues per second of the operator on polynomials of degree 3, (6, real and imag)."""
    z = network.simulate(16, 200, random_state=0)["latents"].values
    z = (z - z.mean((0, 1))) / z.std((0, 1))

    def lifted(w: np.ndarray) -> np.ndarray:
        a, b = w.reshape(-1, 2).T
        return np.column_stack([a**i * b**j for i in range(4) for j in range(4 - i)])

    operator = np.linalg.lstsq(lifted(z[:, :-1]), lifted(z[:, 1:]), rcond=1e-8)[0]
    values = np.log(np.linalg.eigvals(operator).astype(complex) + 1e-12) / network.dt
    values = values[np.argsort(-values.real)][:6]
    return np.column_stack([np.maximum(values.real, -60.0), np.abs(values.imag)])


def of_spectra(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean distance of matched eigenvalues."""
    cost = np.linalg.norm(first[:, None] - second[None], axis=-1)
    return float(cost[linear_sum_assignment(cost)].mean())


def one_kind(points: dict[str, np.ndarray], n: int, rng: np.random.Generator) -> None:
    """Print how often fits of one kind are said to be several."""
    for kind, of in points.items():
        found = [kinds_of(of[rng.permutation(len(of))[:n]], rng) for _ in range(N_DRAWS)]
        worst = max(one.silhouette for one in found)
        print(
            f"{n:4d}  {kind:12s} several {sum(one.n_kinds > 1 for one in found):2d} of {N_DRAWS}   {worst:.2f}",
            flush=True,
        )


def pairs(points: dict, spectra: dict, n: int, rng: np.random.Generator) -> None:
    """Print how well n fits of two kinds are parted: adjusted Rand indices, means of draws."""
    truth = np.repeat([0, 1], n // 2)
    for first, second in itertools.combinations(KINDS, 2):
        rows = []
        for _ in range(5):
            a, b = (rng.permutation(len(points[kind]))[: n // 2] for kind in (first, second))
            x = np.concatenate([points[first][a], points[second][b]])
            s = [*(spectra[first][k] for k in a), *(spectra[second][k] for k in b)]
            found = kinds_of(x, rng)
            between = squareform(np.array([[of_spectra(p, q) for p in s] for q in s]), checks=False)
            trees = (linkage(x, "average"), linkage(between, "average"))
            asked = [adjusted_rand_score(truth, fcluster(tree, 2, "maxclust")) for tree in trees]
            rows.append((adjusted_rand_score(truth, found.labels), found.n_kinds, *asked))
        chosen, n_kinds, flows, others = np.mean(rows, axis=0)
        print(f"{n:4d}  {first:11s} {second:11s} {chosen:6.2f} {n_kinds:6.1f} {flows:10.2f} {others:10.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=60, help="of each kind")
    n_recordings = parser.parse_args().recordings
    warnings.simplefilter("ignore")
    logging.disable()
    points, spectra, linear = {}, {}, {}
    for kind in KINDS:
        models = [LeastSquaresRNN(2, n_neurons=60, random_state=k).fit(recording(kind, k)) for k in range(n_recordings)]
        signatures = np.array([flow_signature(model.dynamics_, BANDS).ravel() for model in models])
        points[kind] = signatures / np.sqrt(signatures.shape[1])
        spectra[kind] = [rates_of_change(model.dynamics_) for model in models]
        linear[kind] = sum(model.stayed_linear_ for model in models)
        print(f"fitted {kind}: {linear[kind]} of {n_recordings} stayed linear", flush=True)
    rng = np.random.default_rng(0)
    sizes = [n for n in (12, 24, 36, 60) if n <= n_recordings]
    print("\nfits  one kind     several           largest silhouette")
    for n in sizes:
        one_kind(points, n, rng)
    print("\nfits  kinds                   chosen number   flows, 2   spectra, 2   (adjusted Rand index)")
    for n in sizes:
        pairs(points, spectra, n, rng)


if __name__ == "__main__":
    main()
