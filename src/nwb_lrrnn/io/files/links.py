"""Which other files a file may lead to: one rule for links, virtual datasets and external storage."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nwb_lrrnn.io.errors import ElsewhereError
from nwb_lrrnn.io.files.hdf5 import H5, low_h5py

_MOST_HOPS = 16  # links one after the other, as HDF5 itself allows


@dataclass(frozen=True)
class Reach:
    """Which other files a file may lead to: those in its folder or below, all of this machine, or none from a server.

    `uri` is where the file lies; `everywhere` is what the user says with `follow_links=True`.
    """

    uri: str
    is_remote: bool = False
    everywhere: bool = False


def may_follow(reach: Reach, target: str, holder: str | None = None, variable: str = "HDF5_EXT_PREFIX") -> str | None:
    """Return why the file that a link or a virtual dataset names is not opened, None where it may be.

    `target` is the name as it is written in the file `holder` (by default the file of `reach` itself). What the name
    leads to counts, symbolic links resolved, as for the folder that it has to lie in. The answer goes on from "the
    data ...": "lies in another file, raw.nwb, which is missing".
    """
    what = f"lies in another file, {target}"
    if reach.is_remote:
        return f"{what}, which is not opened: a recording on a server leads to no other files"
    found = place_of(target, reach.uri if holder is None else holder, variable)
    if found is None:
        return f"{what}, which is missing"
    folders = {os.path.realpath(os.path.dirname(reach.uri)), os.path.dirname(os.path.realpath(reach.uri))}
    if reach.everywhere or any(Path(found).is_relative_to(folder) for folder in folders):
        return None
    return (
        f"{what}, which is not opened, since it lies neither in the folder of this one nor below; "
        "open_nwb(..., follow_links=True) opens it"
    )


def place_of(target: str, holder: str, variable: str = "HDF5_EXT_PREFIX") -> str | None:
    """Return the real path of the file that HDF5 opens for a name written in the file `holder`, None where none is.

    HDF5 looks where the environment says, then beside the file, then in the working folder; for an absolute path that
    is gone, for its last part in the same places.
    """
    folder, real_folder = os.path.dirname(holder), os.path.dirname(os.path.realpath(holder))
    prefixes = [part.replace("${ORIGIN}", folder) for part in os.environ.get(variable, "").split(os.pathsep) if part]
    names = [target, os.path.basename(target)] if os.path.isabs(target) else [target]
    tried = [target] if os.path.isabs(target) else []
    tried += [os.path.join(prefix, names[-1]) for prefix in (*prefixes, folder, "", real_folder)]
    return next((os.path.realpath(path) for path in tried if os.path.isfile(path)), None)


def check_way(group: H5, name: str, reach: Reach) -> bool:
    """Return whether a link leads to an object; raise ElsewhereError where one leads into a file that is not opened.

    `group` is an open group of h5py's low level, `name` a path from it. What is not there at all is left to HDF5.
    """
    low = low_h5py()
    here, parts, hops = group, name.encode("utf-8", "surrogateescape").split(b"/"), 0
    behind: list[bytes] = []  # the part of the way from `here` that is known to stay in its file; nothing is opened
    with ExitStack() as opened:
        if name.startswith("/"):
            here = _root(here)
        while parts:
            if (part := parts.pop(0)) in (b"", b"."):
                continue
            way = b"/".join([*behind, part])
            try:
                kind = here.links.get_info(way).type
            except (KeyError, RuntimeError):
                break
            if kind == low.h5l.TYPE_HARD:
                behind.append(part)
                continue
            hops += 1
            if hops > _MOST_HOPS:
                raise ElsewhereError(f"lies at the end of more than {_MOST_HOPS} links, which lead in a circle")
            value = here.links.get_val(way)
            if kind == low.h5l.TYPE_SOFT:
                if value.startswith(b"/"):
                    here, behind = _root(here), []
                parts = [*value.split(b"/"), *parts]
            else:
                file, path = value[0].decode("utf-8", "surrogateescape"), value[1]
                here, behind = _root(opened.enter_context(_other_file(file, _name(here), reach)).id), []
                parts = [*path.split(b"/"), *parts]
    return hops > 0


def check_storage(dataset: H5, reach: Reach) -> bool:
    """Return whether a dataset is virtual; raise ElsewhereError where its values lie in files that are not opened.

    `dataset` is an open one of h5py's low level. HDF5 gives zeros where the source of a virtual dataset is gone, and
    crashes on one that leads back to itself.
    """
    if _virtual(dataset) is None:
        return False
    holder = _name(dataset)
    tag = None if reach.is_remote else os.stat(holder).st_mtime_ns
    if (known := _checked.get(key := (holder, tag, _address(dataset), reach))) is None:
        with ExitStack() as opened:
            known = _sources_of(dataset, reach, (), opened)
        while len(_checked) >= _MOST_CHECKED:
            _checked.pop(next(iter(_checked)), None)
        _checked[key] = known
    for target, place in known:  # the rest cannot change without the file, but these may go at any time
        if not os.path.isfile(place):
            raise ElsewhereError(f"lies in another file, {target}, which is missing")
    return True


def lies_in(item: H5, reach: Reach) -> str | None:
    """Return the name of the other file that an open object of h5py's low level, or its values, lie in; None where not.

    Of a virtual dataset, the first of its files. What lies in the folder or below goes by its name from there.
    """
    low, name = low_h5py(), _name(item)
    if not reach.is_remote and os.path.realpath(name) != os.path.realpath(reach.uri):
        path, folder = Path(os.path.realpath(name)), os.path.realpath(os.path.dirname(reach.uri))
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
    if not isinstance(item, low.h5d.DatasetID):
        return None
    created = item.get_create_plist()
    if created.get_layout() != low.h5d.VIRTUAL:
        return None
    return next((file for file, _ in _named_by(created) if file != "."), None)


_checked: dict[tuple[str, int | None, int, Reach], tuple[tuple[str, str], ...]] = {}
_MOST_CHECKED = 256


def _sources_of(dataset: H5, reach: Reach, above: tuple[tuple[str, int], ...], opened: ExitStack) -> Any:
    """Return the other files of a virtual dataset, as it names them and where they are, or raise ElsewhereError.

    `above` are the virtual datasets that led here; files stay open until `opened` ends.
    """
    low = low_h5py()
    holder = _name(dataset)
    here = (holder if reach.is_remote else os.path.realpath(holder), _address(dataset))
    if here in above or len(above) > _MOST_HOPS:
        raise ElsewhereError("is a virtual dataset of itself, so that there are no values")
    if (created := _virtual(dataset)) is None:
        return ()
    found: dict[str, str] = {}
    for target, path in _named_by(created):
        place = here[0] if target == "." else None if reach.is_remote else place_of(target, holder, _VIRTUAL)
        if place == here[0]:
            root = _root(dataset)
        else:
            root = _root(opened.enter_context(_other_file(target, holder, reach, _VIRTUAL)).id)
            found[target] = str(place)
        try:
            check_way(root, path, reach)
            source = low.h5o.open(root, path.encode("utf-8", "surrogateescape"))
        except KeyError:
            source = None
        if not isinstance(source, low.h5d.DatasetID):
            raise ElsewhereError(f"lies in another file, {target}, which has no {path}")
        found |= dict(_sources_of(source, reach, (*above, here), opened))
    return tuple(found.items())


def _virtual(dataset: H5) -> H5 | None:
    """Return how a virtual dataset was made, None of any other; raise where the values are plain bytes elsewhere."""
    created = dataset.get_create_plist()
    if created.get_external_count():
        raise ElsewhereError("lies as plain bytes in other files (external storage of HDF5), which is no NWB")
    return created if created.get_layout() == low_h5py().h5d.VIRTUAL else None


_VIRTUAL = "HDF5_VDS_PREFIX"


def _named_by(created: H5) -> list[tuple[str, str]]:
    """Return the files and the paths in them that a virtual dataset is made of, each once."""
    number = range(created.get_virtual_count())
    return list(dict.fromkeys((created.get_virtual_filename(k), created.get_virtual_dsetname(k)) for k in number))


def _other_file(target: str, holder: str, reach: Reach, variable: str = "HDF5_EXT_PREFIX") -> H5:
    """Return another file, open for reading, or raise ElsewhereError."""
    import h5py

    reason = may_follow(reach, target, holder, variable)
    if reason is not None:
        raise ElsewhereError(reason)
    try:
        return h5py.File(str(place_of(target, holder, variable)), "r")
    except OSError as error:
        raise ElsewhereError(f"lies in another file, {target}, which cannot be opened ({error})") from error


def _root(item: H5) -> H5:
    """Return the root group of the file that an open object lies in."""
    low = low_h5py()
    return low.h5g.open(low.h5i.get_file_id(item), b"/")


def _name(item: H5) -> str:
    """Return the name of the file that an open object lies in."""
    return os.fsdecode(low_h5py().h5f.get_name(item))


def _address(item: H5) -> int:
    """Return where in its file an open object lies."""
    return low_h5py().h5o.get_info(item).addr
