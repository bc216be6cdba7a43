"""The linear state-space model that the fit of a network starts from: found once, and kept in the log of the fit."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.linear import counts, em
from nwb_lrrnn.models.linear.system import LinearSystem
from nwb_lrrnn.models.training.checkpoints import Checkpoint
from nwb_lrrnn.trials import Trials

_EM_STEPS = 30


def linear_model(
    trials: Trials, rank: int, likelihood: Likelihood, log: Checkpoint, name: str
) -> tuple[LinearSystem, NDArray[np.floating]]:
    """Return a linear model after few steps of EM and its latents (trial, time, latent); `name` is that of the step."""
    step = log.step(name)
    kept = step.recall()
    if kept is not None:
        kept = dict(kept)
        means = kept.pop("means")
        return LinearSystem(**kept), means
    if likelihood.name == "gaussian":
        fit = em.fit(trials, rank, max_iter=_EM_STEPS, tol=1e-4)
    else:
        name, link = likelihood.name, likelihood.link
        fit = counts.fit(trials, rank, likelihood=name, link=link, max_iter=_EM_STEPS, tol=1e-3)
    fields = {field.name: getattr(fit.system, field.name) for field in dataclasses.fields(fit.system)}
    found = {field: value for field, value in fields.items() if value is not None}
    step.store(lambda: {**found, "means": fit.moments.means})
    return fit.system, fit.moments.means
