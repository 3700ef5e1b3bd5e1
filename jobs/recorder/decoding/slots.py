"""Memory that recorder and decoding process share: decoded frames lie there and are not copied again."""

from __future__ import annotations

import fcntl
import mmap
import os
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final

from jobs.recorder.decoding.limits import REGION_BYTES, SLOT_BYTES, SLOTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SEALS: Final = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
"""Its size stays: pages that are gone would end the recorder by SIGBUS."""


class Slots:
    """One frame each. What was never used takes no memory (memfd_create(2))."""

    def __init__(self) -> None:
        """Raises OSError: there is no shared memory."""
        self.file_number = os.memfd_create("decoded-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.file_number, REGION_BYTES)
            fcntl.fcntl(self.file_number, fcntl.F_ADD_SEALS, _SEALS)
            self._region = mmap.mmap(self.file_number, REGION_BYTES)
        except BaseException:
            os.close(self.file_number)
            raise
        self._free = deque(reversed(range(SLOTS)))
        """The one that was in use last is taken first: its pages are there."""

    def take(self) -> int | None:
        """A free one's number, or None."""
        return self._free.pop() if self._free else None

    def give_back(self, slot: int) -> None:
        """Nothing in it is needed any more."""
        self._free.append(slot)

    def view(self, slot: int, size: int) -> NDArray[np.uint8]:
        """The first `size` bytes. The slot is given back when this and all that is made of it has gone."""
        import numpy as np

        values = np.frombuffer(self._region, np.uint8, size, slot * SLOT_BYTES)
        given_back = weakref.finalize(values, self.give_back, slot)
        given_back.atexit = False
        return values

    def drop_unused(self) -> None:
        """Give the pages back to the system, if none of them is in use."""
        if len(self._free) == SLOTS:
            self._region.madvise(mmap.MADV_REMOVE)

    def close(self) -> None:
        """No process will get it any more; what is still looked at stays until nobody does."""
        os.close(self.file_number)
