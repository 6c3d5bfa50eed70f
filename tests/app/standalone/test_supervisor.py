"""Real processes under a real supervisor, which runs in a process of its own (``supervised.py``)."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from app.standalone.embedded import EmbeddedServer
from tests.waiting import eventually

SCRIPT = Path(__file__).with_name("supervised.py")
# Writes its pid to the file {name}.pid, and its name to `ended` when asked to end.
SERVE = "echo $$ > $DIR/{0}.pid; trap 'echo {0} >> $DIR/ended; exit' TERM; while :; do sleep 0.05; done"
STUBBORN = "echo $$ > $DIR/{0}.pid; trap '' TERM; while :; do sleep 0.05; done"


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that its new parent has not yet reaped does not."""
    state = subprocess.run(["/bin/ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return state.stdout.strip() != "" and not state.stdout.startswith("Z")


class Supervised:
    """A supervisor process on ``folder`` and what it has said and started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *children: str, ready: bool = True, deadline: float = 60) -> subprocess.Popen[bytes]:
        if ready:
            (self.folder / "ready").touch()
        with (self.folder / "said").open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, SCRIPT, self.folder, str(deadline), *children],
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "DIR": str(self.folder)},
            )
        self.processes.append(process)
        return process

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def says(self, text: str) -> None:
        eventually(lambda: text in self.said())

    def pid(self, name: str, other_than: int = 0) -> int:
        """The pid that the child of that name has written."""

        def read() -> int:
            with suppress(FileNotFoundError, ValueError):
                pid = int((self.folder / f"{name}.pid").read_text())
                return pid if pid != other_than else 0
            return 0

        return eventually(read)

    def ended(self) -> list[str]:
        return (self.folder / "ended").read_text().split()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        EmbeddedServer.store(self.folder).stop()


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    harness = Supervised(tmp_path)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what nohup ignores, a child goes on to ignore
    yield harness
    harness.close()
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_children_in_reverse_order_and_exits_0(supervised: Supervised, number: signal.Signals) -> None:
    process = supervised.start(*(f"{name}={SERVE.format(name)}" for name in ("first", "second", "third")))
    supervised.says("ready")
    pids = [supervised.pid(name) for name in ("first", "second", "third")]
    process.send_signal(number)
    assert process.wait(60) == 0
    assert supervised.ended() == ["third", "second", "first"]
    assert not any(alive(pid) for pid in pids)


def test_signal_before_ready_stops_everything_too(supervised: Supervised) -> None:
    process = supervised.start(f"only={SERVE.format('only')}", ready=False)
    supervised.says("stage: waiting for the file")
    pid = supervised.pid("only")
    process.terminate()
    assert process.wait(60) == 0
    assert not alive(pid)


def test_second_signal_while_stopping_leaves_no_orphan(supervised: Supervised) -> None:
    process = supervised.start(f"first={SERVE.format('first')}", f"second={STUBBORN.format('second')}")
    supervised.says("ready")
    pids = [supervised.pid("first"), supervised.pid("second")]
    process.send_signal(signal.SIGINT)
    supervised.says("stopping the second")
    process.send_signal(signal.SIGINT)
    process.terminate()
    assert process.wait(60) == 0
    assert supervised.ended() == ["first"]
    assert not any(alive(pid) for pid in pids)


def test_child_that_ignores_sigterm_is_killed_after_its_deadline(supervised: Supervised) -> None:
    process = supervised.start(f"only={STUBBORN.format('only')}")
    pid = supervised.pid("only")
    supervised.says("ready")
    process.terminate()
    assert process.wait(60) == 0
    assert not alive(pid)


def test_killed_child_is_started_again(supervised: Supervised) -> None:
    process = supervised.start(f"only={SERVE.format('only')}")
    supervised.says("ready")
    first = supervised.pid("only")
    os.kill(first, signal.SIGKILL)
    second = supervised.pid("only", other_than=first)
    assert alive(second)
    process.terminate()
    assert process.wait(60) == 0
    assert not alive(second)


def test_child_that_keeps_crashing_is_started_less_and_less_often(supervised: Supervised) -> None:
    supervised.start("only=while [ ! -e $DIR/crash ]; do sleep 0.05; done; exit 3")
    supervised.says("ready")
    (supervised.folder / "crash").touch()
    supervised.says("in 1.6 s")
    waits = [line.split(" in ")[1].split()[0] for line in supervised.said().splitlines() if "again in" in line]
    assert waits == ["0.2", "0.4", "0.8", "1.6"]


def test_child_that_crashes_five_times_before_ready_ends_the_start_with_its_log(supervised: Supervised) -> None:
    process = supervised.start(f"first={SERVE.format('first')}", "second=echo out of memory; exit 3", ready=False)
    assert process.wait(60) == 1
    assert "the second has ended 5 times" in supervised.said()
    assert supervised.said().splitlines()[-1] == "out of memory"
    assert supervised.ended() == ["first"]


def test_start_that_passes_its_deadline_ends_with_the_logs(supervised: Supervised) -> None:
    process = supervised.start(f"only=echo still loading; {SERVE.format('only')}", ready=False, deadline=1)
    assert process.wait(60) == 1
    assert "not ready after 1 s (waiting for the file)" in supervised.said()
    assert supervised.said().splitlines()[-1] == "still loading"
    assert supervised.ended() == ["only"]


def test_server_answers_before_the_next_child_starts(supervised: Supervised) -> None:
    socket = supervised.folder / "store" / "server.sock"
    supervised.start("store", f"only=test -S {socket} && {SERVE.format('only')}")
    supervised.says("ready")
    assert supervised.pid("only")
    assert "has ended" not in supervised.said()


def test_killed_server_is_started_again_with_its_data(supervised: Supervised) -> None:
    supervised.start("store")
    supervised.says("ready")
    store = EmbeddedServer.store(supervised.folder)
    first = store.pid
    assert first
    with redis.Redis.from_url(store.url) as client:
        client.set("kept", "yes")
    os.kill(first, signal.SIGKILL)
    supervised.says("the store has ended; starting it again in 0.2 s")
    eventually(store.answers)
    with redis.Redis.from_url(store.url) as client:
        assert client.get("kept") == b"yes"
    assert store.pid != first


def test_killed_supervisor_leaves_only_the_server_which_the_next_one_adopts(supervised: Supervised) -> None:
    first = supervised.start("store", f"only={SERVE.format('only')}")
    supervised.says("ready")
    store = EmbeddedServer.store(supervised.folder)
    server, child = store.pid, supervised.pid("only")
    first.kill()
    first.wait()
    eventually(lambda: not alive(child))
    assert store.answers()

    second = supervised.start("store", f"only={SERVE.format('only')}")
    supervised.says("ready")
    assert store.pid == server
    supervised.pid("only", other_than=child)
    second.terminate()
    assert second.wait(60) == 0
    assert server
    assert not alive(server)
    assert not store.running()


def test_killed_adopted_server_is_started_again(supervised: Supervised) -> None:
    store = EmbeddedServer.store(supervised.folder)
    store.start()
    eventually(store.answers)
    supervised.start("store")
    supervised.says("ready")
    adopted = store.pid
    assert adopted
    os.kill(adopted, signal.SIGKILL)
    eventually(lambda: not store.running())  # reaps it: this process is its parent
    supervised.says("the store has ended; starting it again")
    fresh = EmbeddedServer.store(supervised.folder)
    eventually(fresh.answers)
    assert fresh.pid != adopted
