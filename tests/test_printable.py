"""What a file has put into its names reaches no terminal as it stands, and can be read all the same."""

import logging
import subprocess
import sys

import numpy as np
import pytest

from nwb_lrrnn import open_nwb
from nwb_lrrnn.cli import main
from nwb_lrrnn.showing import PrintableFormatter, printable, printable_errors
from small_nwb import new_nwb

NAMES = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "right\u202eleft",
    "new\nline",
    "back\rwards",
    "\x9b1m",
    "zero\u200bwidth",
)
FORBIDDEN = ("\x1b", "\x07", "\u202e", "\r", "\x9b", "\u200b")


@pytest.fixture
def recording(tmp_path):
    with new_nwb(tmp_path / "odd.nwb") as file:
        for name in NAMES:
            group = file.create_group(f"acquisition/{name}")
            group.attrs.update(neurodata_type="TimeSeries", description=name)
            group["data"] = np.zeros((10, 3))
            group["data"].attrs.update(unit=name, conversion=1.0)
            group["timestamps"] = np.arange(10.0)
    return tmp_path / "odd.nwb"


def test_letters_and_signs_of_any_language_stay():
    for text in ("Übung µV 日本 naïve 'a' \\ 😀", "", "a b"):
        assert printable(text) == text
    assert printable("a\nb\tc") == r"a\nb\tc"
    assert printable("a\nb\x1b", lines=True) == "a\nb\\x1b"


def test_tables_errors_and_problems_are_printable(recording):
    opened = open_nwb(recording)
    with pytest.raises(ValueError, match="got 'none'") as refused:
        opened.series("none")
    for text in (repr(opened), opened._repr_html_(), str(refused.value), *opened.problems):
        assert not any(sign in text for sign in FORBIDDEN)
    assert r"\x1b[31mred" in repr(opened)
    assert r"new\nline" in repr(opened)


def test_names_themselves_stay_what_they_are(recording):
    assert open_nwb(recording).series(NAMES[0], bin_size=1.0).sizes["time"] == 10


def test_the_command_prints_none_of_it(recording, capsys):
    for words in (["inspect", str(recording)], ["fit", str(recording), "--series", "\x1b[1mnone"]):
        with pytest.raises(SystemExit):
            main(words)
    shown = "".join(capsys.readouterr())
    assert not any(sign in shown for sign in FORBIDDEN)


def test_neither_do_errors_and_logs():
    @printable_errors()
    def fail():
        raise KeyError("\x1b[31m", 3)

    with pytest.raises(KeyError) as failed:
        fail()
    assert failed.value.args == ("\\x1b[31m", 3)
    record = logging.LogRecord("a", logging.INFO, "", 1, "%s", ("\x07",), None)
    assert PrintableFormatter("%(message)s").format(record) == "\\x07"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of Unix")
def test_ctrl_c_while_the_command_is_imported_exits_130():
    program = (
        "import sys, types\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'nwb_lrrnn.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from nwb_lrrnn.__main__ import main\n"
        "main()\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (130, "Stopped.\n")
