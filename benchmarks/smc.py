"""Variational SMC: the package's filter against a plain one, its fits against the truth and against linear models.

    python benchmarks/smc.py                 # everything (about 15 minutes; the EEG needs NWB_LRRNN_DATA)
    python benchmarks/smc.py speed           # or some of: speed teacher encoder eeg
    python benchmarks/smc.py --quick         # small sizes
    python benchmarks/smc.py speed --cuda    # adds the torch loop on a GPU, wall milliseconds

The bars: forward + backward of the bound, float32, one thread, noise included: EEG-like (B 10, T 50, K 10, N 512, R 3)
at least 12 times and tutorial-like (B 16, T 75, K 64, N 20, R 2) at least 8 times less CPU than the plain filter of
`plain_filter.py` in the same run; hippocampus-like Poisson (B 64, T 219, K 64, N 512, R 3, D 21) at most 1.5 CPU
seconds by the bootstrap and 3 by the Laplace proposal; two threads at least 1.5 times one on an idle machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import plain_filter  # noqa: E402
import smc_fits  # noqa: E402
from nwb_lrrnn.dynamics.likelihoods import Likelihood  # noqa: E402
from nwb_lrrnn.models.networks.cells import Cell  # noqa: E402
from nwb_lrrnn.models.observation.readouts import Readout  # noqa: E402
from nwb_lrrnn.models.smc import bound, filtering  # noqa: E402
from nwb_lrrnn.models.smc.data import TrialData  # noqa: E402
from nwb_lrrnn.models.smc.filtering import Law  # noqa: E402
from nwb_lrrnn.models.smc.network import InitialLaw, ParticleNetwork  # noqa: E402
from nwb_lrrnn.models.smc.proposals import masks_of  # noqa: E402
from nwb_lrrnn.models.training.threads import over_ranges  # noqa: E402

CASES = [
    ("EEG-like", "optimal"),
    ("tutorial-like", "optimal"),
    ("hippocampus", "bootstrap"),
    ("hippocampus", "laplace"),
]
QUICK = {
    "EEG-like": (2, 10, 10, 64, 3, 16),
    "tutorial-like": (2, 10, 16, 20, 2, 20),
    "hippocampus": (2, 10, 16, 64, 3, 5),
}


def network_of(plain: plain_filter.Network, options: dict, device: str) -> tuple[ParticleNetwork, list[torch.Tensor]]:
    """Return the package's form of a plain network in float32, and its tensors that get gradients."""
    leaves = {k: v.float().to(device).requires_grad_() for k, v in plain._asdict().items() if v.numel()}
    neurons, rank = plain.left_vectors.shape
    nothing = torch.zeros(1, 0, neurons, device=device)
    cell = Cell(
        leaves["left_vectors"].T[None], leaves["right_vectors"].T[None], leaves["bias"][None],
        leaves["thresholds"][None], nothing, leaves["drive"][None], torch.zeros(1, rank, 0, device=device),
        leaves["alpha"][None],
    )  # fmt: skip
    poisson = options.get("likelihood") == "poisson"
    name, link = ("poisson", "softplus") if poisson else ("gaussian", "identity")
    network = ParticleNetwork(
        options.get("nonlinearity", "relu"),
        Likelihood(name, link, options.get("bin_size", 1.0)),
        cell,
        Readout(leaves["loadings"][None], leaves["offset"][None], leaves["variance"][None]),
        False,
        options.get("readout", "latents"),
        InitialLaw(leaves["initial_mean"][None], torch.zeros(1, rank, 0, device=device)),
        Law(leaves["initial_root"][None], leaves["noise_root"][None]),
    )
    return network, list(leaves.values())


def problem(
    size: tuple[int, ...], options: dict, device: str = "cpu"
) -> tuple[ParticleNetwork, list[torch.Tensor], TrialData]:
    """Return the network of `plain_filter.cost` and its data."""
    trials, steps, _, neurons, rank, units = size
    plain = plain_filter.draw_network(neurons, rank, units, options.get("readout", "latents"))
    network, leaves = network_of(plain, options, device)
    y = (torch.randn(steps, trials, units, generator=torch.Generator().manual_seed(0)) > 1).double()
    mask = torch.ones(trials, steps, 1, dtype=torch.float64, device=device)
    lengths, bins = torch.full((trials,), steps, device=device), torch.full((trials,), float(steps), device=device)
    inputs = torch.zeros(trials, steps, 0, dtype=torch.float64, device=device)
    return (
        network,
        leaves,
        TrialData(y.transpose(0, 1).contiguous().to(device), mask, masks_of(mask), lengths, inputs, bins),
    )


def cost(size, options: dict, proposal: str, repeats: int, clock=time.process_time, device: str = "cpu") -> float:
    """Return the median milliseconds of a bound and its gradient, noise included, after two warm-ups."""
    network, leaves, data = problem(size, options, device)
    plan = bound.Plan(proposal, size[2], when="every_step")
    generator = torch.Generator(device=device).manual_seed(0)
    taken = []
    for _ in range(repeats + 2):
        begin = clock()
        noise = bound.draw_noise(plan.scheme, data.y.shape[:2], size[2], size[4], network.cell.left_vectors, generator)
        increments, _ = bound.run(network, data, plan, noise)
        torch.autograd.grad(increments.mean(), leaves, allow_unused=True)
        if device != "cpu":
            torch.cuda.synchronize()
        taken.append(1e3 * (clock() - begin))
    return statistics.median(taken[2:])


def plain_cost(name: str) -> float:
    """Return `plain_filter.cost` from a process of its own: its gigabytes are not ours."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(plain_filter.cost, name).result()


def speed(quick: bool, cuda: bool) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # of the plain filter's process
    torch.set_num_threads(1)
    begin = time.perf_counter()
    cost(QUICK["EEG-like"], {"nonlinearity": "clipped_relu"}, "optimal", 1)
    print(f"first call (kernels from the cache on disk where they are in it): {time.perf_counter() - begin:.2f} s")
    print(
        f"{'case':>14} {'proposal':>10} {'plain ms':>10} {'ours ms':>9} {'ratio':>7} {'1 -> 2 threads':>15}"
        + " CUDA wall" * cuda
    )
    for name, proposal in CASES:
        size, options, repeats = plain_filter.SIZES[name]
        options = {k: v for k, v in options.items() if k != "proposal"}
        size = QUICK[name] if quick else size
        filtering.over_ranges = lambda function, n_jobs, n_numbers: function(0, n_jobs)  # one thread
        ours = cost(size, options, proposal, 2 * repeats + 1)
        single = cost(size, options, proposal, repeats, time.perf_counter)
        filtering.over_ranges = lambda function, n_jobs, n_numbers: over_ranges(function, n_jobs, n_numbers, 2)
        double = cost(size, options, proposal, repeats, time.perf_counter)
        filtering.over_ranges = over_ranges
        plain = float("nan") if quick or proposal == "laplace" else plain_cost(name)
        row = f"{name:>14} {proposal:>10} {plain:10.1f} {ours:9.2f} {plain / ours:7.1f} {single / double:15.2f}"
        if cuda:
            row += f" {cost(size, options, proposal, repeats, time.perf_counter, 'cuda'):10.1f}"
        print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="speed teacher encoder eeg (default: all)")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cuda", action="store_true")
    options = parser.parse_args()
    parts = {
        "speed": lambda: speed(options.quick, options.cuda),
        "teacher": lambda: smc_fits.teacher(options.quick),
        "encoder": lambda: smc_fits.encoder(options.quick),
        "eeg": lambda: smc_fits.eeg(options.quick),
    }
    unknown = set(options.parts) - set(parts)
    if unknown:
        parser.error(f"parts: got {', '.join(sorted(unknown))}, wanted some of {', '.join(parts)}")
    for name in options.parts or parts:
        print(f"\n--- {name}")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        parts[name]()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"peak resident memory of the process so far: {after / 1e6:.2f} GB (before {name}: {before / 1e6:.2f})")


if __name__ == "__main__":
    main()
