"""Processes of the service that tests start one by one."""

import os
import signal
import subprocess
import sys
from pathlib import Path


class Program:
    """One process of the service, started again after it was killed."""

    def __init__(self, module: str, log: Path, **environment: str) -> None:
        self._command = [sys.executable, "-P", "-m", module]
        self._environment = {**os.environ, **environment}
        self._log = log
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        self.process = self._start()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)
