"""Files over bytes in memory, which are not copied."""

import io
from typing import Any, BinaryIO

import pyarrow as pa


class _View(io.RawIOBase):
    """A file over memory that is not copied. (`pyarrow.BufferReader` lacks calls that some readers of images make.)"""

    def __init__(self, data: pa.Buffer) -> None:
        self.data, self.place = memoryview(data).cast("B"), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: len(self.data)}[whence])
        return self.place

    def readinto(self, target: Any) -> int:
        part = self.data[self.place : self.place + len(target)]
        target[: len(part)] = part
        self.place += len(part)
        return len(part)


def file_in_memory(data: bytes | pa.Buffer) -> BinaryIO:
    """The bytes of a file as a file; those of a mapped buffer are read as they are needed."""
    return io.BytesIO(data) if isinstance(data, bytes) else io.BufferedReader(_View(data))
