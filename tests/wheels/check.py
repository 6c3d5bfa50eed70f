"""``make test-wheels``: the wheels of dist/ in clean environments and an empty folder, with no repository in sight.

Installs as docs/installation.md says with pip, pipx and uv, starts the service, follows the README's quick start by its
commands, and stops it; exit status 0 if all worked.
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
_EXAMPLES: Final = TOP / "examples/support-intents.csv"
_DIST: Final = ["--find-links", str(TOP / "dist")]
_PINS: Final = ["-c", str(TOP / "constraints/cpu.txt")]
_READY_SECONDS: Final = 300
_STOP_SECONDS: Final = 60


def main() -> int:
    """Everything in a temporary folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="contextune-wheels-") as folder:
        programs = _install(Path(folder))
        for command in ("contextune", "contextune-server"):
            _say(f"{command} {_run([str(programs / command), 'version']).strip()}")
        _serve(programs, Path(folder) / "empty")
        _with_uv(Path(folder) / "uv")
        _with_pipx(Path(folder) / "pipx")
    return 0


def _install(folder: Path) -> Path:
    """The folder of the programs of a new environment with contextune-server."""
    began = time.monotonic()
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    options = [*_DIST, *_PINS, *_torch_index()]
    _run([str(programs / "python"), "-m", "pip", "install", "--quiet", *options, "contextune-server"], seconds=900)
    _say(f"installed in {time.monotonic() - began:.0f} s")
    return programs


def _torch_index() -> list[str]:
    return _run([sys.executable, "-m", "release.torch_index"], cwd=TOP).split()


def _with_uv(folder: Path) -> None:
    """As an application, as a command that is not installed, and the client alone."""
    uv = str(Path(sys.executable).parent / "uv")
    places = {f"UV_{name}_DIR": str(folder / name) for name in ("TOOL", "TOOL_BIN", "CACHE")}
    environment = {**_outside(), **places, "UV_PYTHON": sys.executable, **_found_by_pip()}
    server = [*_DIST, *_PINS, *(["--torch-backend", "auto"] if _torch_index() else [])]
    install = [uv, "tool", "install", "--quiet", *server, "--with-executables-from", "contextune", "contextune-server"]
    _run(install, seconds=900, env=environment)
    for command in ("contextune", "contextune-server"):
        _run([str(folder / "TOOL_BIN" / command), "up", "--help"], env=environment)
    _run([uv, "tool", "run", *server, "contextune-server", "up", "--help"], seconds=300, env=environment)
    alone = [
        uv,
        "tool",
        "run",
        *_DIST,
        "--from",
        "contextune[cli]",
        "contextune",
        "--url",
        "http://127.0.0.1:9",
        "doctor",
    ]
    assert "does not answer" in _run(alone, seconds=300, env=environment, status=1)
    _say("uv: installed and run")


def _with_pipx(folder: Path) -> None:
    _run([sys.executable, "-m", "venv", str(folder)])
    programs = folder / "bin"
    _run([str(programs / "python"), "-m", "pip", "install", "--quiet", "pipx"], seconds=300)
    environment = {**_outside(), "PIPX_HOME": str(folder / "home"), "PIPX_BIN_DIR": str(folder / "commands")}
    arguments = shlex.join([*_DIST, *_PINS, *_torch_index()])
    install = [str(programs / "pipx"), "install", "--include-deps", "contextune-server", "--pip-args", arguments]
    _run(install, seconds=900, env=environment)
    _run([str(folder / "commands" / "contextune"), "up", "--help"], env=environment)
    _say("pipx: installed")


def _found_by_pip() -> dict[str, str]:
    """Where pip is configured to look for wheels, for uv, which does not read pip's configuration."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return {"UV_FIND_LINKS": ",".join(done.stdout.split())} if done.returncode == 0 else {}


def _outside() -> dict[str, str]:
    """The environment without what is set for this service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CONTEXTUNE_")}


def _serve(programs: Path, folder: Path) -> None:
    folder.mkdir()
    port = _free_port()
    outside = _outside()
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
            _quick_start(programs, folder, {**environment, "CONTEXTUNE_URL": url})
        finally:
            service.send_signal(signal.SIGINT)
            status = service.wait(_STOP_SECONDS)
    assert status == 0, f"contextune up ended with {status}"


def _ready(url: str) -> bool:
    status, readiness = _request(f"{url}/health/ready")
    return status == 200 and all(model["status"] == "ready" for model in readiness["checks"]["models"].values())


def _quick_start(programs: Path, folder: Path, environment: dict[str, str]) -> None:
    """From a file to an answer, with the commands of the README."""
    (folder / _EXAMPLES.name).write_bytes(_EXAMPLES.read_bytes())
    command, began = str(programs / "contextune"), time.monotonic()
    report = _run([command, "tune", _EXAMPLES.name], seconds=_READY_SECONDS, cwd=folder, env=environment)
    assert report.startswith("support-intents@1 · succeeded · 4 labels"), report
    _say(f"tuned in {time.monotonic() - began:.0f} s")
    answer = _run([command, "classify", "support-intents", "My card got lost"], cwd=folder, env=environment)
    assert answer.startswith("lost or stolen card\t"), answer
    _say(f"classified: {answer.strip()}")


def _request(url: str) -> tuple[int, Any]:
    """Status and JSON of the answer; status 0 without one."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as problem:
        return problem.code, json.loads(problem.read())
    except OSError:
        return 0, None


def _run(
    command: list[str],
    seconds: float = 60,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    status: int = 0,
) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True, timeout=seconds, cwd=cwd, env=env)
    assert done.returncode == status, f"{shlex.join(command)} ended with {done.returncode}"
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
