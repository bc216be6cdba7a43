"""Zarr stores for tests: the one that hdmf-zarr wrote, and small odd ones."""

import json
import runpy
import tarfile
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"
KNOWN = runpy.run_path(str(FIXTURES / "make_zarr.py"))
STORE = KNOWN["STORE"]


def unpack(folder):
    """Unpack the recording that hdmf-zarr wrote and return its path."""
    with tarfile.open(FIXTURES / f"{STORE}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return Path(folder, STORE)


def objects(store):
    """Return what is in a store by key, as bytes."""
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def write(folder, files):
    """Write files by name: bytes, or anything that becomes JSON; return the folder."""
    for name, content in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return Path(folder)


def array(shape, chunks, dtype, **more):
    """Return the content of a `.zarray`."""
    plain = {"compressor": None, "fill_value": 0, "filters": None, "order": "C", "zarr_format": 2}
    return {"shape": list(shape), "chunks": list(chunks), "dtype": dtype, **plain, **more}


def nwb(files=(), **attributes):
    """Return files of a store with the marks of NWB 2 and these files."""
    marks = {"neurodata_type": "NWBFile", "nwb_version": "2.7.0", "object_id": "own", **attributes}
    return {".zgroup": {"zarr_format": 2}, ".zattrs": marks, **dict(files)}
