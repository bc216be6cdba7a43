"""`python -m nwb_lrrnn` is the command `nwb-lrrnn`."""

import sys


def main() -> None:
    """Run the command; Ctrl-C ends it with exit code 130 from here on, also while it is still being imported."""
    try:
        from nwb_lrrnn.cli import main as run

        run()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
