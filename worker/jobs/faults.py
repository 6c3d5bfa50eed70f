"""Faults of the machine under a job: which pass by themselves, and how long they are waited for."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

#: No room on the disk or in the quota, and no file descriptors left, here or on the whole machine.
_LACKING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
_FIRST_WAIT_SECONDS: Final = 1.0
#: All is to be as before within ten seconds of the fault's end.
_LONGEST_WAIT_SECONDS: Final = 5.0


def lacks_room(error: BaseException) -> bool:
    """Whether something was refused for want of room or of descriptors: there will be some again."""
    return isinstance(error, OSError) and error.errno in _LACKING


def waits() -> Iterator[float]:
    """Seconds to wait before each further try, longer and longer, without end."""
    seconds = _FIRST_WAIT_SECONDS
    while True:
        yield seconds
        seconds = min(2 * seconds, _LONGEST_WAIT_SECONDS)
