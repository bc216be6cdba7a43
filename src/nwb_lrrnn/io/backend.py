"""The engine "nwb" of xarray: `xr.open_datatree(uri, engine="nwb")`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import xarray as xr
from xarray.backends import BackendEntrypoint

if TYPE_CHECKING:
    from nwb_lrrnn.io.reading.recording import Recording

# Pages and identifiers of a DANDI archive, and files by the end of their name.
_NWB = re.compile(r"dandi://|DANDI:\d{6}|.*\.nwb(\.zarr)?/?$", re.IGNORECASE)


class NWBBackend(BackendEntrypoint):
    """Opens NWB files in xarray, local ones and those that `open_nwb` streams.

    xarray finds it by itself: `xr.open_dataset(uri, engine="nwb", group="units")`. As with every engine, samples are
    read when they are used, and `chunks={}` puts them on dask in multiples of the file's chunks. Where netCDF4 or
    h5netcdf are installed, they claim every local HDF5 file first: say `engine="nwb"`.

    Examples
    --------
    >>> xr.open_datatree("session.nwb", engine="nwb")  # doctest: +SKIP
    >>> xr.open_dataset("session.nwb", engine="nwb", group="trials").to_dataframe()  # doctest: +SKIP
    """

    description: ClassVar[str] = "Open NWB recordings (HDF5 or Zarr), local, https://, s3:// and dandi://"
    url: ClassVar[str] = "https://pypi.org/project/nwb-lrrnn/"
    open_dataset_parameters: ClassVar[tuple[str, ...] | None] = ("filename_or_obj", "drop_variables", "group")
    supports_groups: ClassVar[bool] = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether a name is that of an NWB file; the content is not looked at."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        return _NWB.match(re.split(r"[?#]", os.fspath(filename_or_obj))[0]) is not None

    def open_dataset(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
    ) -> xr.Dataset:
        """Return one thing in a recording as a Dataset; see `Recording.to_datatree`.

        Parameters
        ----------
        filename_or_obj : str or path
            As for `open_nwb`.
        drop_variables : str or iterable of str, optional
            Variables to leave out.
        group : str, optional
            Full path of a table or series, or the end of a path where only one ends so: "units", "trials",
            "acquisition/lfp". Without it, the root: the fields of the session as attributes, and the list of groups.

        Returns
        -------
        dataset : Dataset
            Lazy.

        Raises
        ------
        ValueError
            If nothing, or more than one thing, in the recording has that name; or as `open_nwb`.
        """
        from nwb_lrrnn.io.reading.event_times import EventColumn
        from nwb_lrrnn.io.reading.views.tree import one_dataset, root_dataset

        recording = _open(filename_or_obj)
        if group is None or not group.strip("/"):
            dataset = root_dataset(recording.source, recording.catalog)
            dataset.attrs["groups"] = [c.path for c in recording.contents if not isinstance(c.entry, EventColumn)]
        else:
            dataset = one_dataset(recording.source, recording.catalog, group)
        return _finished(dataset, recording, drop_variables)

    def open_groups_as_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
    ) -> dict[str, xr.Dataset]:
        """Return everything in a recording, or below the path `group`, as Datasets by path; see `open_dataset`.

        Raises
        ------
        ValueError
            If there is nothing below that path; or as `open_nwb`.
        """
        from nwb_lrrnn.io.reading.views.tree import datasets

        recording = _open(filename_or_obj)
        below = "/" + (group or "").strip("/")
        found = datasets(recording.source, recording.catalog, chunked=False, below=below)
        cut = len(below.rstrip("/"))
        return {path[cut:] or "/": _finished(data, recording, drop_variables) for path, data in found.items()}

    def open_datatree(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
    ) -> xr.DataTree:
        """Return a recording, or what lies below the path `group`, as a tree; see `Recording.to_datatree`.

        Raises
        ------
        ValueError
            If there is nothing below that path; or as `open_nwb`.
        """
        groups = self.open_groups_as_dict(filename_or_obj, drop_variables=drop_variables, group=group)
        return xr.DataTree.from_dict(groups)


def _open(filename_or_obj: Any) -> Recording:
    """Return the recording."""
    from nwb_lrrnn.io.reading.recording import open_nwb

    return open_nwb(filename_or_obj)


def _finished(dataset: xr.Dataset, recording: Recording, drop_variables: str | Iterable[str] | None) -> xr.Dataset:
    """Return a dataset without the variables to drop, that names its source without what may be secret in it."""
    dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
    dataset = dataset.drop_vars(dropped, errors="ignore")
    dataset.encoding["source"] = recording.uri  # else xarray notes the address as it was given
    return dataset
