"""How many of scikit-learn's checks every estimator and every preprocessing step passes, and which it declares failing.

    python benchmarks/sklearn_checks.py

Columns: checks passed, skipped by scikit-learn, declared to fail (the estimator does fail them). A failure that was
not declared, a declared one that passes and more than two declared ones end with status 1.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter

from sklearn.utils.estimator_checks import check_estimator

import nwb_lrrnn as lr
from nwb_lrrnn.models.linear import FactorAnalysis, MeanRate, UnitAutoregression, VectorAutoregression

ORDER = {
    "check_methods_sample_order_invariance": "time bins are not exchangeable",
    "check_methods_subset_invariance": "time bins are not independent of each other",
}
TRAINED = {"n_neurons": 5, "max_epochs": 2, "validation_fraction": 0.0, "random_state": 0}
ESTIMATORS = [
    (lr.LowRankRNN(rank=1, **TRAINED), ORDER),
    (lr.SMCLowRankRNN(rank=1, n_particles=8, n_trajectories=8, **TRAINED), ORDER),
    (lr.DisRNN(rank=1, n_groups=1, n_bootstraps=2, random_state=0), ORDER),
    (lr.LinearStateSpace(rank=1, max_iter=3), ORDER),
    (FactorAnalysis(rank=1), {}),
    (MeanRate(), {}),
    (VectorAutoregression(alpha=1.0), {}),
    (UnitAutoregression(), {}),
    (lr.Smooth(sd=1.0), ORDER),
    (lr.SquareRoot(), {}),
    (lr.ZScore(), {}),
    (lr.SoftNormalise(offset=1.0), {}),
    (lr.Filter(high=0.2, order=1), ORDER),
    (lr.Resample(rate=1.0, how="mean"), {}),
    (lr.DeltaFOverF(percentile=100.0), {}),
    (lr.DeltaFOverF(percentile=100.0, window=15), ORDER),
    (lr.PCADenoise(rank=1), {}),
    (lr.SelectUnits(), {}),
]


def main() -> None:
    bad = []
    print(f"{'estimator':44} {'passed':>6} {'skipped':>7} {'declared':>8}")
    for estimator, declared in ESTIMATORS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few epochs do not converge, and skipped checks warn
            checks = check_estimator(estimator, expected_failed_checks=declared, on_fail=None, on_skip=None)
        count = Counter(check["status"] for check in checks)
        name = _short(estimator)
        print(f"{name:44} {count['passed']:6} {count['skipped']:7} {count['xfail']:8}", flush=True)
        bad += [f"{name}: {check['check_name']} failed" for check in checks if check["status"] == "failed"]
        passed = {check["check_name"] for check in checks if check["status"] == "passed"}
        bad += [f"{name}: {check} is declared to fail and passes" for check in declared if check in passed]
        bad += [f"{name}: {len(declared)} declared failures, at most 2 are meant"] * (len(declared) > 2)
    print("\n".join(bad) or "no failure that is not declared")
    sys.exit(bool(bad))


def _short(estimator) -> str:
    """Return the name of an estimator, with the parameters that tell steps of one kind apart."""
    many = sum(type(other) is type(estimator) for other, _ in ESTIMATORS) > 1
    return repr(estimator) if many else type(estimator).__name__


if __name__ == "__main__":
    main()
