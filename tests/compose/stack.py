"""The stack of docker-compose.yml, run as a project of its own: containers by service, and the gateway over HTTP.

Knows docker and podman and what they disagree on; does not know what is checked.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any, Final

PROJECT: Final = "contextune-test"
TAG: Final = "test"
_LABEL: Final = f"com.docker.compose.project={PROJECT}"
SERVICES: Final = ("gateway", "worker", "store", "bus")
_PLAIN: Final = ("-f", "docker-compose.yml")
_FIXED_ADDRESSES: Final = (*_PLAIN, "-f", "docker/fixed-addresses.yml")


class CommandFailed(Exception):
    """A command of the engine ended with another status than 0, or not in time."""


class Stack:
    """Commands on the stack. Every one is bounded in time; raises `CommandFailed`."""

    def __init__(self, engine: str, compose: str, build_args: str) -> None:
        self.engine = engine
        self.port = _free_port()
        self._compose = shlex.split(compose)
        self._build_args = build_args
        self._files: tuple[str, ...] = _PLAIN
        self._key: str | None = None
        outside = {name: value for name, value in os.environ.items() if not name.startswith("CONTEXTUNE_")}
        self._environment = {**outside, "CONTEXTUNE_TAG": TAG, "CONTEXTUNE_PORT": str(self.port)}

    def build(self) -> None:
        """Build both images, with the caller's extra arguments for the engine's ``build``."""
        if self._compose[0].endswith("podman-compose"):
            extra = [f"--podman-build-args={self._build_args}"] if self._build_args else []
            self._run_compose([*extra, "build"], seconds=1800)
        else:
            self._run_compose(["build", *shlex.split(self._build_args)], seconds=1800)

    def build_all_in_one(self) -> None:
        """Build the image that holds the whole service."""
        options = [*shlex.split(self._build_args), "-f", "docker/worker.Dockerfile", "--target", "all-in-one"]
        _run([self.engine, "build", *options, "-t", f"contextune:{TAG}", "."], self._environment, 1800, show=True)

    def run_all_in_one(self) -> str:
        """Start that image as a user would, found as the service `gateway`; the container's id."""
        options = [
            "-d",
            f"--label={_LABEL}",
            "--label=com.docker.compose.service=gateway",
            "-p",
            f"127.0.0.1:{self.port}:8000",
        ]
        return self.run("run", *options, f"contextune:{TAG}", seconds=120).strip()

    def up(self) -> str:
        """Start everything; says how the containers find each other."""
        self._run_compose(["up", "-d"], seconds=300)
        if self._names_resolve():
            return "by name"
        self.down()
        self._files = _FIXED_ADDRESSES
        self._run_compose(["up", "-d"], seconds=300)
        return "at fixed addresses, for this engine resolves no names"

    def down(self) -> None:
        """Stop and remove everything, volumes included."""
        self._key = None
        self._run_compose(["down", "-v"], seconds=120)

    def left_over(self) -> list[str]:
        """Containers, volumes and networks of the project that still exist."""
        label = f"label={_LABEL}"
        kinds = (["ps", "-aq"], ["volume", "ls", "-q"], ["network", "ls", "-q"])
        return [line for kind in kinds for line in self.run(*kind, "--filter", label).split()]

    def run(self, *arguments: str, seconds: float = 60) -> str:
        """What a command of the engine prints."""
        return _run([self.engine, *arguments], self._environment, seconds)

    def container(self, service: str) -> str:
        """Id of the container of ``service``, running or not."""
        labels = {"project": PROJECT, "service": service}
        filters = [f"--filter=label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        return self.run("ps", "-aq", *filters).strip()

    def execute(self, service: str, *command: str) -> str:
        """What ``command`` prints in the container of ``service``."""
        return self.run("exec", self.container(service), *command)

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of the container of ``service``."""
        (found,) = json.loads(self.run("inspect", "--type=container", self.container(service)))
        return dict(found)

    def image_bytes(self, image: str) -> int:
        """Size of an image, base included."""
        return int(self.run("image", "inspect", "--format={{.Size}}", image))

    def healthy(self, service: str) -> bool:
        """Whether the health check of ``service`` has passed."""
        if self.engine.endswith("podman"):  # it leaves the rounds to systemd, which not every machine runs
            try:
                self.run("healthcheck", "run", self.container(service))
            except CommandFailed:
                return False
        return bool(self.inspect(service)["State"]["Health"]["Status"] == "healthy")

    def restart_killed(self, service: str) -> None:
        """Kill a service with SIGKILL and start it again: engines leave alone what they were asked to kill."""
        container = self.container(service)
        self.run("kill", "--signal=KILL", container)
        self.run("wait", container)
        self.run("start", container)

    def show_log(self, service: str) -> None:
        """Write the last lines of a service's log to standard error, if its container exists."""
        container = self.container(service)
        if container:
            sys.stderr.write(f"--- {service}\n")
            sys.stderr.flush()
            _run([self.engine, "logs", "--tail=20", container], self._environment, 60, show=True)

    def request(self, method: str, path: str, body: object = None, seconds: float = 70) -> tuple[int, Any]:
        """Status and JSON body of the gateway's answer; status 0 while it cannot be reached."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if not path.startswith("/health/"):
            headers["Authorization"] = f"Bearer {self._first_key()}"
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, json.loads(answer.read() or "null")
        except urllib.error.HTTPError as problem:
            return problem.code, json.loads(problem.read() or "null")
        except OSError:
            return 0, None

    def _first_key(self) -> str:
        """The key that the gateway made at its first start."""
        if self._key is None:
            self._key = self.execute("gateway", "cat", "/data/admin-key").strip()
        return self._key

    def _names_resolve(self) -> bool:
        try:
            self.execute("gateway", "getent", "hosts", "store")
        except CommandFailed:
            return False
        return True

    def _run_compose(self, arguments: list[str], seconds: float) -> None:
        """Output goes to standard error as it comes: a build takes minutes."""
        command = [*self._compose, *self._files, "-p", PROJECT, *arguments]
        _run(command, self._environment, seconds, show=True)


def _run(command: list[str], environment: dict[str, str], seconds: float, show: bool = False) -> str:
    output = sys.stderr if show else subprocess.PIPE
    try:
        done = subprocess.run(
            command,
            check=False,
            env=environment,
            stdout=output,
            stderr=None if show else subprocess.PIPE,
            text=True,
            timeout=seconds,
        )
    except (subprocess.TimeoutExpired, FileNotFoundError) as error:
        raise CommandFailed(str(error)) from error
    if done.returncode:
        raise CommandFailed(f"{shlex.join(command)} ended with {done.returncode}: {(done.stderr or '').strip()}")
    return done.stdout or ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
