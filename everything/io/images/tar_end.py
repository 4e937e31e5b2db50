"""What follows the members of a tar archive: its end, junk, another archive, or nothing.

`tarfile` stops without a word at whatever is no member. Here it goes on, and what it passes tells
whether members may be missing.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import Self

_MOST = 2**17  # blocks of 512 bytes that are looked through for more members


@dataclass
class TarEnd:
    """Watches a tar that is opened with `tarinfo=end.header()` and `ignore_zeros=True`.

    Attributes:
        note: What is wrong though no member is missing, once all members were read.
    """

    note: str = ""
    _blocks: int = 0  # of all kinds
    _zeros: int = 0  # blocks of zeros behind the last member, before anything else
    _junk: int = 0  # blocks behind the last member that are neither zeros nor members
    _is_damaged: bool = False

    def header(self) -> type[tarfile.TarInfo]:
        """Return a class of members that reports each block to this object."""
        end = self

        class Header(tarfile.TarInfo):
            @classmethod
            def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
                try:
                    member = super().frombuf(buf, encoding, errors)
                except tarfile.HeaderError:
                    end._other(bytes(buf))
                    if end._zeros + end._junk <= _MOST:
                        raise
                    return super().frombuf(b"", encoding, errors)  # raises the error of the end
                end._member()
                return member

        return Header

    def check(self) -> None:
        """Check that no member is missing, after all of them were read.

        Raises:
            tarfile.ReadError: One may be.
        """
        if self._is_damaged:
            raise tarfile.ReadError("the tar is damaged, images may be missing")
        if not self._zeros and not self._junk:
            raise tarfile.ReadError("the tar is cut off, images may be missing")
        if self._junk:
            self.note = "the tar has junk behind its last member"
        elif self._zeros == 1:
            self.note = "the tar has one block of zeros at its end, not two"

    def _member(self) -> None:
        self._is_damaged |= bool(self._junk and not self._zeros)
        self._blocks, self._zeros, self._junk = self._blocks + 1, 0, 0

    def _other(self, block: bytes) -> None:
        is_zeros = bool(block) and not any(block)
        if not self._blocks and not is_zeros:
            raise tarfile.ReadError("not a tar archive")
        self._blocks += 1
        if is_zeros and not self._junk:
            self._zeros += 1
        elif is_zeros and not self._zeros:
            self._is_damaged = True  # a header that is no longer one, what it announced, the end
        elif len(block) == tarfile.BLOCKSIZE or (block and self._zeros):
            self._junk += 1
        # else a header is cut off, or there is nothing
