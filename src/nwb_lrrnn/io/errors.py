"""What can be wrong with a recording that is read or written into: one type for each case a caller may tell apart."""


class NotHDF5Error(ValueError):
    """The file is not HDF5, so that it cannot be NWB."""


class TruncatedFileError(ValueError):
    """The file is HDF5, but a part of it is missing or damaged."""


class NotNWBError(ValueError):
    """The file is HDF5, but not NWB 2."""


class OldNWBError(NotNWBError):
    """The file is NWB 1.x, whose layout is another one."""


class ChangedFileError(ValueError):
    """The file no longer holds what it held when it was opened."""


class ElsewhereError(ValueError):
    """A part of the file lies in another file, which is missing or not opened."""


class UnreadableZarrError(ValueError):
    """The Zarr store is of a format that is not read, or a part of it is stored in such a way."""


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


class AddressError(ValueError):
    """The text names no single file in a network."""


class MisreadValuesError(ValueError):
    """The values of a series would be wrong: its conversion is no number, or that of other columns."""


class InvalidTimestampsError(ValueError):
    """The times of a series are missing, or are not an ascending sequence with one time per sample."""


class NotBuiltError(ValueError):
    """pynwb cannot build the objects of a file that is otherwise in order."""


class DamagedResultsError(ValueError):
    """What a result file holds does not fit together, so that neither results nor model can be trusted."""


class UnwritableRecordingError(ValueError):
    """The recording is not written into; the message says why and what to do instead."""


class RecordingInUseError(ValueError):
    """Another process is writing into the recording."""
