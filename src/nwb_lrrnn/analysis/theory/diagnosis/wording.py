"""A diagnosis in plain words."""

from __future__ import annotations

import textwrap

import numpy as np
import xarray as xr

_WIDTH = 110
_SURE = 0.05


def paragraph(table: xr.Dataset, reasons: list[str], notes: list[str]) -> str:
    """Return what a diagnosis found, the regime first."""
    number = {str(name): float(value) for name, value in table.data_vars.items() if value.ndim == 0}
    unit = table.attrs["time_unit"]
    sentences = [*notes, _regime(reasons), _structure(number), _overlaps(table, number), _predicted(number, reasons)]
    sentences += [_simulated(table, number, unit), _scaling(number), _recorded(table, number)]
    return textwrap.fill(" ".join(sentence for sentence in sentences if sentence), _WIDTH)


def _regime(reasons: list[str]) -> str:
    if not reasons:
        return "The theory of large random networks applies: autonomous, chaotic, many modes, none that stands out."
    listed = "; ".join(reasons)
    return (
        f"The theory of large random networks does not apply as it stands: {listed}. Its numbers are a baseline; "
        "simulated networks of the same singular values decide."
    )


def _structure(number: dict[str, float]) -> str:
    rank = f"effective number of modes {number['k_eff']:.3g}" if number["kappa"] > 0 else "no finite effective rank"
    share = f" ({number['k_eff'] / number['rank']:.2f} of its rank {number['rank']:.0f})" if number["kappa"] > 0 else ""
    return (
        f"{number['n_neurons']:.0f} neurons, coupling strength {number['g']:.3g}, {rank}{share}, kappa "
        f"{number['kappa']:.3g} (0 of independent connections, -1 of an orthogonal matrix), reciprocity "
        f"{number['reciprocity']:.2g}, chains {number['chain']:.2g}, convergent pairs {number['convergent']:.2g}, "
        f"divergent pairs {number['divergent']:.2g}."
    )


def _overlaps(table: xr.Dataset, number: dict[str, float]) -> str:
    sure = number["t3_p"] <= _SURE
    text = (
        f"Left and right vectors of the modes {'overlap' if sure else 'overlap no'} more than free ones"
        f" (t3 {number['t3']:.3g}, p = {number['t3_p']:.2g} against free directions of the same singular values"
    )
    if "t3_degree_p" in number:
        text += f", p = {number['t3_degree_p']:.2g} against rewired networks of the same degrees"
    text += ")."
    if sure and number["rank"] < 0.05 * number["n_neurons"]:
        text += " A low-rank network that makes activity of its own needs them, so that this is no discovery."
    return text


def _predicted(number: dict[str, float], reasons: list[str]) -> str:
    if not np.isfinite(number["predicted_dimension"]):
        return ""
    text = (
        f"{'As a baseline, ' if reasons else ''}random modes of this strength and kappa have a dimension of "
        f"{number['predicted_dimension']:.3g} (independent connections: {number['independent_dimension']:.3g}) and "
        f"half-times of {number['predicted_half_time']:.3g} (neurons) and {number['predicted_leading_half_time']:.3g} "
        "(leading components) time constants"
    )
    if np.isfinite(number["dimension_of_this_matrix"]):
        text += f"; this very matrix {number['dimension_of_this_matrix']:.3g}"
    return text + "."


def _simulated(table: xr.Dataset, number: dict[str, float], unit: str) -> str:
    if "null_dimension" not in table:
        return ""
    null = table["null_dimension"].values
    null = null[np.isfinite(null)]
    if not np.isfinite(number["dimension"]):
        return "Run by itself it falls silent."
    text = f"Run, it has a dimension of {number['dimension']:.3g} (half-time {number['half_time']:.3g} {unit})"
    if len(null) == 0:
        return text + "; networks of the same singular values and free directions fall silent."
    low, high = np.percentile(null, [5, 95])
    return (
        f"{text}; {len(null)} networks of the same singular values and free directions, run alike, have {low:.3g} to "
        f"{high:.3g} (it lies at their {100 * number['null_percentile']:.0f}th percentile)."
    )


def _scaling(number: dict[str, float]) -> str:
    if number["gain_pr"] < 0.95 and np.isfinite(number["normalised_dimension"]):
        return (
            f"Gains differ (PR {number['gain_pr']:.2g}): z-scoring does not undo recurrent ones. Expected are "
            f"{number['raw_dimension']:.3g} raw, {number['normalised_dimension']:.3g} z-scored, and "
            f"{number['readout_dimension']:.3g} raw if they were of the readout alone."
        )
    if np.isfinite(number.get("unequal", np.nan)) and number["unequal"] > 1.5:
        return (
            f"Neurons differ in variance (<v²>/<v>² = {number['unequal']:.2g}): z-scoring changes the dimension from "
            f"{number['dimension']:.3g} to {number['z_scored_dimension']:.3g}, and what gains did inside the network "
            "stays in it."
        )
    return ""


def _recorded(table: xr.Dataset, number: dict[str, float]) -> str:
    text = ""
    null = table["null_unit_dimension"].values if "null_unit_dimension" in table else np.zeros(0)
    null = null[np.isfinite(null)]
    if len(null) and np.isfinite(number["unit_dimension"]):
        low, high = np.percentile(null, [5, 95])
        own = number["unit_dimension"]
        text = f"The units that it shows have a dimension of {own:.3g} ({low:.3g} to {high:.3g} there)."
    if "recorded_dimension" not in number:
        return text
    text += f"{' ' if text else ''}The recording has a dimension of {number['recorded_dimension']:.3g}"
    if np.isfinite(number.get("recorded_low", np.nan)):
        text += f" ({number['recorded_low']:.3g} to {number['recorded_high']:.3g})"
    if np.isfinite(number.get("recorded_z_scored_dimension", np.nan)):
        text += f", {number['recorded_z_scored_dimension']:.3g} z-scored"
    if np.isfinite(number.get("recorded_half_time", np.nan)):
        text += f", and its units a half-time of {number['recorded_half_time']:.3g} s"
    if "recorded_percentile" in number:
        share = number["recorded_percentile"]
        if 0.05 < share < 0.95:
            text += ", as networks of these singular values have: strength and effective rank explain it"
        else:
            text += ", which networks of these singular values do not have: directions, inputs or noise matter"
    return text + "."
