"""What a fit leaves: the table beside simpler models, and the result file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from nwb_lrrnn.io.reading.recording import Recording
    from nwb_lrrnn.models.base import LatentModel

_KEPT = ("nwb_path", "neurodata_type", "object_id", "preprocessing")


def part_of(X: Any, which: Any) -> Any:
    """Return some trials; all where nothing says which, and None of nothing."""
    return X if X is None or which is None else X[which]


def held_out_table(
    estimator: LatentModel, X: xr.DataArray, inputs: Any, held: Any, seed: int, shortage: str
) -> pd.DataFrame:
    """Return the table of held-out scores of a fitted model and of simpler ones; say of what there is too little."""
    from nwb_lrrnn.compare import compare_baselines

    table = compare_baselines(
        estimator,
        X[held],
        cv="prefit",
        inputs=part_of(inputs, held),
        X_train=X[~held],
        inputs_train=part_of(inputs, ~held),
        random_state=seed,
    )
    if shortage and table.attrs.get("nonlinear") == "undecided":
        table.attrs["verdict"] += f" {shortage[:1].upper()}{shortage[1:]}."
    return table


def write_fit(
    path: Path,
    estimator: LatentModel,
    X: xr.DataArray,
    inputs: Any,
    held: Any,
    table: pd.DataFrame | None,
    recording: Recording,
    overwrite: bool,
) -> None:
    """Write the model and the latents of all trials, which say what was held out and where they come from."""
    from nwb_lrrnn.results import write_results

    latents = estimator.transform(X, inputs=inputs)
    if held is not None:
        latents = latents.assign_coords(held_out=("trial", held))
    latents.attrs |= {key: X.attrs[key] for key in _KEPT if key in X.attrs}
    write_results(path, estimator, latents=latents, metrics=table, source=recording, overwrite=overwrite)
