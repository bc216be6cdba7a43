"""Names of files that lie beside another one for a while, none of them too long for a disk."""

import hashlib

_LONGEST = 200  # bytes; a disk takes 255, and the longest ending of ours is 32


def short(name: str) -> str:
    """Return a file name, or its beginning and a hash of it where an ending more would be too long for a disk.

    Parameters
    ----------
    name : str
        Of a file, without its directory.

    Returns
    -------
    name : str
        The same for the same name.

    Examples
    --------
    >>> short("session.nwb"), len(short(240 * "a" + ".nwb"))
    ('session.nwb', 177)
    """
    encoded = name.encode(errors="surrogateescape")
    if len(encoded) <= _LONGEST:
        return name
    return f"{encoded[:160].decode(errors='ignore')}-{hashlib.sha256(encoded).hexdigest()[:16]}"
