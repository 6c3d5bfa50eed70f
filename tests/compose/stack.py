"""The stack of docker-compose.yml, run as a project of its own: containers by service, and the gateway over HTTP.

Knows docker and podman and what they disagree on; does not know what is checked.
"""

from __future__ import annotations

import http.client
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
_ALL_IN_ONE_VOLUME: Final = f"{PROJECT}_all-in-one"
#: What `docker-compose.yml` confines its containers with.
_HARDENED: Final = ("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges")


class CommandFailed(Exception):
    """A command of the engine ended with another status than 0, or not in time."""


class Stack:
    """Commands on the stack. Every one is bounded in time; raises `CommandFailed`."""

    def __init__(self, engine: str, compose: str, build_args: str, client: str) -> None:
        self.engine = engine
        self.port, self.prometheus_port = _free_port(), _free_port()
        self._compose = shlex.split(compose)
        self._build_args = build_args
        self._client = client
        self._key: str | None = None
        outside = {name: value for name, value in os.environ.items() if not name.startswith("CONTEXTUNE_")}
        self._environment = {
            **outside,
            "CONTEXTUNE_TAG": TAG,
            "CONTEXTUNE_PORT": str(self.port),
            "CONTEXTUNE_PROMETHEUS_PORT": str(self.prometheus_port),
        }

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
        """Start that image as a user would, confined, found as the service `gateway`; the container's id."""
        self._key = None
        labels = [f"--label={_LABEL}", "--label=com.docker.compose.service=gateway"]
        options = [*_HARDENED, "-p", f"127.0.0.1:{self.port}:8000", "-v", f"{_ALL_IN_ONE_VOLUME}:/data"]
        return self.run("run", "-d", *labels, *options, f"contextune:{TAG}", seconds=120).strip()

    def remove_all_in_one(self, container: str) -> None:
        """Its container and its volume."""
        self.run("rm", "--force", container)
        self.run("volume", "rm", "--force", _ALL_IN_ONE_VOLUME)

    def up(self) -> None:
        """Start everything that no profile names."""
        self._run_compose(["up", "-d"], seconds=300)

    def up_with_prometheus(self) -> None:
        """Start everything, and of the profile `monitoring` all but Grafana."""
        services = ["gateway", "worker", "metrics-key", "prometheus"]
        self._run_compose(["--profile", "monitoring", "up", "-d", *services], seconds=300)

    def down(self, keep_volumes: bool = False) -> None:
        """Stop and remove everything; volumes by their names too, as one that an interrupted run left has no label."""
        self._key = None
        volumes = [] if keep_volumes else ["-v"]
        self._run_compose(["--profile", "monitoring", "down", *volumes], seconds=180)
        for volume in () if keep_volumes else self._volumes():
            self.run("volume", "rm", "--force", volume)

    def left_over(self) -> list[str]:
        """Containers, volumes and networks of the project that still exist."""
        label = f"label={_LABEL}"
        kinds = (["ps", "-aq"], ["network", "ls", "-q"])
        labelled = [line for kind in kinds for line in self.run(*kind, "--filter", label).split()]
        return [*labelled, *self._volumes()]

    def _volumes(self) -> list[str]:
        return self.run("volume", "ls", "-q", "--filter", f"name={PROJECT}_").split()

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

    def log(self, service: str, lines: int = 20) -> str:
        """The last lines of what a service wrote, empty if it has no container."""
        container = self.container(service)
        command = [self.engine, "logs", f"--tail={lines}", container]
        return _run(command, self._environment, 60, errors=subprocess.STDOUT) if container else ""

    def command(self, *arguments: str, seconds: float = 300) -> str:
        """What the command `contextune` of this machine prints, told of the gateway by the environment."""
        told = {"CONTEXTUNE_URL": f"http://127.0.0.1:{self.port}", "CONTEXTUNE_API_KEY": self.first_key()}
        return _run([self._client, *arguments], {**self._environment, **told}, seconds)

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON body of the gateway's answer; status 0 while it cannot be reached."""
        headers = {} if path.startswith("/health/") else {"Authorization": f"Bearer {self.first_key()}"}
        return request(method, f"http://127.0.0.1:{self.port}{path}", body, headers)

    def first_key(self) -> str:
        """The key that the gateway made at its first start."""
        if self._key is None:
            self._key = self.execute("gateway", "cat", "/data/admin-key").strip()
        return self._key

    def _run_compose(self, arguments: list[str], seconds: float) -> None:
        """Output goes to standard error as it comes: a build takes minutes."""
        command = [*self._compose, "-p", PROJECT, *arguments]
        _run(command, self._environment, seconds, show=True)


def request(method: str, url: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Status and JSON body of an answer; status 0 while nobody answers."""
    content = None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, sent, method=method), timeout=70) as answer:
            return answer.status, json.loads(answer.read() or "null")
    except urllib.error.HTTPError as problem:
        return problem.code, json.loads(problem.read() or "null")
    except (OSError, http.client.HTTPException):
        return 0, None


def _run(
    command: list[str], environment: dict[str, str], seconds: float, show: bool = False, errors: int = subprocess.PIPE
) -> str:
    output, errors = (sys.stderr.fileno(), sys.stderr.fileno()) if show else (subprocess.PIPE, errors)
    try:
        done = subprocess.run(
            command, check=False, env=environment, stdout=output, stderr=errors, text=True, timeout=seconds
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
