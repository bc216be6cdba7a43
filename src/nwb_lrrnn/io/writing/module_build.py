"""The processing module of a fit in memory, before it goes into a file."""

from collections.abc import Mapping, Sequence
from typing import Any

from nwb_lrrnn.io.writing.module_arrays import NamedArray, array_table
from nwb_lrrnn.io.writing.module_info import LAYOUT, info_table
from nwb_lrrnn.io.writing.module_pieces import ModulePieces
from nwb_lrrnn.io.writing.module_series import series_and_trials
from nwb_lrrnn.io.writing.module_tables import dataset_table, unit_tables


def check_module_name(name: str) -> None:
    """Raise if a text cannot be the name of a processing module.

    Parameters
    ----------
    name : str
        What a user gave.

    Raises
    ------
    ValueError
        If it is no text, is empty, or would be a path.
    """
    if not isinstance(name, str) or not name or name in (".", "..") or set(name) & set("/:\\\0"):
        raise ValueError(f"module: got {name!r}, wanted a name without / and :, such as 'lrrnn'")


def build_module(
    name: str,
    pieces: ModulePieces,
    extra: Mapping[str, NamedArray],
    info: Sequence[tuple[str, str, Any]],
    *,
    units: Any = None,
    rows: Any = None,
) -> Any:
    """Return the processing module in memory; where it goes is the caller's affair.

    Parameters
    ----------
    name : str
        Of the module.
    pieces, extra : dict
        From `as_pieces`.
    info : sequence of (section, key, value)
        As for `write_module`.
    units : hdmf.common.DynamicTable, optional
        The table of the units, where the file has one already.
    rows : array-like of int, shape (unit,), optional
        Row of each unit in `units`.

    Returns
    -------
    module : pynwb.ProcessingModule
        Not yet in a file.
    """
    from pynwb import ProcessingModule

    module: Any = ProcessingModule(name=name, description="Latent dynamics fitted by nwb_lrrnn")
    if pieces["latents"] is not None:
        for item in series_and_trials(pieces["latents"], pieces["rates"]):
            module.add(item)
    if pieces["loadings"] is not None:
        for table in unit_tables(pieces["loadings"], units, rows):
            module.add(table)
    module.add(info_table([LAYOUT, *info]))
    if pieces["state"]:
        arrays_of_state = {key: NamedArray(array) for key, array in pieces["state"].items()}
        module.add(array_table("model_state", "Everything that rebuilds the model, bit for bit", arrays_of_state))
    if extra:
        module.add(array_table("coordinates", "Coordinates and attributes of the arrays in this module", extra))
    for key, table in pieces["tables"].items():
        module.add(dataset_table(key, table))
    return module
