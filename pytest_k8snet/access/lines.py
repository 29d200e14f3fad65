"""What a program has written to its stdout, taken line by line as it arrives."""

from __future__ import annotations

from collections.abc import Callable

from pytest_k8snet.errors import AccessError


class Lines:
    """The bytes that have arrived and were not taken yet. Facts are megabytes in one line: nothing is looked through twice."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.at_end = False

    def add(self, data: bytes) -> None:
        """Take in what was read; nothing is the end."""
        self._data += data
        self.at_end = not data

    def next(self, fill: Callable[[], None], ended: Callable[[], AccessError]) -> bytes:
        """Return the next line without its end; `fill` waits for more, and `ended` says why there is no more."""
        searched = 0
        while (length := self._data.find(b"\n", searched)) < 0:
            searched = len(self._data)
            fill()
            if self.at_end:
                raise ended()
        line = bytes(self._data[:length])
        del self._data[: length + 1]
        return line

    def rest(self) -> bytes:
        """Return everything that is left."""
        return bytes(self._data)
