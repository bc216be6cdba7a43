"""A group of one HDF5 file into another, with its references."""

from collections.abc import Mapping

from nwb_lrrnn.io.files.hdf5 import H5


def graft(origin: H5, parent: H5, name: str, elsewhere: Mapping[str, str]) -> None:
    """Copy a group into a group of another file and point its references to what they mean there.

    HDF5 copies no references between files. They are made anew: inside the group to the same object of the copy,
    outside as `elsewhere` says, from paths in the file of `origin` to paths in the other. KeyError if a reference goes
    to anything else.
    """
    import h5py

    origin.file.copy(origin, parent, name)
    copy = parent[name]
    within = origin.name + "/"

    def point(path: str, thing: H5) -> None:
        for key, value in thing.attrs.items():
            if not isinstance(value, h5py.Reference):
                continue
            meant = origin.file[value].name
            there = copy[meant.removeprefix(within)] if meant.startswith(within) else parent.file[elsewhere[meant]]
            copy[path].attrs[key] = there.ref

    origin.visititems(point)
