"""What the command prints: text that no terminal acts upon, whatever a file has put into it."""

import logging

import click

from nwb_lrrnn.showing import printable


def say(text: object = "", *, err: bool = False) -> None:
    """Print a text and the end of its line, on stderr if asked for."""
    click.echo(printable(str(text), lines=True), err=err)


class PrintableFormatter(logging.Formatter):
    """Makes lines of a log."""

    def format(self, record: logging.LogRecord) -> str:
        """Return what is printed of a record."""
        return printable(super().format(record), lines=True)
