"""How connectivity shapes activity: one page of what the theory of random networks says, and what simulations do.

    python examples/connectivity_and_dimension.py page.png
    python examples/connectivity_and_dimension.py page.png --connectome adjacency.csv --neurons 2000 --networks 10

Lines are theory, dots simulated networks (some four minutes). A connectome is a table of synapse
counts, from rows to columns, without a header; without one, counts of a planted network stand in for it.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import nwb_lrrnn as lr
from nwb_lrrnn.analysis.theory.trial_products import simulated_dimension

COLOURS = {2.0: "#3b7dd8", 3.0: "#d1495b", 6.0: "#2e8b57"}
RANKS = np.array([0.15, 0.4, 1.0, 3.0])
LAGS = np.arange(0, 13)


class Simulations:
    """Dimensions of simulated networks, of one size and length."""

    def __init__(self, n_neurons: int, n_networks: int, duration: float):
        self.n_neurons, self.n_networks, self.duration = n_neurons, n_networks, duration

    def run(self, g, spectrum="exponential", effective_rank=None, *, lags=(0,), gains=None, overlap=None):
        """Return what every network did, and where gains are asked for, that of raw rates and of shuffled gains."""
        model = lr.RandomModeModel(
            self.n_neurons, g, spectrum, effective_rank, gains=gains, overlap=overlap, random_state=1
        )
        time = {"duration": self.duration, "burn_in": self.duration, "step": 0.2}
        return [simulated_dimension(one, lags) for one in model.simulate(12, n_networks=self.n_networks, **time)]

    def gained(self, g, effective_rank, gains):
        """Return the harmonic mean dimension of raw, normalised and readout rates of networks with gains."""
        inverse = {"raw": [], "readout": [], "normalised": []}
        for seed in range(self.n_networks):
            model = lr.RandomModeModel(self.n_neurons, g, effective_rank=effective_rank, gains=gains, random_state=seed)
            factor = model.sample().gains
            raw = model.simulate(12, self.duration, burn_in=self.duration, step=0.2)
            others = np.random.default_rng(seed).permutation(factor)
            for name, scale in (("raw", 1.0), ("normalised", 1 / factor), ("readout", others / factor)):
                inverse[name].append(1 / simulated_dimension(raw * scale).pr)
        return {name: 1 / np.mean(values) for name, values in inverse.items()}


def harmonic(runs):
    """Return the harmonic mean of PR and its standard error."""
    inverse = np.array([1 / run.pr for run in runs])
    mean = 1 / inverse.mean()
    return mean, mean**2 * inverse.std() / np.sqrt(max(len(inverse) - 1, 1))


def draw_ranks(ax, simulations):
    line = np.geomspace(0.05, 10, 10)
    for g, colour in COLOURS.items():
        ax.plot(line, lr.dimension_of_activity(g, effective_rank=line).pr, color=colour, label=f"g = {g:g}")
        ax.axhline(float(lr.dimension_of_activity(g).pr), color=colour, lw=0.8, ls=":")
        for rank in RANKS if g > 2 else ():  # near the transition networks would have to be larger
            mean, error = harmonic(simulations.run(g, "exponential", rank))
            ax.errorbar(rank, mean, error, fmt="o", color=colour, ms=4)
    ax.set(xscale="log", yscale="log", xlabel="effective rank / N", ylabel="dimension of the rates / N")
    ax.set_title("Structure lowers dimension\n(dotted: independent connections)", fontsize=10)
    ax.legend(frameon=False)


def draw_single_neurons(ax, simulations):
    single = lr.mean_field(3.0)
    fine = np.linspace(0, 12, 121)
    ax.plot(fine, single.rate_autocovariance(fine), color="black", lw=1, label="single neurons, theory")
    for rank, colour in ((0.1, "#d1495b"), (1.0, "#3b7dd8")):
        runs = simulations.run(3.0, "flat", rank, lags=LAGS)
        mean = np.mean([run.autocovariance for run in runs], axis=0)
        theory = float(lr.dimension_of_activity(3.0, effective_rank=rank).pr)
        label = f"effective rank {rank:g}: dimension {harmonic(runs)[0]:.4f} N (theory {theory:.4f})"
        ax.plot(LAGS, mean, "o", color=colour, ms=4, label=label)
    ax.set(xlabel="lag (time constants)", ylabel="autocovariance of the rates", ylim=(0, 1.15))
    ax.set_title("Structure is invisible in single neurons", fontsize=10)
    ax.legend(frameon=False, fontsize=7)


def draw_two_parameters(ax, simulations):
    for k, rank in enumerate((0.3, 0.6)):
        for j, (spectrum, colour) in enumerate((("flat", "#3b7dd8"), ("exponential", "#d1495b"), ("power", "#2e8b57"))):
            mean, error = harmonic(simulations.run(3.0, spectrum, rank))
            ax.errorbar(k + 0.2 * (j - 1), mean, error, fmt="o", color=colour, label=spectrum if k == 0 else None)
        theory = float(lr.dimension_of_activity(3.0, effective_rank=rank).pr)
        ax.plot([k - 0.35, k + 0.35], 2 * [theory], color="black", label="theory" if k == 0 else None)
    ax.set_xticks([0, 1], ["effective rank 0.3", "effective rank 0.6"])
    ax.set(ylabel="dimension of the rates / N", ylim=(0, None), xlim=(-0.6, 1.6))
    ax.set_title("Two parameters decide, g and effective rank,\nnot the shape of the spectrum", fontsize=10)
    ax.legend(frameon=False, loc="lower right")


def draw_overlaps(ax, simulations, n_overlaps, n_samples):
    sizes = np.linspace(-0.4, 0.4, n_overlaps).round(2)
    drawn = {"n_samples": n_samples, "n_repeats": 1}
    found = [lr.dimension_of_activity(3.0, effective_rank=0.6, overlap=size, **drawn) for size in sizes]
    prs, variances = ([float(one[name]) for one in found] for name in ("pr", "rate_variance"))
    other = ax.twinx()
    ax.plot(sizes, prs, color="#d1495b")
    other.plot(sizes, variances, color="#888888")
    for size in sizes[::2]:
        runs = simulations.run(3.0, "exponential", 0.6, overlap=size or None)
        mean, error = harmonic(runs)
        ax.errorbar(size, mean, error, fmt="o", color="#d1495b", ms=4)
        other.plot(size, np.mean([run.variance for run in runs]), "s", color="#888888", ms=4)
    ax.set(xlabel="overlap of left and right vectors", ylim=(0, None))
    ax.set_ylabel("dimension of the rates / N", color="#d1495b")
    other.set_ylabel("variance of the rates", color="#666666")
    ax.set_title("Overlaps of left and right vectors change dimension,\nand single neurons show it", fontsize=10)


def draw_gains(ax, simulations):
    names = {"raw": "raw", "readout": "raw, gains of\nthe readout", "normalised": "z-scored"}
    options = {"effective_rank": 0.5, "gains": 0.4}
    theory = [float(lr.dimension_of_activity(4.0, rates=name, **options).pr) for name in names]
    theory.append(float(lr.dimension_of_activity(4.0, effective_rank=0.5).pr))
    found = simulations.gained(4.0, **options)
    without = harmonic(simulations.run(4.0, "exponential", 0.5))[0]
    ax.bar(range(4), theory, color=["#d1495b", "#e9a0a8", "#3b7dd8", "#bbbbbb"])
    ax.plot(range(4), [found[name] for name in names] + [without], "o", color="black", label="simulated")
    ax.set_xticks(range(4), [*names.values(), "no gains\nat all"])
    ax.set(ylabel="dimension of the rates / N")
    ax.set_title("Recurrent gains lower dimension,\nand z-scoring does not undo it", fontsize=10)
    ax.legend(frameon=False)


def draw_connectome(ax, counts, label, n_null):
    found = lr.diagnose(counts, n_null=n_null, n_simulated=0)
    print(f"{label}:\n{found}\n")
    table = found.table
    span = max(float(table.t3), 1.0)
    bins = np.linspace(-1, max(2.5, 1.1 * float(np.max(table.t3_degree_null))), 30)
    ax.hist(table.t3_null, bins, color="#bbbbbb", alpha=0.8, label="free directions, same singular values")
    ax.hist(table.t3_degree_null, bins, color="#3b7dd8", alpha=0.6, label="rewired, same degrees")
    ax.axvline(float(table.t3), color="#d1495b", lw=2, label=f"{label}: {float(table.t3):.1f}")
    ax.set(xlabel="overlap of left and right vectors, t3", ylabel="networks", xlim=(-1, 1.15 * span))
    ax.set_title("A connectome's overlaps against their nulls", fontsize=10)
    ax.legend(frameon=False, fontsize=7)


def planted_counts():
    """Return counts whose modes overlap, (target, source)."""
    J = lr.RandomModeModel(120, 1.0, effective_rank=0.5, overlap=0.5, random_state=0).sample().connectivity()
    return np.random.default_rng(0).poisson(np.maximum(0.05 + 4.0 * J, 0.0) * 3.0)


def main(figure: Path, connectome=None, n_neurons=1000, n_networks=4, duration=100.0, n_overlaps=5, n_null=100):
    simulations = Simulations(n_neurons, n_networks, duration)
    page, panels = plt.subplots(2, 3, figsize=(13.5, 8), layout="constrained")
    draw_ranks(panels[0, 0], simulations)
    draw_single_neurons(panels[0, 1], simulations)
    draw_two_parameters(panels[0, 2], simulations)
    draw_overlaps(panels[1, 0], simulations, n_overlaps, 50 if n_overlaps < 4 else 400)
    draw_gains(panels[1, 1], simulations)
    if connectome is None:
        draw_connectome(panels[1, 2], planted_counts(), "planted counts", n_null)
    else:
        counts = np.loadtxt(connectome, delimiter="," if "," in Path(connectome).read_text()[:2000] else None)
        draw_connectome(panels[1, 2], counts.T, Path(connectome).stem, n_null)  # (target, source)
    page.savefig(figure, dpi=130)
    plt.close(page)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", type=Path, nargs="?", default=Path("connectivity_and_dimension.png"))
    parser.add_argument("--connectome", type=Path, help="counts, from rows to columns")
    parser.add_argument("--neurons", type=int, default=1000)
    parser.add_argument("--networks", type=int, default=4)
    given = parser.parse_args()
    print(main(given.figure, given.connectome, given.neurons, given.networks))
