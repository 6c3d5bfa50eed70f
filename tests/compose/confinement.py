"""What the containers may do, and what is in them."""

from __future__ import annotations

from typing import Final

from tests.compose.service import eventually
from tests.compose.stack import SERVICES, Stack

_DISTRIBUTIONS: Final = "from importlib.metadata import distributions as d; print(*sorted(x.name for x in d()))"

#: Prints what a program with another's, a wrong or its own name may do with the servers and should not.
_FORBIDDEN: Final = """
import os, redis
for name, more in (("STORE", ["SET elsewhere 1"]), ("BUS", [])):
    url = os.environ[f"CONTEXTUNE_{name}_URL"]
    server = url.rpartition("@")[2]
    administer = ["CONFIG SET appendonly no", "ACL LIST", "MODULE LIST", "FLUSHALL", "KEYS *", "SHUTDOWN NOSAVE"]
    attempts = (
        (f"redis://{server}", ["PING"]),
        (f"redis://gateway:wrong@{server}", ["PING"]),
        (f"redis://health:any@{server}", ["GET x", "INFO", *administer]),
        (url, [*administer, *more]),
    )
    for address, commands in attempts:
        for command in commands:
            try:
                redis.Redis.from_url(address).execute_command(*command.split())
            except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
                continue
            print(f"{command} on the {name} as {address.partition('@')[0].rpartition('/')[2].partition(':')[0]}")
"""


def every_container_is_healthy(stack: Stack) -> str:
    """By the health checks of docker-compose.yml."""
    for service in SERVICES:
        eventually(lambda service=service: stack.healthy(service), 120, f"{service} is healthy")  # type: ignore[misc]
    return ", ".join(SERVICES)


def every_container_is_confined(stack: Stack) -> str:
    """No root, no capability, no way to gain one, nothing to write to in the image."""
    for service in SERVICES:
        is_confined(stack, service)
    return "non-root, read-only, no capabilities"


def is_confined(stack: Stack, service: str) -> None:
    """The first process of the container of ``service``, and its root file system."""
    lines = stack.execute(service, "cat", "/proc/1/status").splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert "0" not in status["Uid"] + status["Gid"], f"{service} runs as root"
    assert int(status["CapBnd"][0], 16) == 0, f"{service} may have capabilities"
    assert status["NoNewPrivs"] == ["1"], f"{service} may gain privileges"
    mounts = [line.split() for line in stack.execute(service, "cat", "/proc/1/mounts").splitlines()]
    (options,) = [mount[3] for mount in mounts if mount[1] == "/"]
    assert "ro" in options.split(","), f"{service} may write to its image"


def only_the_gateway_is_published(stack: Stack) -> str:
    """And on the loopback interface alone."""
    for service in SERVICES:
        ports = stack.inspect(service)["NetworkSettings"]["Ports"] or {}
        published = {(port["HostIp"], port["HostPort"]) for bound in ports.values() for port in bound or ()}
        expected = {("127.0.0.1", str(stack.port))} if service == "gateway" else set()
        assert published == expected, f"{service} is published at {published}"
    return "at 127.0.0.1"


def images_hold_no_cuda_and_gateway_no_torch(stack: Stack) -> str:
    """What is installed, and what torch was built for."""
    gateway = stack.execute("gateway", "python", "-c", _DISTRIBUTIONS).split()
    worker = stack.execute("worker", "python", "-c", _DISTRIBUTIONS).split()
    assert {"fastapi", "opentelemetry-sdk"} <= set(gateway), "the gateway lacks packages"
    assert {"torch", "opentelemetry-sdk"} <= set(worker), "the worker lacks packages"
    assert not {"torch", "transformers"} & set(gateway), "the gateway's image holds torch"
    cuda = [name for name in worker if name.startswith(("nvidia", "cuda", "triton"))]
    assert not cuda, f"the worker's image holds {cuda}"
    version = stack.execute("worker", "python", "-c", "import torch; print(torch.__version__, torch.version.cuda)")
    assert version.split()[1] == "None", f"the worker's torch is built for CUDA {version}"
    return f"torch {version.split()[0]}, {len(gateway)} and {len(worker)} packages"


def servers_refuse_what_no_program_needs(stack: Stack) -> str:
    """Without a password, with a wrong one, as a health check, and as the user of gateway or worker."""
    for service in ("gateway", "worker"):
        assert stack.execute(service, "ls", "/run/contextune").split() == ["urls"], (
            "it sees more than its own passwords"
        )
        script = 'set -e; . /run/contextune/urls; exec python -c "$0"'
        allowed = stack.execute(service, "sh", "-c", script, _FORBIDDEN)
        assert not allowed, f"allowed from the {service}: {allowed}"
    return "store and bus"
