"""``make test-wheels``: the wheels of dist/ in a clean environment and an empty folder, with no repository in sight.

Installs as README.md says, starts the service, follows its quick start, and stops it; exit status 0 if all worked.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path
from typing import Any, Final

TOP: Final = Path(__file__).parents[2]
_EXAMPLES: Final = TOP / "examples/support-intents.json"
_READY_SECONDS: Final = 300
_STOP_SECONDS: Final = 60


def main() -> int:
    """Everything in a temporary folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="contextune-wheels-") as folder:
        programs = _install(Path(folder))
        for command in ("contextune", "contextune-server"):
            _say(f"{command} {_run([str(programs / command), 'version']).strip()}")
        _serve(programs, Path(folder) / "empty")
    return 0


def _install(folder: Path) -> Path:
    """The folder of the programs of a new environment with contextune-server."""
    began = time.monotonic()
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    torch = _run([sys.executable, "-m", "release.torch_index"], cwd=TOP).split()
    options = ["--find-links", str(TOP / "dist"), "-c", str(TOP / "constraints/cpu.txt"), *torch]
    _run([str(programs / "python"), "-m", "pip", "install", "--quiet", *options, "contextune-server"], seconds=900)
    _say(f"installed in {time.monotonic() - began:.0f} s")
    return programs


def _serve(programs: Path, folder: Path) -> None:
    folder.mkdir()
    port = _free_port()
    outside = {name: value for name, value in os.environ.items() if not name.startswith("CONTEXTUNE_")}
    environment = {**outside, "PATH": f"{programs}:{outside['PATH']}", "CONTEXTUNE_PORT": str(port)}
    began = time.monotonic()
    with subprocess.Popen([str(programs / "contextune"), "up"], cwd=folder, env=environment) as service:
        try:
            url = f"http://127.0.0.1:{port}"
            while not _ready(url):
                assert service.poll() is None, "contextune up has ended"
                assert time.monotonic() < began + _READY_SECONDS, "contextune up is not ready in time"
                time.sleep(0.2)
            _say(f"ready in {time.monotonic() - began:.0f} s")
            _quick_start(url)
        finally:
            service.send_signal(signal.SIGINT)
            status = service.wait(_STOP_SECONDS)
    assert status == 0, f"contextune up ended with {status}"


def _ready(url: str) -> bool:
    status, readiness = _request(f"{url}/health/ready")
    return status == 200 and all(model["status"] == "ready" for model in readiness["checks"]["models"].values())


def _quick_start(url: str) -> None:
    status, created = _request(f"{url}/contexts", json.loads(_EXAMPLES.read_text()))
    assert status == 202, created
    began = time.monotonic()
    job: dict[str, Any] = {"terminal": False}
    while not job["terminal"]:
        assert time.monotonic() < began + _READY_SECONDS, "the job does not end in time"
        job = _request(f"{url}/jobs/{created['job']['id']}?wait=30")[1]
    assert job["status"] == "succeeded", job
    _say(f"tuned in {time.monotonic() - began:.0f} s")
    status, answer = _request(f"{url}/classify", {"context": "support-intents", "inputs": ["My card got lost."]})
    assert status == 200, answer
    (found,) = answer["classifications"]
    assert found["prediction"] == "lost or stolen card", found
    _say(f"classified as {found['prediction']}, confidence {found['confidence']:.2f}")


def _request(url: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of the answer; status 0 without one."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as problem:
        return problem.code, json.loads(problem.read())
    except OSError:
        return 0, None


def _run(command: list[str], seconds: float = 60, cwd: Path | None = None) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True, timeout=seconds, cwd=cwd)
    assert done.returncode == 0, f"{shlex.join(command)} ended with {done.returncode}"
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
