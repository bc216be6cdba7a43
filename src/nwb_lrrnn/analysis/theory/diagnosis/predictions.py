"""What the theory expects of a network of these numbers, and of this very matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.analysis.theory.ensembles import Gains, RandomModes, Rates
from nwb_lrrnn.analysis.theory.four_point import NEAREST, four_point
from nwb_lrrnn.analysis.theory.given_matrix import predicted_covariance
from nwb_lrrnn.analysis.theory.mean_field import mean_field
from nwb_lrrnn.analysis.theory.modes import participation
from nwb_lrrnn.analysis.theory.sigmoids import SIGMOIDS, Sigmoid

Array = NDArray[np.floating]

MEANINGS = {
    "predicted_dimension": "dimension of the rates, of any network of this strength and kappa",
    "independent_dimension": "dimension of the rates, of independent connections of this strength",
    "dimension_of_this_matrix": "dimension of the rates by `predicted_covariance`",
    "predicted_half_time": "of single neurons, time constants",
    "predicted_leading_half_time": "of leading principal components, time constants",
    "gain_pr": "<G²>² / <G⁴> of the gains",
    "raw_dimension": "predicted, of rates with their gains",
    "readout_dimension": "predicted, where gains are of the readout alone",
    "normalised_dimension": "predicted, z-scored",
}

_LARGEST = 1500  # neurons, for one eigendecomposition in seconds


def predictions(
    numbers: dict[str, float], J: Array, nonlinearity: Sigmoid, gains: Array | None
) -> tuple[dict[str, float], list[str]]:
    """Return the numbers of `MEANINGS`, NaN where there are none, of J with its gains in it, and what fell short."""
    n, g = len(J), numbers["g"]
    found, said = dict.fromkeys(MEANINGS, np.nan), []
    gain_pr = 1.0 if gains is None else participation(gains)
    found["gain_pr"] = gain_pr
    if isinstance(nonlinearity, str) and nonlinearity not in SIGMOIDS:
        return found, said
    single = mean_field(g, nonlinearity)
    if not single.is_chaotic:
        return found, said
    if single.nu >= NEAREST:
        return found, ["The coupling strength is that of the transition to chaos, where nothing is predicted."]
    # gains are in J, and so in its kappa: what the modes have of it is the rest (Eq. 46b)
    kappa = numbers["kappa"]
    whole = four_point(g, RandomModes(kappa), nonlinearity=nonlinearity)
    found["predicted_dimension"] = n * whole.pr
    found["independent_dimension"] = n * four_point(g, nonlinearity=nonlinearity).pr
    found["predicted_half_time"] = single.half_time
    found["predicted_leading_half_time"] = whole.leading_half_time
    if gains is not None:
        of_modes = kappa - (1.0 / gain_pr - 1.0)
        kinds: tuple[Rates, ...] = ("raw", "readout", "normalised")
        for rates in kinds:
            with_gains = four_point(g, Gains(of_modes, gain_pr, rates), nonlinearity=nonlinearity)
            found[f"{rates}_dimension"] = n * with_gains.pr
    if n <= _LARGEST:
        this = predicted_covariance(J, nonlinearity)
        if bool(this.converged):
            found["dimension_of_this_matrix"] = float(this.dimension)
        else:
            said.append("The covariance of this very matrix did not come to agree with itself, and is left out.")
    return found, said
