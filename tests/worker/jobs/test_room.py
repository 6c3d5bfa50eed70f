"""Which faults pass by themselves."""

import errno

import pytest

from worker.jobs.faults import lacks_room


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE])
def test_want_of_room_or_of_descriptors_passes(number: int) -> None:
    assert lacks_room(OSError(number, "none left"))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), OSError("unknown"), MemoryError()])
def test_other_faults_do_not(error: Exception) -> None:
    assert not lacks_room(error)
