"""What can go wrong between this machine and a file in a network: each kind has its own exception."""


class RemoteError(OSError):
    """A file in a network could not be read; the bytes that were read before are right."""


class UnreachableError(RemoteError):
    """The server gave no usable answer, however often it was asked."""


class NoRangesError(RemoteError):
    """The server sends whole files only, so that nothing can be streamed from it."""


class AccessDeniedError(RemoteError, PermissionError):
    """The server refuses: a key is missing, or a signature is no longer valid."""


class MissingRemoteFileError(RemoteError, FileNotFoundError):
    """The server has no such file."""
