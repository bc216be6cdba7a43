"""What lies where in a Zarr store: groups, arrays, hdmf-zarr's links and references, from the metadata alone."""

from dataclasses import dataclass
from typing import Any

from nwb_lrrnn.io.errors import TruncatedFileError

_MOST_LINKS = 32  # one after the other: more are a circle


@dataclass(frozen=True)
class Reference:
    """What a reference refers to: a path without a slash at either end; None where that is not in the store."""

    path: str | None

    def __bool__(self) -> bool:
        return self.path is not None


@dataclass(frozen=True)
class Link:
    """Another name for what lies at a path; `store` is that of another store, "" for this one."""

    path: str
    store: str = ""


class ZarrTree:
    """The groups and arrays of a store by their paths, without a slash at either end; "" is the root.

    `metadata` is the content of every `.zgroup`, `.zarray` and `.zattrs` by its key, `arrays` that of `.zarray` by
    path; `children` are the names in each group.
    """

    def __init__(self, uri: str, metadata: Any):
        self.arrays: dict[str, dict[str, Any]] = {}
        self.children: dict[str, set[str]] = {"": set()}
        self._raw: dict[str, dict[str, Any]] = {}
        self._attributes: dict[str, dict[str, Any]] = {}
        self._links: dict[str, dict[str, Link]] = {}
        if not isinstance(metadata, dict) or not all(isinstance(content, dict) for content in metadata.values()):
            raise TruncatedFileError(f"{uri}: the metadata are damaged, wanted those of Zarr format 2; copy it again")
        for key, content in metadata.items():
            if ".." in key.split("/"):
                raise TruncatedFileError(f"{uri}: the metadata name {key!r}, which is outside of the store")
            path, _, kind = key.rpartition("/")
            if kind == ".zattrs":
                self._raw[path] = content
                continue
            if kind == ".zarray":
                self.arrays[path] = content
            else:
                self.children.setdefault(path, set())
            above, _, name = path.rpartition("/")
            while name and name not in self.children.setdefault(above, set()):
                self.children[above].add(name)
                above, _, name = above.rpartition("/")

    def links(self, path: str) -> dict[str, Link]:
        """Return the links in a group by name."""
        if path not in self._links:
            listed = self._raw.get(path, {}).get("zarr_link")
            found = [link for link in listed or () if isinstance(link, dict) and "name" in link and "path" in link]
            self._links[path] = {
                str(link["name"]): Link(_trimmed(link["path"]), "" if self._is_own(link) else str(link.get("source")))
                for link in found
            }
        return self._links[path]

    def attributes(self, path: str) -> dict[str, Any]:
        """Return the attributes of a group or array, references among them as `Reference`."""
        if path not in self._attributes:
            raw = self._raw.get(path, {})
            self._attributes[path] = {
                name: self.reference(value["value"]) if _holds_reference(value) else value
                for name, value in raw.items()
                if name != "zarr_link"
            }
        return self._attributes[path]

    def reference(self, stored: Any) -> Reference:
        """Return a reference as hdmf-zarr stores it: a dict with the path and the store of what is meant.

        One that leads out of the store, or to nothing, becomes a `Reference` to nothing.
        """
        if not isinstance(stored, dict) or "path" not in stored or not self._is_own(stored):
            return Reference(None)
        try:
            return Reference(self.find("", stored["path"]))
        except KeyError:
            return Reference(None)

    def find(self, group: str, path: str, *, n_links: int = 0) -> str:
        """Return the path of what lies at a path below a group, links followed; KeyError where there is nothing.

        A path that begins with a slash starts at the root; `n_links` is how many links led here.
        """
        at = "" if path.startswith("/") else group
        for name in filter(None, path.split("/")):
            if name in self.children.get(at, ()):
                at = f"{at}/{name}" if at else name
                continue
            link = self.links(at).get(name)
            if link is None or link.store or n_links > _MOST_LINKS:
                raise KeyError(f"{path}: there is no {name!r} in /{at}" + (" but a link" if link else ""))
            at = self.find("", link.path, n_links=n_links + 1)
        return at

    def _is_own(self, stored: dict[str, Any]) -> bool:
        """Return whether a link or reference leads to this store; older stores name themselves by where they lay."""
        source = stored.get("source")
        if source in (None, "", "."):
            return True
        own, meant = self._raw.get("", {}).get("object_id"), stored.get("source_object_id")
        return own is not None and own == meant


def _holds_reference(value: Any) -> bool:
    """Return whether an attribute is a reference."""
    kind = (value.get("zarr_dtype") or value.get("_DTYPE")) if isinstance(value, dict) else None
    return kind == "object" and "value" in value


def _trimmed(path: Any) -> str:
    """Return a path without slashes at its ends."""
    return str(path).strip("/")
