"""A whole recording as a tree of Datasets at the paths of the file, of which only tables are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog, choose, listed

if TYPE_CHECKING:
    import xarray as xr

    from nwb_lrrnn.io.files.hdf5 import H5
    from nwb_lrrnn.io.reading.tables import Rows


def datasets(source: Source, catalog: Catalog, *, chunked: bool, below: str = "/") -> dict[str, xr.Dataset]:
    """Return the Datasets of a recording at and below a path, by path, from one opening of the file.

    Below the root, the first is the root "/" with the fields of the session as attributes. Samples are on dask where
    `chunked`, else in xarray's lazy arrays. Raises where nothing lies below that path.
    """
    from nwb_lrrnn.io.reading.views.nodes import entries, node

    found = {"/": root_dataset(source, catalog)} if below == "/" else {}
    known: dict[H5, Rows] = {}
    with source.open() as file:
        for entry in entries(file, catalog):
            if f"{entry.path}/".startswith(f"{below.rstrip('/')}/"):
                found[entry.path] = node(source, file, entry, chunked=chunked, known=known)
    if not found:
        paths = listed([entry.path for entry in (*catalog.tables, *catalog.series)])
        raise ValueError(f"group: got {below!r}, wanted a path in the file with something below it: {paths}")
    return found


def root_dataset(source: Source, catalog: Catalog) -> xr.Dataset:
    """Return the fields of the session, the version of NWB and where the file lies, as attributes of no variables."""
    import xarray as xr

    where = {"nwb_version": catalog.nwb_version, "source": source.uri, "version_tag": source.version_tag}
    return xr.Dataset(attrs={**catalog.session, **where})


def one_dataset(source: Source, catalog: Catalog, name: str) -> xr.Dataset:
    """Return the one Dataset that a full path, or the end of a path, names (else raise); it is not on dask."""
    from nwb_lrrnn.io.reading.views.nodes import entries, node

    with source.open() as file:
        entry = choose(entries(file, catalog), name, "group", "groups")
        return node(source, file, entry, chunked=False)


def datatree(source: Source, catalog: Catalog) -> xr.DataTree:
    """Return the tree of a recording on dask, as `Recording.to_datatree` describes it."""
    import xarray as xr

    return xr.DataTree.from_dict(datasets(source, catalog, chunked=True))
