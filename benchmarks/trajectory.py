"""Fused trajectory kernels against an eager torch loop: CPU of forward + backward, one thread.

    python benchmarks/trajectory.py            # the sizes of the claim
    python benchmarks/trajectory.py --quick    # small sizes
    python benchmarks/trajectory.py --cuda     # adds a column: the torch loop on a GPU (wall milliseconds)

The bar: T = 10^4, N = 100, R = 4, B = 1, tanh, float64, at least 40 times less CPU than the eager loop.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from nwb_lrrnn.models.networks import scan
from nwb_lrrnn.models.networks.cells import Cell
from nwb_lrrnn.models.networks.scan import Drive

SIZES = [(1, 10_000, 100, 4), (1, 1_000, 100, 4), (1, 10_000, 1_000, 4), (16, 1_000, 100, 4), (40, 200, 100, 2)]
QUICK = [(1, 200, 50, 2), (4, 200, 50, 2)]


def problem(batch: int, steps: int, neurons: int, rank: int, device: str = "cpu") -> tuple[Cell, torch.Tensor, Drive]:
    """Return one network, starts and an empty drive."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

    zeros = torch.zeros(1, neurons, dtype=torch.float64, device=device)
    cell = Cell(
        draw(1, rank, neurons), draw(1, rank, neurons), draw(1, neurons), zeros,
        draw(1, 0, neurons), draw(1, rank), draw(1, rank, 0), torch.full((1,), 0.1, dtype=torch.float64, device=device),
    )  # fmt: skip
    nothing = torch.zeros(batch, steps, 0, dtype=torch.float64, device=device)
    return cell, draw(1, batch, rank), Drive(torch.full((batch,), steps, device=device), nothing[None], nothing)


def eager(cell: Cell, start: torch.Tensor, steps: int) -> torch.Tensor:
    """Return the trajectory by the plainest vectorised loop that one would write."""
    m, n, bias, drive, alpha = cell.left_vectors[0], cell.right_vectors[0], cell.bias[0], cell.drive[0], cell.alpha[0]
    back = n.T / m.shape[1]
    z = start[0]
    path = [z]
    for _ in range(steps - 1):
        z = (1 - alpha) * z + alpha * (torch.tanh(z @ m + bias) @ back + drive)
        path.append(z)
    return torch.stack(path, 1)


def cost(run, leaves: list[torch.Tensor], clock, repeats: int) -> float:
    """Return the median milliseconds of run() and its backward pass, after one warm-up."""
    times = []
    for k in range(repeats + 1):
        for leaf in leaves:
            leaf.grad = None
        begin = clock()
        run().sum().backward()
        if leaves[0].is_cuda:
            torch.cuda.synchronize()
        if k:
            times.append(1e3 * (clock() - begin))
    return statistics.median(times)


def measure(size: tuple[int, int, int, int], cuda: bool) -> str:
    """Return one row of the table."""
    cell, start, drive = problem(*size)
    leaves = [t.requires_grad_() for t in (cell.left_vectors, cell.right_vectors, cell.bias, start)]
    steps = size[1]
    fused_path = scan.trajectory("tanh", cell, start, drive)[0].detach()
    worst = float((fused_path - eager(cell, start, steps).detach()).abs().max())
    fused = cost(lambda: scan.trajectory("tanh", cell, start, drive), leaves, time.process_time, 7)
    plain = cost(lambda: eager(cell, start, steps), leaves, time.process_time, 3)
    row = f"{size!s:>22} {fused:10.2f} {plain:10.1f} {plain / fused:8.1f} {worst:10.1e}"
    if cuda:
        cell, start, drive = problem(*size, device="cuda")
        leaves = [t.requires_grad_() for t in (cell.left_vectors, cell.right_vectors, cell.bias, start)]
        row += f" {cost(lambda: eager(cell, start, steps), leaves, time.perf_counter, 3):10.1f}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cuda", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scan.over_ranges = lambda function, n_jobs, n_numbers: function(0, n_jobs)  # one thread
    print(
        f"{'(B, T, N, R)':>22} {'fused ms':>10} {'eager ms':>10} {'ratio':>8} {'max diff':>10}"
        + " CUDA wall" * options.cuda
    )
    for size in QUICK if options.quick else SIZES:
        print(measure(size, options.cuda), flush=True)


if __name__ == "__main__":
    main()
