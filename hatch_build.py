"""The README as the long description of the package: its links into the repository made absolute by one address."""

from __future__ import annotations

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = re.compile(r"\]\((?!\w+:|#|/)([^)\s]+)\)")


def with_absolute_links(text: str, address: str) -> str:
    """Return Markdown whose relative links begin with an address; without an address as it is."""
    return _RELATIVE.sub(rf"]({address.rstrip('/')}/\1)", text) if address else text


class ReadmeHook(MetadataHookInterface):
    """Sets `readme`; `address` in pyproject.toml is where the files of the repository are shown, "" where nowhere."""

    def update(self, metadata: dict) -> None:
        """Add the README to the metadata of the project."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = with_absolute_links(text, self.config.get("address", ""))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
