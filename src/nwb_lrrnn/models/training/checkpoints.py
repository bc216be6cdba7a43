"""`Checkpoint`: a log of the expensive steps of a fit in one .npz file, from which an interrupted fit goes on.

A fit is deterministic given its seed, so that nothing has to be stored but what took long: a resumed fit runs again,
takes every step that it finds in the log, and ends bit-equal to one that was never interrupted. The file holds arrays
and JSON, no code.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.trials import LazyTrials, Trials

if TYPE_CHECKING:
    from nwb_lrrnn.models.base import LatentModel

LAYOUT = 1  # of the file
INTERVAL = 10.0  # seconds between two writings: what a kill costs at most
_SHARE = 20  # writing takes at most one part in so many of the time
_HEADER = "nwb_lrrnn_checkpoint"
# constructor parameters that may change between an interruption and its resumption: they do not shape what is logged,
# or (bin_size, device, likelihood) count by what they turned out to be; raising max_epochs goes on from the end
_FREE = ("checkpoint", "device", "bin_size", "posterior", "n_trajectories")

Arrays = dict[str, NDArray]


class Checkpoint:
    """A log of steps by name, kept in a file; one without a path keeps nothing.

    Used as a context: at its end, also by an error or Ctrl-C, what is known is written.

    Parameters
    ----------
    path : path-like or None
        The .npz file. One that exists is read, and must hold the same fit.
    identity : mapping
        What makes the fit the same: JSON-able, with `parameters` and `data` being mappings.

    Raises
    ------
    ValueError
        If the path does not end in .npz, or the file cannot be read or holds another fit.
    FileNotFoundError
        If its directory does not exist.
    FileExistsError
        If a directory or a file of another kind lies there.
    """

    def __init__(self, path: str | os.PathLike[str] | None, identity: Mapping[str, Any] | None = None):
        self.path = None if path is None else _checked(path)
        self.identity = json.loads(json.dumps(_plain(identity or {})))
        self._steps: dict[str, tuple[str, Arrays]] = {}
        self._digests: dict[str, str] = {}  # of the arrays by their names in the file
        self._entropy = np.random.SeedSequence().entropy
        self._written, self._pause, self._is_dirty = time.monotonic(), INTERVAL, False
        if self.path is not None and os.path.lexists(self.path):
            self._read(self.path)
        else:
            self._write()  # a place that cannot be written is found out now, not after the first hour

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_dirty:
            self._write()

    def seeds(self, random_state: int | None) -> np.random.SeedSequence:
        """Return the seeds of the fit: those of `random_state`, or, for None, fresh ones that a resumed fit repeats."""
        return np.random.SeedSequence(self._entropy if random_state is None else random_state)

    def step(self, name: str, key: Callable[[], str] = str) -> LoggedStep:
        """Return the step called `name`; `key` tells what it was made from, and a log of another key is not used."""
        return LoggedStep(self, name, "" if self.path is None else key())

    def _recall(self, name: str, key: str) -> Arrays | None:
        known, arrays = self._steps.get(name, ("", None))
        return arrays if known == key else None

    def _store(self, name: str, key: str, arrays: Arrays) -> None:
        self._steps[name] = key, arrays
        self._digests |= {f"{name}/{part}": fingerprint(array) for part, array in arrays.items()}
        self._is_dirty = True
        if time.monotonic() - self._written >= self._pause:
            self._write()

    # --- the file --------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        if self.path is None:
            return
        began = time.monotonic()
        keys = {name: key for name, (key, _) in self._steps.items()}
        arrays = {f"{name}/{part}": array for name, (_, parts) in self._steps.items() for part, array in parts.items()}
        header = {"layout": LAYOUT, "identity": self.identity, "entropy": self._entropy, "steps": keys}
        told = {"arrays": sorted(arrays), "digests": {name: self._digests[name] for name in arrays}}
        arrays[_HEADER] = np.array(json.dumps(header | told))
        temporary = self.path.with_name(f".{self.path.stem}.{uuid.uuid4().hex[:8]}.tmp.npz")
        try:
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            text = f"checkpoint: {str(self.path)!r} cannot be written ({error.strerror or error}); give another path"
            raise OSError(error.errno, text) from error
        finally:
            temporary.unlink(missing_ok=True)
        self._written, self._is_dirty = time.monotonic(), False
        self._pause = max(INTERVAL, _SHARE * (self._written - began))

    def _read(self, path: Path) -> None:
        header, arrays = _load(path)
        differences = _differences(header, self.identity)
        if differences:
            raise ValueError(
                f"checkpoint: {str(path)!r} holds another fit: {'; '.join(differences)}. Give each fit a path of its "
                "own (inside cross_val_score and GridSearchCV: checkpoint=None), or delete the file to start afresh"
            )
        self._entropy = header["entropy"]
        self._digests = header.get("digests") or {name: fingerprint(array) for name, array in arrays.items()}
        for name, key in header["steps"].items():
            prefix = f"{name}/"
            parts = {k.removeprefix(prefix): array for k, array in arrays.items() if k.startswith(prefix)}
            self._steps[name] = key, parts


class LoggedStep:
    """One step of a log."""

    def __init__(self, log: Checkpoint, name: str, key: str):
        self._log, self._name, self._key = log, name, key

    def recall(self) -> Arrays | None:
        """Return what was stored of this step, or None."""
        return self._log._recall(self._name, self._key)

    def store(self, arrays: Callable[[], Arrays]) -> None:
        """Keep arrays, which must not change afterwards; they are asked for only where there is a file."""
        if self._log.path is not None:
            self._log._store(self._name, self._key, arrays())


def checkpoint_of(model: LatentModel, trials: Trials | LazyTrials, device: str, *, goes_on: bool) -> Checkpoint:
    """Return the checkpoint that an estimator's parameter `checkpoint` asks for, for a fit to given trials.

    `device` is the type of the device: noise differs between them. `goes_on` says that the fit starts from the model's
    current one (warm start), which is then part of what identifies it.
    """
    given = model.get_params(deep=False)
    path = given["checkpoint"]
    if path is None:
        return Checkpoint(None)
    _checked(path)  # before the data are read through
    parameters = {name: value for name, value in given.items() if name not in _FREE}
    parameters |= {"likelihood": model.likelihood_, "device": device}
    start = None
    if goes_on:
        dataset = model.to_dataset()
        attrs = {name: value for name, value in dataset.attrs.items() if name != "parameters"}
        start = fingerprint(
            repr(sorted(attrs.items())), *(dataset[name].values for name in sorted(map(str, dataset.data_vars)))
        )
    return Checkpoint(
        path,
        {
            "estimator": type(model).__name__,
            "version of nwb_lrrnn": version("nwb-lrrnn"),
            "parameters": parameters,
            "data": _data_identity(trials),
            "start": start,
        },
    )


def fingerprint(*parts: Any) -> str:
    """Return a digest of texts, numbers and arrays: their kind, shape and every bit."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        array = np.asarray(part)
        array = array.astype(str) if array.dtype.hasobject else array
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _data_identity(trials: Trials | LazyTrials) -> dict[str, Any]:
    """Return what identifies trials: every bit of each, however they are padded, cut in blocks or held in memory."""
    names = ("values", "observed bins", *(["values of inputs"] if trials.n_inputs else []))
    digests: dict[str, list[str]] = {name: [""] * len(trials.lengths) for name in names}
    for rows, block in trials.blocks():
        seen = block.seen
        for k, row in enumerate(rows):
            span = (k, slice(0, int(block.lengths[k])))
            digests["values"][row] = fingerprint(block.values[span])
            digests["observed bins"][row] = fingerprint(seen[span])
            if block.inputs is not None:
                digests["values of inputs"][row] = fingerprint(block.inputs[span])
    return {
        "trials": len(trials.lengths),
        "units": trials.n_units,
        "inputs": trials.n_inputs,
        "bin size": trials.bin_size,
        "lengths of trials": fingerprint(trials.lengths),
        "names of units": fingerprint(trials.unit_ids),
    } | {name: fingerprint(*parts) for name, parts in digests.items()}


def _differences(header: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words what makes the fit of a file another than the present one."""
    if header["layout"] != LAYOUT:
        return [f"the layout of the file is {header['layout']}, wanted {LAYOUT}"]
    was, said = header["identity"], []
    for name in sorted((set(was) | set(now)) - {"parameters", "data", "start"}):
        if was.get(name) != now.get(name):
            said.append(f"{name} is {now.get(name)!r}, was {was.get(name)!r}")
    old, new = was.get("parameters", {}), now.get("parameters", {})
    for name in sorted(set(old) | set(new)) if was.get("estimator") == now.get("estimator") else ():
        if name == "max_epochs" and old.get(name, 0) <= new.get(name, 0):
            continue
        if old.get(name) != new.get(name):
            said.append(f"{name} is {new.get(name)!r}, was {old.get(name)!r}")
    old, new = was.get("data", {}), now.get("data", {})
    changed = [name for name in new if old.get(name) != new[name]]
    if changed:
        said.append(f"the data differ ({', '.join(changed)})")
    if was.get("start") != now.get("start"):
        said.append("with warm_start=True, the fit that this one goes on from is another")
    return said


def _checked(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, (str, os.PathLike)) or Path(path).suffix != ".npz":
        raise ValueError(f"checkpoint: got {path!r}, wanted None or a path that ends in .npz")
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"checkpoint: got {str(target)!r}, but the directory {str(target.parent)!r} does not exist; make it "
            "first, or pass checkpoint=None"
        )
    if target.is_dir():
        raise FileExistsError(f"checkpoint: got {str(target)!r}, which is a directory, wanted the name of a file in it")
    if target.exists() and not target.is_file():
        raise FileExistsError(f"checkpoint: got {str(target)!r}, which is a pipe, socket or device, wanted a file")
    return target


def _load(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Return header and arrays of a file, every one of them read."""
    foreign = f"checkpoint: {str(path)!r} exists and is not a checkpoint of nwb_lrrnn; give another path"
    damaged = (
        f"checkpoint: {str(path)!r} cannot be read: it is truncated, damaged or of another kind; give another path, or "
        "delete the file to start afresh"
    )
    if not zipfile.is_zipfile(path):
        raise ValueError(damaged)
    try:
        with np.load(path, allow_pickle=False) as file:
            if _HEADER not in file.files:
                raise FileExistsError(foreign)
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop(_HEADER)[()]))
        _check_header(header, arrays)
    except FileExistsError:
        raise
    except _ODD as error:
        raise ValueError(damaged) from error
    return header, arrays


# What zip, zlib, numpy and JSON say of bytes that are not what was written.
_ODD = (
    zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, TypeError, OSError, MemoryError, OverflowError,
    NotImplementedError, RuntimeError, AttributeError, SyntaxError,
)  # fmt: skip


def _check_header(header: Any, arrays: Arrays) -> None:
    """Raise ValueError where a header is none, or the arrays are not those that it speaks of, bit for bit."""
    if not isinstance(header, dict) or (lost := {"layout", "identity", "entropy", "steps", "arrays"} - set(header)):
        raise ValueError(f"it lacks {sorted(lost) if isinstance(header, dict) else 'a header'}")
    if sorted(arrays) != header["arrays"]:
        raise ValueError("it lacks arrays")
    identity, steps = header["identity"], header["steps"]
    parts = [identity, steps, *(identity.get(name, {}) for name in ("parameters", "data"))]
    if not all(isinstance(part, dict) for part in parts) or not all(isinstance(key, str) for key in steps.values()):
        raise ValueError("its header has another form")
    np.random.SeedSequence(header["entropy"])  # ValueError or TypeError where no seed
    for name, digest in header.get("digests", {}).items():  # files of before have none
        if fingerprint(arrays[name]) != digest:
            raise ValueError(f"{name} is not what was written")


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


NO_CHECKPOINT = Checkpoint(None)  # keeps nothing
