"""Low-rank recurrent networks for neural recordings, from an NWB file to its dynamics and back."""

from typing import TYPE_CHECKING, Any

from nwb_lrrnn.models import ESTIMATORS

if TYPE_CHECKING:
    from nwb_lrrnn.alignment import compare_fits
    from nwb_lrrnn.analysis.dimension import dimension_of_recording, effective_rank
    from nwb_lrrnn.analysis.fixed_points import find_fixed_points
    from nwb_lrrnn.analysis.theory.activity import dimension_of_activity
    from nwb_lrrnn.analysis.theory.diagnosis.report import diagnose
    from nwb_lrrnn.analysis.theory.four_point import four_point
    from nwb_lrrnn.analysis.theory.given_matrix import predicted_covariance
    from nwb_lrrnn.analysis.theory.mean_field import mean_field
    from nwb_lrrnn.analysis.theory.random_modes import RandomModeModel
    from nwb_lrrnn.batch.run import run_batch
    from nwb_lrrnn.batch.summary import read_batch
    from nwb_lrrnn.compare import compare_baselines, select_rank
    from nwb_lrrnn.dynamics import LowRankDynamics
    from nwb_lrrnn.groups import compare_disentanglement, group_stability, judge_groups, select_groups
    from nwb_lrrnn.io.files.dandi.listing import list_assets
    from nwb_lrrnn.io.reading.recording import Recording, open_nwb
    from nwb_lrrnn.io.writing.recording_file import write_recording
    from nwb_lrrnn.models.dis import DisRNN as DisRNN
    from nwb_lrrnn.models.least_squares import LeastSquaresRNN as LeastSquaresRNN
    from nwb_lrrnn.models.least_squares.drift_diffusion import drift_diffusion_network
    from nwb_lrrnn.models.least_squares.equivalents import equivalent_networks, suggest_perturbations
    from nwb_lrrnn.models.least_squares.infinite import InfiniteRNN
    from nwb_lrrnn.models.least_squares.smallest import smallest_network
    from nwb_lrrnn.models.linear import LinearStateSpace as LinearStateSpace
    from nwb_lrrnn.models.low_rank import LowRankRNN as LowRankRNN
    from nwb_lrrnn.models.smc import SMCLowRankRNN as SMCLowRankRNN
    from nwb_lrrnn.preprocessing import (
        DeltaFOverF,
        Filter,
        PCADenoise,
        Resample,
        SelectUnits,
        Smooth,
        SoftNormalise,
        SquareRoot,
        ZScore,
        chop,
        split_trials,
    )
    from nwb_lrrnn.results import load_model, read_results, write_results

    __version__: str

__all__ = [
    "DeltaFOverF",
    "Filter",
    "InfiniteRNN",
    "LowRankDynamics",
    "PCADenoise",
    "RandomModeModel",
    "Recording",
    "Resample",
    "SelectUnits",
    "Smooth",
    "SoftNormalise",
    "SquareRoot",
    "ZScore",
    "__version__",
    "chop",
    "compare_baselines",
    "compare_disentanglement",
    "compare_fits",
    "diagnose",
    "dimension_of_activity",
    "dimension_of_recording",
    "drift_diffusion_network",
    "effective_rank",
    "equivalent_networks",
    "find_fixed_points",
    "four_point",
    "group_stability",
    "judge_groups",
    "list_assets",
    "load_model",
    "mean_field",
    "open_nwb",
    "predicted_covariance",
    "read_batch",
    "read_results",
    "run_batch",
    "select_groups",
    "select_rank",
    "smallest_network",
    "split_trials",
    "suggest_perturbations",
    "write_recording",
    "write_results",
]

# Where each name lives. Modules are imported when a name is first used: `import nwb_lrrnn` alone loads none of them.
_ESTIMATORS = {name: f"models.{entry.home}" for name, entry in ESTIMATORS.items() if entry.word}
_HOMES = {
    **_ESTIMATORS,
    "DeltaFOverF": "preprocessing",
    "Filter": "preprocessing",
    "InfiniteRNN": "models.least_squares.infinite",
    "LowRankDynamics": "dynamics",
    "PCADenoise": "preprocessing",
    "RandomModeModel": "analysis.theory.random_modes",
    "Recording": "io.reading.recording",
    "Resample": "preprocessing",
    "SelectUnits": "preprocessing",
    "Smooth": "preprocessing",
    "SoftNormalise": "preprocessing",
    "SquareRoot": "preprocessing",
    "ZScore": "preprocessing",
    "chop": "preprocessing",
    "compare_baselines": "compare",
    "compare_disentanglement": "groups",
    "compare_fits": "alignment",
    "diagnose": "analysis.theory.diagnosis.report",
    "dimension_of_activity": "analysis.theory.activity",
    "dimension_of_recording": "analysis.dimension",
    "drift_diffusion_network": "models.least_squares.drift_diffusion",
    "effective_rank": "analysis.dimension",
    "equivalent_networks": "models.least_squares.equivalents",
    "find_fixed_points": "analysis.fixed_points",
    "four_point": "analysis.theory.four_point",
    "group_stability": "groups",
    "judge_groups": "groups",
    "list_assets": "io.files.dandi.listing",
    "load_model": "results",
    "mean_field": "analysis.theory.mean_field",
    "open_nwb": "io.reading.recording",
    "predicted_covariance": "analysis.theory.given_matrix",
    "read_batch": "batch.summary",
    "read_results": "results",
    "run_batch": "batch.run",
    "select_groups": "groups",
    "select_rank": "compare",
    "smallest_network": "models.least_squares.smallest",
    "split_trials": "preprocessing",
    "suggest_perturbations": "models.least_squares.equivalents",
    "write_recording": "io.writing.recording_file",
    "write_results": "results",
}
__all__ += list(_ESTIMATORS)  # pyright: ignore[reportUnsupportedDunderAll]  (it reads them above, "X as X")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("nwb-lrrnn")
    elif name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
