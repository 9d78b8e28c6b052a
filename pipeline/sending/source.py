"""A binary stream as numbered lines: unpacked when it is gzip, counted for the progress bar, never held as a whole."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol

from pipeline.lead import LEAD_SIZE_MAX_BYTES
from pipeline.sending.entry import BadFile, Unreadable

__all__ = ["LINE_SIZE_MAX_BYTES", "Line", "Source"]

#: Without its line end. A lead is not larger.
LINE_SIZE_MAX_BYTES = LEAD_SIZE_MAX_BYTES

_BLOCK_SIZE_BYTES = 64 * 1024
_READ_MAX_BYTES = LINE_SIZE_MAX_BYTES + len(b"\r\n")
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line with its end, counted from 1; of one longer than `LINE_SIZE_MAX_BYTES` the beginning, and not whole."""

    number: int
    text: bytes
    is_whole: bool = True

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing in it but white space."""
        return self.is_whole and not self.text.strip()


class Source:
    """The lines of a stream.

    Arguments:
        stream: unbuffered, or in memory: a buffered pipe would hold back what has already arrived.
        size_bytes: how much there is to read, None when that is not known.
    """

    def __init__(self, stream: BinaryIO, size_bytes: int | None = None) -> None:
        self._raw = _Counted(stream)
        self.size_bytes = size_bytes

    @property
    def read_bytes(self) -> int:
        """How much has been read; of a compressed file, compressed bytes."""
        return self._raw.count_bytes

    def lines(self) -> Iterator[Line]:
        """The lines; what is too long is passed over without being kept.

        Raises:
            BadFile: it is compressed, and cut off or damaged.
            Unreadable: the system does not give it.
        """
        try:
            yield from _lines(self._unpacked())
        except EOFError:
            raise BadFile("It is cut off: its compressed part does not end. Get the whole file.") from None
        except (gzip.BadGzipFile, zlib.error):
            raise BadFile("Its compressed part is damaged. Get the file again.") from None
        except OSError as error:
            raise Unreadable.of(error) from None

    def _unpacked(self) -> _Readable:
        # Before the stream is buffered: a peek into a buffer may see one byte where a pipe is about to give two.
        packed = self._raw.head(len(_GZIP)) == _GZIP
        buffered = io.BufferedReader(self._raw, _BLOCK_SIZE_BYTES)
        return gzip.GzipFile(fileobj=buffered) if packed else buffered


class _Readable(Protocol):
    def readline(self, size: int, /) -> bytes: ...


def _lines(stream: _Readable) -> Iterator[Line]:
    number = 0
    while text := stream.readline(_READ_MAX_BYTES):
        number += 1
        is_whole = len(text) < _READ_MAX_BYTES or text.endswith(b"\n")
        if not is_whole:
            _pass_over(stream)
        yield Line(number, text.removeprefix(_BOM) if number == 1 else text, is_whole)


def _pass_over(stream: _Readable) -> None:
    """Read to the end of the line."""
    while (rest := stream.readline(_BLOCK_SIZE_BYTES)) and not rest.endswith(b"\n"):
        pass


class _Counted(io.RawIOBase):
    """A stream that counts what is taken from it, and whose first bytes can be looked at before."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._head = b""
        self.count_bytes = 0

    def head(self, size: int) -> bytes:
        """The first `size` bytes, fewer when there are no more; they are still to be read."""
        while len(self._head) < size and (more := self._read(size - len(self._head))):
            self._head += more
        return self._head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        block = self._head or self._read(len(buffer))
        self._head = b""
        buffer[: len(block)] = block
        self.count_bytes += len(block)
        return len(block)

    def _read(self, size: int) -> bytes:
        block: bytes | None = self._stream.read(size)
        if block is None:  # a terminal or pipe in non-blocking mode: that is not its end
            raise BlockingIOError("it gives nothing at the moment and does not wait")
        return block
