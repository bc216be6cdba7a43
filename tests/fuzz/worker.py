"""One process that is given damaged recordings and says what came of each; `python -m fuzz.worker`."""

from __future__ import annotations

import contextlib
import dis
import io
import json
import logging
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

_MORE_MEMORY = 2**31  # bytes of address space, besides what the libraries take


def inspect(path: str) -> None:
    """Ask the command what is in a recording."""
    from nwb_lrrnn.cli import main

    with contextlib.suppress(SystemExit):
        main(["inspect", path, "--debug"])


def spikes(path: str) -> None:
    """Count the spikes of a recording, and read its first series."""
    import nwb_lrrnn as lr

    with lr.open_nwb(path) as recording:
        refusal: Exception | None = None
        try:
            X = recording.spikes(0.05).compute()
            assert X.dtype.kind in "iu"
        except (ValueError, OSError) as error:
            refusal = error
        for content in recording.contents:
            if content.path.endswith("position") and not content.reason:
                recording.series("position", bin_size=0.1).compute()
        if refusal is not None:
            raise refusal


def fit(path: str) -> None:
    """Fit a recording by the command."""
    from nwb_lrrnn.cli import main

    output = f"{path}_lrrnn.nwb"
    try:
        with contextlib.suppress(SystemExit):
            words = ["--model", "lowrank", "--rank", "1", "--max-epochs", "2", "--no-compare", "--bin-size", "0.05"]
            main(["fit", path, *words, "-o", output, "--debug"])
    finally:
        Path(output).unlink(missing_ok=True)


def hdf5(path: str) -> None:
    """Read all of a file by h5py alone, so that what HDF5 does to itself is known."""
    import h5py

    def look(name: str, item: object) -> None:
        with contextlib.suppress(Exception):
            dict(item.attrs)  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(item, h5py.Dataset):
            with contextlib.suppress(Exception):
                item.dtype, item.shape, item.id.get_create_plist().get_layout()
            with contextlib.suppress(Exception):
                item[()]

    with contextlib.suppress(Exception), h5py.File(path, "r") as file:
        look("/", file)
        file.visititems(look)


def die(_: str) -> None:
    """Die, for the tests of those who wait for this."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_: str) -> None:
    """Never end."""
    time.sleep(3600)


def fail(_: str) -> None:
    """Raise what is no sentence."""
    raise KeyError("a mistake of ours")


_CALLS = {"inspect": inspect, "spikes": spikes, "fit": fit, "hdf5": hdf5, "die": die, "hang": hang, "fail": fail}


def is_sentence(error: BaseException) -> bool:
    """Return whether an error is one that this package raises for its users: of its own words, and printable.

    Its raise statement is in the package; the text is one line.
    """
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or not isinstance(error, ValueError | OSError | ImportError | FloatingPointError):
        return False
    text, code = str(error), last.tb_frame.f_code
    is_ours = "nwb_lrrnn" in Path(code.co_filename).parts
    is_raised = code.co_code[last.tb_lasti] in (dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"])
    return is_ours and is_raised and bool(text) and text.isprintable()


def outcome(call: str, path: str) -> dict[str, str]:
    """Return how a call ended, and why."""
    out = io.StringIO()
    logging.disable(logging.NOTSET)
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        warnings.simplefilter("ignore")
        try:
            _CALLS[call](path)
        except Exception as error:  # noqa: BLE001 - it is told
            if is_sentence(error):
                return {"kind": "sentence", "text": f"{type(error).__name__}: {error}"}
            return {"kind": "else", "text": "".join(traceback.format_exception(error))[-3000:]}
    printed = out.getvalue().replace("\n", "")
    if not printed.isprintable() or "Traceback" in printed or "Exception ignored" in printed:
        return {"kind": "else", "text": f"printed {printed[-3000:]!r}"}
    return {"kind": "fine", "text": ""}


def main() -> None:
    """Answer each line of JSON, [call, path], with one."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    import nwb_lrrnn.cli
    import nwb_lrrnn.io.reading.recording  # noqa: F401

    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + _MORE_MEMORY
    if "fit" not in sys.argv[1:]:  # torch and numba reserve what they do not use
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    else:
        resource.setrlimit(resource.RLIMIT_AS, (limit + 2**33, limit + 2**33))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(outcome(*json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
