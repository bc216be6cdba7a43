"""A recording as pynwb's object: the way to what this package does not read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nwb_lrrnn.io.errors import NotBuiltError
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.schemas import import_pynwb

if TYPE_CHECKING:
    import pynwb


@contextmanager
def pynwb_file(source: Source) -> Iterator[pynwb.NWBFile]:
    """Yield a recording as pynwb's object, or raise NotBuiltError, as `Recording.as_pynwb` describes it."""
    from hdmf.build.errors import BuildError, ConstructError

    import_pynwb()
    from pynwb import NWBHDF5IO

    if source.is_zarr:
        raise NotBuiltError(
            f"{source.uri}: pynwb reads HDF5, but this is a Zarr store: read it with hdmf_zarr.NWBZarrIO "
            "(pip install hdmf-zarr, into an environment of its own: it wants an older zarr than xarray does), "
            "or with recording.to_datatree()"
        )
    with source.open() as file:
        try:
            reader = NWBHDF5IO(file=file, mode="r", load_namespaces=True)
            nwbfile: Any = reader.read()
        # what hdmf and pynwb raise where a schema is missing, or an old or odd file does not follow it
        except (BuildError, ConstructError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            said = str(error.args[-1] if error.args else error).strip().split("\n")[0][:300]
            raise NotBuiltError(
                f"{source.uri}: pynwb cannot build the objects of this file ({said}); where it names an extension, "
                "install that first, else read the file with recording.to_datatree()"
            ) from error
        with reader:
            yield nwbfile
