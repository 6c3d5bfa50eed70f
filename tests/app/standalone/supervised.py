"""A supervisor over shell commands, in a process of its own for the tests that signal or kill it.

Arguments: the data folder, the start deadline in seconds, then ``name=command`` for each child. It has the data
folder's store too when a child is named ``store``. It is ready when the file ``ready`` is in the data folder.
"""

import os
import sys
from pathlib import Path

from app.standalone.children import Child, ChildProcess
from app.standalone.embedded import EmbeddedServer
from app.standalone.supervisor import StartFailedError, Supervisor


class Printer:
    """Reports in lines that the tests read."""

    def __init__(self) -> None:
        self._stage = ""

    def stage(self, text: str) -> None:
        if text != self._stage:
            self._stage = text
            self.event(f"stage: {text}")

    def event(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def ready(self) -> None:
        self.event("ready")


def child(data_dir: Path, argument: str) -> Child:
    name, _, command = argument.partition("=")
    if name == "store":
        return EmbeddedServer.store(data_dir)
    return ChildProcess(name, ["/bin/bash", "-c", command], data_dir / f"{name}.log", os.environ, deadline=2)


def main() -> int:
    data_dir = Path(sys.argv[1])
    children = [child(data_dir, argument) for argument in sys.argv[3:]]

    def missing() -> str | None:
        return None if (data_dir / "ready").exists() else "waiting for the file"

    try:
        Supervisor(children, missing, Printer(), start_deadline=float(sys.argv[2])).run()
    except StartFailedError as error:
        Printer().event(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
