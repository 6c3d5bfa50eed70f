import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from app.contract.log_lines import LineHandler, log_json_lines
from app.telemetry.logs import configure_logging


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The logging of the other tests."""
    yield
    configure_logging("INFO")


class Disk(io.StringIO):
    """A stream on a disk that is full or not."""

    full = False

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_line_that_cannot_be_written_is_dropped_and_counted_and_nothing_is_raised() -> None:
    disk = Disk()
    log = logging.getLogger("disk")
    log.propagate = False
    log.addHandler(LineHandler(disk))
    log.warning("before")
    disk.full = True
    for _ in range(3):
        log.warning("meanwhile")
    disk.full = False
    log.warning("after")
    log.warning("later")
    assert disk.getvalue().splitlines() == [
        "before",
        "after",
        "log lines lost: 3",
        "later",
    ]


def test_closed_stream_harms_nobody(tmp_path: Path) -> None:
    stream = (tmp_path / "log").open("w")
    log = logging.getLogger("closed")
    log.propagate = False
    log.addHandler(LineHandler(stream))
    stream.close()
    log.warning("to nobody")


def test_every_line_is_a_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    log_json_lines("INFO", own=["worker"])
    structlog.get_logger("worker.jobs").info("job_started", job_id="job_1")
    structlog.get_logger("worker.jobs").debug("not logged")
    logging.getLogger("library").info("not logged")
    logging.getLogger("library").warning('says "this"')
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("job_started", "info"), ('says "this"', "warning")]


def test_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        log_json_lines("loud")
