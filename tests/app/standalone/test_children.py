import os
from pathlib import Path

from app.standalone.children import ChildProcess, open_log, rotate_log
from tests.waiting import eventually


def test_log_is_rotated_while_its_process_goes_on_writing(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    script = "while :; do echo 0123456789; sleep 0.01; done"
    child = ChildProcess("child", ["/bin/sh", "-c", script], log, os.environ, deadline=2)
    child.start()
    try:
        for _ in range(2):
            eventually(lambda: log.stat().st_size > 100)
            rotate_log(log, most=100)
            assert log.stat().st_size <= 100
        eventually(lambda: log.read_text().startswith("0123456789\n"))  # no hole where the old lines were
        assert (tmp_path / "child.log.1").read_text().startswith("0123456789\n")
        assert (tmp_path / "child.log.1").stat().st_mode & 0o777 == 0o600
    finally:
        child.stop()


def test_log_that_is_small_or_missing_is_left_alone(tmp_path: Path) -> None:
    rotate_log(tmp_path / "none.log")
    os.close(open_log(tmp_path / "logs" / "small.log"))
    rotate_log(tmp_path / "logs" / "small.log", most=10)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["small.log"]


def test_log_is_emptied_where_it_cannot_be_copied(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    log.write_text("x" * 200)
    (tmp_path / "child.log.1").mkdir()  # neither removed nor written
    rotate_log(log, most=100)
    assert log.stat().st_size == 0
