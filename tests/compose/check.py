"""``make test-compose``: builds the images, runs the stack, checks it and takes it down; exit status 0 if all passed.

Needs Python 3.11, the command `contextune` and a container engine. From the environment: ENGINE (docker or podman),
COMPOSE (its compose command), BUILD_ARGS (extra arguments of the engine's ``build``) and CLIENT (the command).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from tests.compose import confinement, monitoring, service
from tests.compose.stack import SERVICES, TAG, CommandFailed, Stack

_BASE_IMAGE: Final = "python:3.11-slim-bookworm"
_GATEWAY_MEGABYTES: Final = 350


def engine_is_free(stack: Stack) -> str:
    """It answers, and nothing of an earlier run is left on it."""
    version = stack.run("--version").strip()
    if stack.left_over():
        stack.down()
    return version


def images_build(stack: Stack) -> str:
    """From docker-compose.yml, as a user would."""
    stack.build()
    sizes = (f"{name} {stack.image_bytes(f'contextune-{name}:{TAG}') / 1e6:.0f} MB" for name in ("gateway", "worker"))
    return ", ".join(sizes)


def gateway_image_is_small(stack: Stack) -> str:
    """On top of its base, which other images share."""
    added = (stack.image_bytes(f"contextune-gateway:{TAG}") - _base_bytes(stack)) / 1e6
    assert added < _GATEWAY_MEGABYTES, f"{added:.0f} MB on top of its base"
    return f"{added:.0f} MB on top of its base"


def nothing_is_left_behind(stack: Stack) -> str:
    """After `down`, volumes included."""
    stack.down()
    assert not stack.left_over(), f"left: {stack.left_over()}"
    return "no container, volume or network"


CHECKS: Final[tuple[Callable[[Stack], str], ...]] = (
    images_build,
    gateway_image_is_small,
    service.stack_becomes_ready,
    confinement.every_container_is_healthy,
    confinement.every_container_is_confined,
    confinement.only_the_gateway_is_published,
    confinement.images_hold_no_cuda_and_gateway_no_torch,
    confinement.servers_refuse_what_no_program_needs,
    service.command_tunes_and_classifies,
    service.command_is_in_the_container_of_the_gateway,
    monitoring.prometheus_reads_the_gateway_and_answers_every_panel,
    service.worker_killed_in_mid_job_ends_it_on_attempt_2,
    service.every_container_killed_and_started_again_forgets_nothing,
    service.down_and_up_again_keeps_everything,
    service.deleted_context_leaves_no_artifact,
    service.worker_and_gateway_stop_in_order,
    service.worker_stops_while_it_loads_its_model,
    service.all_in_one_image_serves_stops_and_goes_on,
    nothing_is_left_behind,
)


def main() -> int:
    """Run every check; the first that fails ends it."""
    engine = os.environ.get("ENGINE", "docker")
    compose = os.environ.get("COMPOSE", f"{engine} compose")
    stack = Stack(engine, compose, os.environ.get("BUILD_ARGS", ""), os.environ.get("CLIENT", "contextune"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if not _passes(engine_is_free, stack):
        return 1
    try:
        if all(_passes(check, stack) for check in CHECKS):
            return 0
        for name in SERVICES:
            sys.stderr.write(f"--- {name}\n{stack.log(name)}\n")
        return 1
    finally:
        if stack.left_over():
            stack.down()


def _passes(check: Callable[[Stack], str], stack: Stack) -> bool:
    name = check.__name__.replace("_", " ")
    started = time.monotonic()
    try:
        detail = check(stack)
    except (AssertionError, CommandFailed) as failure:
        _say(f"FAIL {name}: {failure}")
        return False
    _say(f"PASS {name}: {detail} [{time.monotonic() - started:.0f} s]")
    return True


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _base_bytes(stack: Stack) -> int:
    try:
        return stack.image_bytes(_BASE_IMAGE)
    except CommandFailed:  # a builder may keep base images to itself
        stack.run("pull", _BASE_IMAGE, seconds=300)
        return stack.image_bytes(_BASE_IMAGE)


if __name__ == "__main__":
    sys.exit(main())
