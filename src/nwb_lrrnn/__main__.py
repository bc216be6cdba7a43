"""`python -m nwb_lrrnn` is the command `nwb-lrrnn`."""

from nwb_lrrnn.cli import main

if __name__ == "__main__":
    main()
