"""Likelihoods of observations, ln p(y | eta), in numpy: the one table of them, and all that others ask of each.

A new likelihood is a class and a name here, a class in `models.observation.likelihoods` (torch), and branches of the
functions in `models.kernels.observation` (numba); a new link is a class in `links`. The expected value of y is
time * g(eta): g is the link, and time is the bin size where g is a rate in 1/s, else 1. The spread is a second number
of each unit: a variance, or a dispersion.
"""

# ruff: noqa: D102 (what overrides is described in its base)

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln, xlog1py, xlogy

from nwb_lrrnn.dynamics.links import LINKS, Identity
from nwb_lrrnn.parameters import choose

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Floats = float | Array
Terms = tuple[Array, Array, Array, Array]

# codes of likelihood and link in the kernels
GAUSSIAN, POISSON_SOFTPLUS, POISSON_EXP, BINOMIAL_SOFTPLUS, BINOMIAL_EXP, BERNOULLI = range(6)


# --- likelihoods -----------------------------------------------------------------------------------------------------


class Family:
    """What others ask of a likelihood, whatever its link; eta is that of `link`, the mean of y is time * g(eta)."""

    codes: dict[str, int]  # of what is fitted, by link, the default first
    links: tuple[str, ...]  # that a network may have
    wants: str  # which values, and what to do with others
    plain: str  # the likelihood that is fitted where a spread comes afterwards
    spread: str | None = None  # its name in a network; None: the likelihood has none
    squares_units = False  # whether the spread is in squared units of X
    needs_spread = False  # whether a network is refused without it
    spread_limits = (0.0, np.inf)  # of what is fitted, the same in every model; a variance's in that of its unit
    is_of_counts = False  # whether values are spikes of any number
    mixes_spread = False  # whether ln p has a term of y and the spread without eta

    def wrong(self, values: Array) -> list[tuple[Mask, str]]:
        """Return which values are refused, fault by fault, and what to call them."""
        return []

    def is_sure(self, are_counts: bool) -> bool:
        """Return whether no value can be wrong, as far as is told by whether X holds counts."""
        return True

    def bounded(self, mean: Array) -> Array:
        """Return means moved to where every y has a density."""
        return mean

    def mean_of(self, total: Array, n: Array) -> Array:
        """Return the expected value of n bins of this sum; what was never seen in them is not impossible later."""
        return total / np.maximum(n, 1.0)

    def log_prob(self, y: Array, mean: Floats, spread: Floats | None = None) -> Array:
        """Return ln p(y) given its mean, constants included."""
        raise NotImplementedError

    def deviance(self, y: Array, mean: Array) -> Array:
        """Return twice what ln p(y) loses under `mean` against the mean y."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, mean: Array, spread: Floats | None) -> NDArray:
        """Return observations of these means."""
        raise NotImplementedError

    def value(self, link: Identity, y: Array, eta: Array, spread: Floats | None, time: Floats) -> Array:
        """Return ln p(y | eta) without `constants`."""
        return self.terms(link, y, eta, spread, time)[0]

    def constants(self, y: Array, spread: Floats | None, time: Floats) -> Array:
        """Return the terms of ln p(y | eta) that y and the spread alone make."""
        raise NotImplementedError

    def of_values(self, y: Array) -> Array:
        """Return the terms of ln p(y) that y alone makes."""
        return np.zeros_like(y)

    def terms(self, link: Identity, y: Array, eta: Array, spread: Floats | None, time: Floats) -> Terms:
        """Return `value`, its slope in eta, the Fisher information, and minus the curvature, entry by entry."""
        raise NotImplementedError

    def prior(self, link: Identity, eta: Array) -> tuple[Array, Array, Array]:
        """Return value, slope and minus curvature of the weak prior that keeps offsets of silent units finite."""
        raise NotImplementedError

    def best_spread(self, y: Array, mean: Array, weights: Array) -> float:
        """Return the spread that is most likely given y (bin,) and means (bin, node) of weights (node,)."""
        raise NotImplementedError


class Gaussian(Family):
    """Real values of mean eta; the spread is their variance."""

    codes = {"identity": GAUSSIAN}
    links = ("identity", "softplus", "exp")
    wants = "real values"
    plain = "gaussian"
    spread, squares_units, spread_limits = "observation_variance", True, (1e-6, np.inf)

    def log_prob(self, y: Array, mean: Floats, spread: Floats | None = None) -> Array:
        variance = 1.0 if spread is None else spread
        return -0.5 * ((y - mean) ** 2 / variance + np.log(2 * np.pi * variance))

    def deviance(self, y: Array, mean: Array) -> Array:
        return (y - mean) ** 2

    def draw(self, rng: np.random.Generator, mean: Array, spread: Floats | None) -> NDArray:
        return mean + np.sqrt(0.0 if spread is None else spread) * rng.standard_normal(mean.shape)


class Poisson(Family):
    """Counts of a mean that is their variance."""

    codes = {"softplus": POISSON_SOFTPLUS, "exp": POISSON_EXP}
    links = tuple(codes)
    plain = "poisson"
    is_of_counts = True
    wants = "counts (whole numbers >= 0); pass binned spikes, or likelihood='gaussian' for continuous data"

    def wrong(self, values: Array) -> list[tuple[Mask, str]]:
        return [(values < 0, "negative"), (values != np.round(values), "fractional")]

    def is_sure(self, are_counts: bool) -> bool:
        return are_counts

    def bounded(self, mean: Array) -> Array:
        return np.maximum(mean, 1e-12)

    def log_prob(self, y: Array, mean: Floats, spread: Floats | None = None) -> Array:
        return y * np.log(mean) - mean - gammaln(y + 1.0)

    def draw(self, rng: np.random.Generator, mean: Array, spread: Floats | None) -> NDArray:
        return rng.poisson(mean)

    def mean_of(self, total: Array, n: Array) -> Array:
        return (total + 0.5) / np.maximum(n, 1.0)  # the posterior mean of a Gamma prior of half a count

    def deviance(self, y: Array, mean: Array) -> Array:
        with np.errstate(divide="ignore"):  # a spike where none was possible costs infinity
            return 2.0 * (xlogy(y, y) - xlogy(y, mean) - (y - mean))

    def value(self, link: Identity, y: Array, eta: Array, spread: Floats | None, time: Floats) -> Array:
        return y * link.log(eta) - time * link.value(eta)

    def of_values(self, y: Array) -> Array:
        return -gammaln(y + 1.0)

    def constants(self, y: Array, spread: Floats | None, time: Floats) -> Array:
        return y * np.log(time) + self.of_values(y)

    def terms(self, link: Identity, y: Array, eta: Array, spread: Floats | None, time: Floats) -> Terms:
        log_rate, (relative, bend) = link.log(eta), link.relative(eta)
        mean = time * np.exp(log_rate)
        curvature = np.maximum(y * (relative**2 - bend) + mean * bend, 0.0)  # concave, whatever rounding says
        return y * log_rate - mean, (y - mean) * relative, mean * relative**2, curvature

    def prior(self, link: Identity, eta: Array) -> tuple[Array, Array, Array]:
        relative, bend = link.relative(eta)
        return 0.5 * link.log(eta), 0.5 * relative, 0.5 * (relative**2 - bend)  # half a count of no duration


class NegativeBinomial(Poisson):
    """Counts of variance mean + mean^2 / r; the spread is r, their dispersion."""

    codes = {"softplus": BINOMIAL_SOFTPLUS, "exp": BINOMIAL_EXP}
    spread, needs_spread, mixes_spread, spread_limits = "dispersion", True, True, (0.05, 1e4)

    def log_prob(self, y: Array, mean: Floats, spread: Floats | None = None) -> Array:
        r = _given(spread)
        return y * np.log(mean) - (y + r) * np.log1p(mean / r) + self.constants(y, r, 1.0)

    def draw(self, rng: np.random.Generator, mean: Array, spread: Floats | None) -> NDArray:
        r = _given(spread)
        return rng.poisson(mean * rng.gamma(r, 1.0 / r, size=mean.shape))

    def value(self, link: Identity, y: Array, eta: Array, spread: Floats | None, time: Floats) -> Array:
        r = _given(spread)
        return y * link.log(eta) - (y + r) * np.log1p(time * link.value(eta) / r)

    def constants(self, y: Array, spread: Floats | None, time: Floats) -> Array:
        # log [Gamma(y + r) / (Gamma(r) y!)] by the beta function, which stays exact where r is large (near Poisson)
        r, some = _given(spread), np.where(y > 0, y, 1.0)
        return np.where(y > 0, -betaln(r, some) - np.log(some), 0.0) + y * (np.log(time) - np.log(r))

    def terms(self, link: Identity, y: Array, eta: Array, spread: Floats | None, time: Floats) -> Terms:
        log_rate, (relative, bend) = link.log(eta), link.relative(eta)
        mean = time * np.exp(log_rate)
        r = _given(spread)
        shrink, grown = r / (r + mean), mean / (r + mean)
        value = y * log_rate - (y + r) * np.log1p(mean / r)
        curvature = y * (relative**2 - bend) + (y + r) * grown * (bend - relative**2 * grown)  # may be negative
        return value, (y - mean) * relative * shrink, mean * relative**2 * shrink, curvature

    def best_spread(self, y: Array, mean: Array, weights: Array) -> float:
        from scipy.optimize import minimize_scalar

        counts = np.bincount(y.astype(np.int64))
        sizes = np.arange(len(counts))

        def loss(log_r: float) -> float:
            r = np.exp(log_r)
            growth = np.log1p(mean / r) @ weights  # ln((r + mean) / r)
            return -float(counts @ (gammaln(sizes + r) - gammaln(r) - sizes * log_r) - (y + r) @ growth)

        limits = tuple(np.log(self.spread_limits))
        found = minimize_scalar(loss, bounds=limits, method="bounded", options={"xatol": 1e-3})
        return float(np.exp(found.x))


class Bernoulli(Poisson):
    """0 or 1 in every bin, of probability g(eta): whether there was a spike in a bin of 1 or 2 ms; eta is in nats."""

    codes = {"logit": BERNOULLI}
    links = tuple(codes)
    plain = "bernoulli"
    is_of_counts = False
    wants = "0 or 1 in every bin; bin more finely (bin_size=0.001), or pass likelihood='poisson' for counts"

    def wrong(self, values: Array) -> list[tuple[Mask, str]]:
        return [*super().wrong(values), (values > 1, "too large a")]

    def is_sure(self, are_counts: bool) -> bool:
        return False

    def bounded(self, mean: Array) -> Array:
        return np.clip(mean, 1e-12, 1.0 - 1e-12)

    def log_prob(self, y: Array, mean: Floats, spread: Floats | None = None) -> Array:
        return xlogy(y, mean) + xlog1py(1.0 - y, -mean)

    def draw(self, rng: np.random.Generator, mean: Array, spread: Floats | None) -> NDArray:
        return (rng.random(mean.shape) < mean).astype(np.int64)

    def mean_of(self, total: Array, n: Array) -> Array:
        return (total + 0.5) / (n + 1.0)  # the posterior mean of a Beta prior of half a bin of either kind

    def deviance(self, y: Array, mean: Array) -> Array:
        with np.errstate(divide="ignore"):
            return -2.0 * self.log_prob(y, mean)

    def value(self, link: Identity, y: Array, eta: Array, spread: Floats | None, time: Floats) -> Array:
        return y * eta - np.logaddexp(0.0, eta)

    def of_values(self, y: Array) -> Array:
        return np.zeros_like(y)

    def terms(self, link: Identity, y: Array, eta: Array, spread: Floats | None, time: Floats) -> Terms:
        information = link.slope(eta)
        return self.value(link, y, eta, spread, time), y - link.value(eta), information, information

    def prior(self, link: Identity, eta: Array) -> tuple[Array, Array, Array]:
        value, slope, information, _ = self.terms(link, np.full_like(eta, 0.5), eta, None, 1.0)
        return value, slope, information  # half a bin of 0 and half a bin of 1


def _given(spread: Floats | None) -> Floats:
    return 1.0 if spread is None else spread


LIKELIHOODS: dict[str, Family] = {
    "gaussian": Gaussian(),
    "poisson": Poisson(),
    "negative_binomial": NegativeBinomial(),
    "bernoulli": Bernoulli(),
}


# --- one likelihood with its link ------------------------------------------------------------------------------------


def choose_link(likelihood: str, link: str | None) -> str:
    """Return the link that is fitted with a likelihood: its default where None is given; refuse one it cannot have."""
    links = tuple(LIKELIHOODS[likelihood].codes)
    return choose("link", links[0] if link is None else link, links)


class Likelihood(NamedTuple):
    """p(y | time * g(eta)): which likelihood, which link, and the bin size that turns spikes/s into counts."""

    name: str  # of LIKELIHOODS
    link: str  # of LINKS
    bin_size: float

    @property
    def family(self) -> Family:
        """All that does not depend on link and bin size."""
        return LIKELIHOODS[self.name]

    @property
    def g(self) -> Identity:
        """The link."""
        return LINKS[self.link]

    @property
    def code(self) -> int:
        """That of likelihood and link in the kernels."""
        return self.family.codes[self.link]

    @property
    def time(self) -> float:
        """Expected value of y where g is 1."""
        return self.bin_size if self.g.is_rate else 1.0

    @property
    def has_spread(self) -> bool:
        """Whether every unit has a second number, fitted like its offset."""
        return self.family.spread is not None

    @property
    def plain(self) -> Likelihood:
        """The likelihood that is fitted where a spread comes afterwards."""
        return self._replace(name=self.family.plain)

    def spread_unit(self, scale):
        """Return in what the spread is measured where values are in units of `scale`, (unit,)."""
        return scale**2 if self.family.squares_units else scale**0

    def spread_of(self, network):
        """Return the spread (unit,) of a network, or of a linear system; None where it has none."""
        return None if self.family.spread is None else getattr(network, self.family.spread)

    def fields(self, spread) -> dict:
        """Return the spread by its name in a network; nothing where the likelihood has none."""
        return {} if self.family.spread is None else {self.family.spread: spread}

    def mean(self, eta: Array) -> Array:
        """Return the expected value of y."""
        return self.time * self.g.value(eta)

    def eta_of(self, mean: Array) -> Array:
        """Return eta of an expected value."""
        return self.g.inverse(mean / self.time)

    def size(self, mean: Array) -> Array:
        """Return of what size eta, and its loadings, are for units of these means: that of the rate, or 1."""
        return mean / self.time if self.g.is_linear else np.ones_like(mean)

    def value(self, y: Array, eta: Array, spread: Array | None = None) -> Array:
        """Return ln p(y | eta) without `constants`."""
        return self.family.value(self.g, y, eta, spread, self.time)

    def terms(self, y: Array, eta: Array, spread: Array | None = None) -> Terms:
        """Return `value`, its slope in eta, the Fisher information, and minus the curvature."""
        return self.family.terms(self.g, y, eta, spread, self.time)

    def constants(self, y: Array, spread: Array | None = None) -> Array:
        """Return the terms of ln p(y | eta) that y and the spread alone make."""
        return self.family.constants(y, spread, self.time)

    def prior(self, eta: Array) -> tuple[Array, Array, Array]:
        """Return value, slope and minus curvature of the weak prior of an offset."""
        return self.family.prior(self.g, eta)
