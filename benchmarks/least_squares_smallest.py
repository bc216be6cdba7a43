"""The smallest networks, on teachers that are planted here: sizes found, fields drawn, networks distilled.

    python benchmarks/least_squares_smallest.py              # all, a few minutes on one thread
    python benchmarks/least_squares_smallest.py sizes        # one of: sizes, lorenz, recorded, distilled

    sizes      Wilson-Cowan (3 neurons) and a network of 5: error at the true size and at one less, of 5 seeds each
    lorenz     10 neurons chosen, then refined, ridge 1e-6: error of the field and valid time, of 5 seeds
    recorded   a gated integrator of 512 neurons and rank 1, all recorded: free run and directions of the regression
    distilled  the same integrator reduced: 15 neurons by the field alone, 4 by its trajectories, on held-out conditions

The bars: error <= 1e-15 at the true size in at least 4 of 5 seeds, parameters within 1e-6; Lorenz <= 5e-4 and >= 2
Lyapunov times; free run R2 >= 0.999 and |cosine of m| >= 0.9999; R2 >= 0.99 with 15 neurons, >= 0.9 with 4.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent))
import planted_fields as planted  # noqa: E402
from least_squares import valid_time  # noqa: E402
from nwb_lrrnn import LowRankDynamics, smallest_network  # noqa: E402
from nwb_lrrnn.models.least_squares.recorded import fit_recorded  # noqa: E402
from nwb_lrrnn.models.least_squares.smallest.dictionary import draw_candidates, greedy_path  # noqa: E402
from nwb_lrrnn.models.least_squares.smallest.problem import Neurons, Samples  # noqa: E402
from nwb_lrrnn.models.least_squares.smallest.projection import refine  # noqa: E402
from planted_gate import conditions, gated_integrator, integrated_right  # noqa: E402

SEEDS = range(5)


def teacher(n_neurons: int = 5) -> LowRankDynamics:
    """Return a network of rank 2 whose neurons are all needed."""
    rng = np.random.default_rng(0)
    left, right = 1.2 * rng.standard_normal((n_neurons, 2)), 1.5 * rng.standard_normal((n_neurons, 2))
    return LowRankDynamics(left, n_neurons * right, dt=0.05, tau=1.0, bias=0.8 * rng.standard_normal(n_neurons))


def sizes() -> None:
    print("\nthe true size: error on held-out samples there and at one less, best of 3 networks grown side by side")
    print(f"{'field':9} {'seed':>4} {'size':>5} {'error':>9} {'one less':>9} {'parameters':>11} {'CPU s':>7}")
    net = teacher()
    for name, velocity, half, size, drive in (
        ("wc", planted.wilson_cowan, 2.0, 3, False),
        ("teacher5", net.velocity, 2.0, 5, True),
    ):
        exact = 0
        for seed in SEEDS:
            z = np.random.default_rng(seed).uniform(-half, half, (400, 2))
            began = time.process_time()
            found = smallest_network((z, velocity(z)), tau=1.0, drive=drive, max_size=size, n_init=3, random_state=seed)
            seconds = time.process_time() - began
            error = found.path["error"].sel(size=[size, size - 1]).values
            exact += error[0] <= 1e-15
            off = off_by(found.network, net) if name == "teacher5" else np.nan
            print(
                f"{name:9} {seed:4} {found.path.attrs['size']:5} {error[0]:9.1e} {error[1]:9.1e} {off:11.1e} "
                f"{seconds:7.2f}", flush=True,
            )  # fmt: skip
        print(f"{name}: exact in {exact} of {len(SEEDS)} seeds")


def off_by(found: LowRankDynamics, net: LowRankDynamics) -> float:
    """Return the largest difference of the outgoing weights, neurons matched and their signs aside."""
    if found.n_neurons != net.n_neurons:
        return float("nan")
    a, b = (np.abs(n.right_vectors) for n in (found, net))
    return float(np.abs(a[np.argsort(a[:, 0])] - b[np.argsort(b[:, 0])]).max())


def lorenz() -> None:
    print("\nLorenz, tanh, 10 neurons chosen of 600, then refined, ridge 1e-6")
    at = planted.on_lorenz(4000, 999)
    for seed in SEEDS:
        z = planted.on_lorenz(2000, seed, noise=0.2)
        velocity = 0.1 * planted.lorenz(z)
        train = Samples(z, z + velocity, np.ones((len(z), 1)), float(velocity.var(0).sum()))
        began = time.process_time()
        candidates = draw_candidates(z, 600, "tanh", np.random.default_rng(seed))
        order = greedy_path(candidates, train, 10, ridge=1e-6).order
        fit = refine(Neurons(candidates.theta[order], "tanh"), train, 1e-6)
        seconds = time.process_time() - began
        theta = fit.neurons.theta

        def field(x, theta=theta, fit=fit):
            return (np.tanh(x @ theta[:, :3].T + theta[:, 3]) @ fit.outgoing + fit.free[0] - x) / 0.1

        error = planted.error_of(field(at), planted.lorenz(at))
        print(f"seed {seed}: error {error:.1e}  valid time {valid_time(field):.1f}  {seconds:.2f} CPU s", flush=True)


def recorded() -> None:
    print("\na gated integrator, 512 neurons, rank 1, all recorded, 72 conditions: reduced-rank regression")
    net, inputs = gated_integrator(512), conditions()
    z = net.simulate(len(inputs), inputs.shape[1], inputs=inputs, initial_latents=[0.0]).latents.values
    x = net.currents(z, net.filtered_inputs(inputs))
    print(f"the teacher is right in {100 * integrated_right(z, inputs):.0f} % of the conditions")
    for noise in (0.0, 0.05):
        seen = x + noise * np.random.default_rng(0).standard_normal(x.shape)
        began = time.process_time()
        found = fit_recorded(list(seen), net.dt, 1, tau=net.tau, inputs=list(inputs), method="rrr")
        seconds = time.process_time() - began
        axes = [np.linalg.qr(m)[0] for m in (net.left_vectors, found.dynamics.left_vectors)]
        cosine = abs(float((axes[0].T @ axes[1]).item()))
        most = 1 - noise**2 / seen.var(axis=(0, 1)).mean()
        print(
            f"noise {noise}: free run R2 {found.r2:.5f} of {most:.5f}  |cosine of m| {cosine:.6f}  {seconds:.2f} CPU s",
            flush=True,
        )


def distilled() -> None:
    print("\nthe same network reduced; a quarter of the 72 conditions is held out and judges")
    net, inputs = gated_integrator(512), conditions()
    for objective, size in (("field", 15), ("trajectory", 6)):
        began = time.process_time()
        network, path = smallest_network(
            net, inputs=inputs, objective=objective, max_size=size, tolerance=1e-9, random_state=0
        )
        seconds = time.process_time() - began
        shown = "  ".join(
            f"{int(d)}: {value:.3f}" for d, value in zip(path["size"].values, path["r2"].values, strict=True)
        )
        run = network.simulate(len(inputs), inputs.shape[1], inputs=inputs, initial_latents=[0.0]).latents.values
        right = 100 * integrated_right(run, inputs)
        print(f"{objective:10} R2 of held-out runs by size  {shown}")
        print(
            f"{'':10} size {path.attrs['size']} chosen, right in {right:.0f} % of the conditions  {seconds:.0f} CPU s"
        )


TABLES = {"sizes": sizes, "lorenz": lorenz, "recorded": recorded, "distilled": distilled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)}; all by default")
    torch.set_num_threads(1)
    for name in parser.parse_args().tables or TABLES:
        TABLES[name]()


if __name__ == "__main__":
    main()
