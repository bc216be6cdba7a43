"""Is the verdict moved by what is no dynamics? Every change of `tests/metamorphic.py`, on planted systems.

    python benchmarks/truth.py metamorphic --out FILE [--systems linear cycle] [--likelihoods gaussian poisson]
        [--estimators LowRankRNN ...] [--changes NAME ...] [--seeds 10] [--first 0]
    python benchmarks/truth.py table FILE ...

The move is that of the difference "linear state space of the model's rank minus the model" (nats per bin), from the
unchanged data to the changed ones, data and model seeds being the same. The bars: under a harmless change it moves by
at most 0.02 or twice the standard deviation between model seeds on the unchanged data, whichever is larger, and the
word stays; under a dubious one the same, or the word is "cannot be judged" and the unit, bin or trial is named; trials
given twice are refused or spoken of, or the interval is not narrower. A planted cycle that is "supported" stays so
under harmless changes, and is never "not supported" under dubious ones. About 45 CPU minutes a system for 10 seeds.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from metamorphic import BOTH, CHANGES  # noqa: E402
from nwb_lrrnn import DisRNN, LeastSquaresRNN, LowRankRNN, SMCLowRankRNN, compare_baselines  # noqa: E402
from nwb_lrrnn.compare.baselines import state_space_name  # noqa: E402
from planted_systems import LATENTS, recording  # noqa: E402
from truth_log import Log, frame, print_table  # noqa: E402
from truth_memory import remembered_baselines  # noqa: E402

if TYPE_CHECKING:
    from nwb_lrrnn.models.base import LatentModel

RANK = 2
N_TRAIN, N_HELD = 20, 10  # trials
UNCHANGED = "nothing"
MODEL_SEEDS = 3  # on the unchanged data, where the fit is not deterministic
SMALLEST = 0.02  # nats per bin: a move that is always allowed
NARROWER = 0.95  # of the width of an interval: below it, it has become narrower
KEY = ("system", "likelihood", "data_seed", "change", "estimator", "model_seed")


def estimator(name: str, model_seed: int) -> LatentModel:
    """Return a small instance that fits in one to three CPU seconds."""
    trained: dict[str, Any] = {"n_neurons": 20, "patience": 5, "random_state": model_seed}
    if name == "LowRankRNN":
        return LowRankRNN(RANK, max_epochs=100, **trained)
    if name == "SMCLowRankRNN":
        return SMCLowRankRNN(RANK, nonlinearity="tanh", n_particles=32, max_epochs=40, **trained)
    if name == "LeastSquaresRNN":
        return LeastSquaresRNN(RANK, n_neurons=50, random_state=model_seed)
    return DisRNN(RANK, n_groups=1, n_bootstraps=2, random_state=model_seed)


ESTIMATORS = ("DisRNN", "SMCLowRankRNN", "LowRankRNN", "LeastSquaresRNN")
DETERMINISTIC = ("DisRNN",)
SUITED = {  # which estimators can support a cycle: a network without noise loses to noise, one that never filters to
    "linear": ESTIMATORS,  # a noisy readout; and counts of cycles say too little for all but SMC
    "cycle": ("SMCLowRankRNN", "LowRankRNN", "LeastSquaresRNN"),
    "noisy cycle": ("DisRNN", "SMCLowRankRNN", "LeastSquaresRNN"),
}


# --- the run ---------------------------------------------------------------------------------------------------------


def judged(model: LatentModel, train: Any, held: Any) -> dict[str, Any]:
    """Return what is said of a model, and its difference from the linear one, as a line of the log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = model.fit(train)
        table = compare_baselines(fitted, held, cv="prefit", X_train=train)
    linear = table.loc[state_space_name(RANK)]
    scored = np.asarray(fitted.scored_units_)
    forbidden = "; ".join(table.attrs["forbidden"])  # a model that is itself linear gets no word, but what is forbidden
    return {
        "word": table.attrs.get("nonlinear", "cannot be judged" if forbidden else "linear"),
        "difference": linear["model_above"],
        "low": linear["low"],
        "high": linear["high"],
        "gain": linear["vs_mean_rate"],
        "left_out": [str(unit) for unit in fitted.unit_ids_[~scored]],
        "verdict": table.attrs.get("verdict", forbidden),
    }


def data_sets(options: argparse.Namespace) -> Iterator[tuple[dict[str, Any], Any, Any]]:
    """Yield the fields of each data set, its training and its held-out trials."""
    for seed in range(options.first, options.first + options.seeds):
        for system in options.systems:
            for likelihood in options.likelihoods:
                X = recording(system, likelihood, seed, N_TRAIN + N_HELD)
                train, held = X[:N_TRAIN], X[N_TRAIN:]
                case = {"system": system, "likelihood": likelihood, "data_seed": seed}
                yield case | {"change": UNCHANGED}, train, held
                for k, (name, change) in enumerate(CHANGES.items()):
                    if likelihood in change.likelihoods and name in (options.changes or CHANGES):
                        rng = np.random.default_rng([seed, k])
                        yield case | {"change": name}, *change.apply(train, held, rng)


def run(options: argparse.Namespace) -> None:
    log = Log(options.out, KEY)
    for fields, train, held in data_sets(options):
        with remembered_baselines():
            for name in (name for name in options.estimators if name in SUITED[fields["system"]]):
                several = fields["change"] == UNCHANGED and name not in DETERMINISTIC
                for model_seed in range(MODEL_SEEDS if several else 1):
                    case = fields | {"estimator": name, "model_seed": model_seed}
                    log.run(case, partial(judged, estimator(name, model_seed), train, held))


# --- the tables ------------------------------------------------------------------------------------------------------


def table(paths: list[Path]) -> None:
    """Print the tables of the bars from one or more logs."""
    cases = frame(paths)
    if "change" not in cases:
        return
    cases = cases[cases["change"].notna()].drop_duplicates(list(KEY), keep="last")
    if "error" not in cases:
        cases["error"] = np.nan
    cases["word"] = cases["word"].where(cases["error"].isna(), "error")
    failures = []
    for group, rows in cases.groupby(["system", "likelihood", "estimator"], sort=False):
        failures += _print_group(group, rows)
    print(f"## Cases that miss their bar: {len(failures)}\n")
    for text in failures:
        print(f"- {text}")


def _print_group(group: tuple[str, ...], rows: pd.DataFrame) -> list[str]:
    """Print the table of one system, likelihood and estimator; return its failures, a sentence each."""
    unchanged = rows[rows["change"] == UNCHANGED]
    first = unchanged[unchanged["model_seed"] == 0].set_index("data_seed")
    sd = float(np.nan_to_num(np.sqrt(unchanged.groupby("data_seed")["difference"].var().mean())))  # of one seed: 0
    bar = max(SMALLEST, 2 * sd)
    print(f"## {', '.join(group)}: linear - model {first['difference'].mean():.3f} nats per bin\n")
    print(f"S.d. between model seeds {sd:.3f}; the bar of a move is {bar:.3f} nats per bin.\n")
    lines: list[tuple[Any, ...]] = [(UNCHANGED, "", len(first), "", "", _counted(first["word"]), "", "")]
    failures: list[str] = []
    for name in CHANGES:
        changed = rows[rows["change"] == name].set_index("data_seed")
        changed = changed.loc[changed.index.intersection(first.index)]
        if changed.empty:
            continue
        before = first.loc[changed.index]
        moves = (changed["difference"] - before["difference"]).abs()
        missed = [
            f"{', '.join(group)}, seed {seed}, {name}: {why}"
            for seed in changed.index
            if (why := fault(name, group[0], before.loc[seed], changed.loc[seed], bar))
        ]
        failures += missed
        kept = int((changed["word"] == before["word"]).sum())
        lines.append(
            (name, CHANGES[name].duty, len(changed), float(moves.median()), float(moves.max()))
            + (_counted(changed["word"]), kept, len(missed))
        )
    print_table(("change", "duty", "n", "move, median", "largest", "words", "word kept", "miss the bar"), lines)
    return failures


def fault(change: str, system: str, before: pd.Series, after: pd.Series, bar: float) -> str:
    """Return how a case misses its bar, or nothing."""
    duty, named = CHANGES[change].duty, CHANGES[change].named
    text = after["error"] if after["word"] == "error" else after["verdict"]
    is_named = any(word in str(text) for word in named)
    if duty != "harmless" and after["word"] in ("error", "cannot be judged"):
        return "" if is_named else f"nothing is named: {text}"
    if after["word"] == "error":
        return str(text)
    if duty == "void":
        width, was = after["high"] - after["low"], before["high"] - before["low"]
        return f"the interval has {width / was:.2f} of its width" if width < NARROWER * was else ""
    if duty == "dubious" and system != "linear" and after["word"] == "not supported" != before["word"]:
        return f"{before['word']} became not supported"
    if after["word"] != before["word"]:
        return f"{before['word']} became {after['word']}: {text}"
    move = after["difference"] - before["difference"]
    return f"moved by {move:+.3f}" if not abs(move) <= bar else ""


def _counted(words: pd.Series) -> str:
    return ", ".join(f"{word} {n}" for word, n in words.value_counts().items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `metamorphic`."""
    parser.add_argument("--out", type=Path, required=True, help="the log; cases that it holds are not run again")
    parser.add_argument("--systems", nargs="+", choices=tuple(LATENTS), default=tuple(LATENTS))
    parser.add_argument("--likelihoods", nargs="+", choices=BOTH, default=BOTH)
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=ESTIMATORS)
    parser.add_argument("--changes", nargs="+", choices=tuple(CHANGES), help="default: all")
    parser.add_argument("--seeds", type=int, default=10, help="data seeds")
    parser.add_argument("--first", type=int, default=0, help="the first data seed")
