"""How long a user waits for `import nwb_lrrnn` and for the help of the command, and how many modules each loads.

python benchmarks/importing.py                   the best of 5
python benchmarks/importing.py --repeat 20
"""

import argparse
import subprocess
import sys

PROGRAMS = {
    "import numpy": "import numpy",
    "import nwb_lrrnn": "import nwb_lrrnn",
    "nwb-lrrnn --help": "from nwb_lrrnn.cli import cli; cli.main(['--help'], standalone_mode=False)",
    "nwb_lrrnn.LowRankRNN": "import nwb_lrrnn; nwb_lrrnn.LowRankRNN",
    "nwb_lrrnn.open_nwb": "import nwb_lrrnn; nwb_lrrnn.open_nwb",
}


def measure(program: str) -> tuple[float, int]:
    """Return the seconds and the modules that a program adds to a bare Python."""
    code = (
        "import sys, time; before, begin = len(sys.modules), time.perf_counter()\n"
        f"{program}\n"
        "print(time.perf_counter() - begin, len(sys.modules) - before)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    return float(said[-2]), int(said[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    print(f"{'':24}{'seconds':>8}{'modules':>9}")
    for name, program in PROGRAMS.items():
        seconds, modules = min(measure(program) for _ in range(options.repeat))
        print(f"{name:24}{seconds:8.3f}{modules:9d}")


if __name__ == "__main__":
    main()
