"""What a reader of a page does: a shell and a Python that last for the whole page, against a running service.

Output is compared with what the page shows. Numbers, ids and times may differ, and ``...`` stands for anything.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from tests.docs.blocks import Step

#: The address that the pages name.
ADDRESS: Final = "http://127.0.0.1:8000"
_SECONDS: Final = 280
_END: Final = "\x1e"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_ID = re.compile(r"\b([a-z]{2,4})_[0-9a-f]{24}\b")
_NUMBER = re.compile(r"\d+(,\d{3})*(\.\d+)?(e[-+]?\d+)?")


class Session:
    """A shell in ``folder`` and a Python namespace, which speak to the service at ``url`` on the folder ``data``."""

    def __init__(self, folder: Path, url: str, data: Path) -> None:
        self._url = url
        programs = Path(sys.executable).parent
        self._environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder),
            "CONTEXTUNE_URL": url,
            "CONTEXTUNE_DATA_DIR": str(data),
            "NO_COLOR": "1",
            "COLUMNS": "120",
        }
        self._shell = subprocess.Popen(
            ["/bin/bash", "--norc"],
            cwd=folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._folder = folder
        self._namespace: dict[str, Any] = {"__name__": "__main__"}

    def close(self) -> None:
        """End the shell."""
        self._shell.kill()
        self._shell.wait()
        for stream in (self._shell.stdin, self._shell.stdout):
            assert stream
            stream.close()

    def run(self, step: Step, repeat: bool = False) -> None:
        """Run a command; AssertionError where it fails or says something else than the page does.

        With ``repeat`` it is run until it says what the page shows, or the time is over.
        """
        until = time.monotonic() + _SECONDS
        while True:
            try:
                return self._run(step)
            except AssertionError:
                if not repeat or time.monotonic() > until:
                    raise

    def _run(self, step: Step) -> None:
        stdin = self._shell.stdin
        assert stdin
        stdin.write(f"{self._here(step.command)}\nprintf '{_END}%s\\n' $?\n".encode())
        stdin.flush()
        said, status = self._answer(step.command)
        assert status == 0, f"`{step.command}` ended with {status}: {said}"
        if step.output:
            assert_shown(step.output, said.replace(self._url, ADDRESS))

    def run_python(self, text: str) -> str:
        """What the code prints."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.chdir(self._folder), _environment(self._environment):
            exec(compile(self._here(text), "<page>", "exec"), self._namespace)
        return printed.getvalue().replace(self._url, ADDRESS)

    def _here(self, text: str) -> str:
        return text.replace(ADDRESS, self._url)

    def _answer(self, command: str) -> tuple[str, int]:
        """Output and status of a command; AssertionError when it does not end in time."""
        stdout = self._shell.stdout
        assert stdout
        said = b""
        until = time.monotonic() + _SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not (found := re.search(rb"\x1e(\d+)\n\Z", said)):
                assert selector.select(until - time.monotonic()), f"`{command}` does not end: {said.decode()}"
                read = os.read(stdout.fileno(), 65536)
                assert read, f"`{command}` ended the shell: {said.decode()}"
                said += read
        return said[: found.start()].decode(), int(found[1])


def assert_shown(shown: str, said: str) -> None:
    """AssertionError unless the page shows what was said, but for numbers, ids and times."""
    wanted = re.escape(alike(shown.strip())).replace(re.escape("..."), ".*")
    assert re.fullmatch(wanted, alike(said.strip()), re.DOTALL), f"the page shows\n{shown}\nbut it is\n{said}"


def alike(text: str) -> str:
    """``text`` with one sign for each number, id and time, and single spaces."""
    text = _NUMBER.sub("#", _ID.sub(r"\1_#", _TIME.sub("#", text)))
    return re.sub(r"[ \t]+", " ", text)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Any:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
