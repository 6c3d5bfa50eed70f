"""Which faults pass by themselves."""

import errno
from itertools import islice

import pytest

from worker.jobs.faults import lacks_room, waits


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE])
def test_want_of_room_or_of_descriptors_passes(number: int) -> None:
    assert lacks_room(OSError(number, "none left"))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), OSError("unknown"), MemoryError()])
def test_other_faults_do_not(error: Exception) -> None:
    assert not lacks_room(error)


def test_tries_become_rarer_but_never_so_rare_that_room_goes_unnoticed() -> None:
    first, second, *later = islice(waits(), 10)
    assert (first, second, max(later)) == (1, 2, 5)
