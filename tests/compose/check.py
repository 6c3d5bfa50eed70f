"""``make test-compose``: builds the images, runs the stack, checks it and takes it down; exit status 0 if all passed.

Needs Python 3.11 and a container engine. From the environment: ENGINE (docker or podman), COMPOSE (its compose command)
and BUILD_ARGS (extra arguments of the engine's ``build``).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.compose.stack import SERVICES, TAG, CommandFailed, Stack

_BASE_IMAGE: Final = "python:3.11-slim-bookworm"
_GATEWAY_MEGABYTES: Final = 350
_EXAMPLES: Final = Path("examples/support-intents.json")
_INPUTS: Final = ["my card never came", "somebody took my card"]
_DISTRIBUTIONS: Final = "from importlib.metadata import distributions as d; print(*sorted(x.name for x in d()))"


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


def stack_becomes_ready(stack: Stack) -> str:
    """Store, bus, and a worker that has loaded its model."""
    found = stack.up()
    _eventually(lambda: _models_ready(stack), 300, "the models are ready")
    return f"servers found {found}"


def every_container_is_healthy(stack: Stack) -> str:
    """By the health checks of docker-compose.yml."""
    for service in SERVICES:
        _eventually(lambda service=service: stack.healthy(service), 120, f"{service} is healthy")  # type: ignore[misc]
    return ", ".join(SERVICES)


def every_container_is_confined(stack: Stack) -> str:
    """No root, no capability, no way to gain one, nothing to write to in the image."""
    for service in SERVICES:
        lines = stack.execute(service, "cat", "/proc/1/status").splitlines()
        status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        assert "0" not in status["Uid"] + status["Gid"], f"{service} runs as root"
        assert int(status["CapBnd"][0], 16) == 0, f"{service} may have capabilities"
        assert status["NoNewPrivs"] == ["1"], f"{service} may gain privileges"
        mounts = [line.split() for line in stack.execute(service, "cat", "/proc/1/mounts").splitlines()]
        (options,) = [mount[3] for mount in mounts if mount[1] == "/"]
        assert "ro" in options.split(","), f"{service} may write to its image"
    return "non-root, read-only, no capabilities"


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
    assert "fastapi" in gateway, "the gateway's packages were not found"
    assert "torch" in worker, "the worker's packages were not found"
    assert not {"torch", "transformers"} & set(gateway), "the gateway's image holds torch"
    cuda = [name for name in worker if name.startswith(("nvidia", "cuda", "triton"))]
    assert not cuda, f"the worker's image holds {cuda}"
    version = stack.execute("worker", "python", "-c", "import torch; print(torch.__version__, torch.version.cuda)")
    assert version.split()[1] == "None", f"the worker's torch is built for CUDA {version}"
    return f"torch {version.split()[0]}, {len(gateway)} and {len(worker)} packages"


def posted_examples_are_tuned_and_classify(stack: Stack) -> str:
    """A job of few steps to its end, then a query."""
    started = time.monotonic()
    created = _post_examples(stack, steps=4)
    job = _ended_job(stack, created["job"]["id"])
    assert job["status"] == "succeeded", f"the job ended as {job['status']}: {job['error']}"
    tuned = time.monotonic() - started
    answers = _classify(stack, created["context"]["id"])
    assert all(abs(sum(answer.values()) - 1) < 1e-6 for answer in answers), "confidences do not add up to 1"
    return f"4 steps in {tuned:.1f} s, answers for {len(answers)} inputs"


def worker_killed_in_mid_job_ends_it_on_attempt_2(stack: Stack) -> str:
    """SIGKILL, and the container started again: the job goes on, and contexts tuned before answer as they did."""
    before = _classify(stack, "support-intents")
    job_id = _post_examples(stack, steps=20)["job"]["id"]
    _eventually(lambda: _job(stack, job_id)["progress"]["fraction"] > 0.1, 60, "the job moves")
    stack.restart_killed("worker")
    killed = time.monotonic()
    assert _job(stack, job_id)["status"] == "running", "the job had ended before its worker was killed"
    _eventually(lambda: _job(stack, job_id)["attempt"] == 2, 120, "the job is claimed again")
    claimed = time.monotonic() - killed
    job = _ended_job(stack, job_id)
    assert (job["status"], job["attempt"]) == ("succeeded", 2), f"{job['status']} on attempt {job['attempt']}"
    after = _classify(stack, "support-intents@1")
    assert after == before, "a context answers otherwise after the worker's death"
    return f"claimed again after {claimed:.1f} s"


def store_killed_forgets_nothing(stack: Stack) -> str:
    """What was acknowledged is on its volume."""
    before = _listed(stack)
    stack.restart_killed("store")
    _eventually(lambda: stack.request("GET", "/health/ready")[0] == 200, 60, "the store answers again")
    assert _listed(stack) == before, "contexts are lost"
    return f"{len(before)} contexts"


def deleted_context_leaves_no_artifact(stack: Stack) -> str:
    """The gateway removes from the volume what the worker wrote there."""
    contexts = _listed(stack)
    assert len(_artifacts(stack)) == len(contexts) > 0, f"{_artifacts(stack)} for {contexts}"
    for context_id in contexts:
        status, problem = stack.request("DELETE", f"/contexts/{context_id}")
        assert status == 204, f"{status}: {problem}"
    _eventually(lambda: not _artifacts(stack), 10, "the artifacts are gone")
    return f"{len(contexts)} deleted"


def worker_and_gateway_stop_in_order(stack: Stack) -> str:
    """Within the time that docker-compose.yml gives them, with exit status 0."""
    seconds = []
    for service, grace in (("worker", 30), ("gateway", 10)):
        started = time.monotonic()
        stack.run("stop", f"--time={grace}", stack.container(service))
        seconds.append(f"{service} in {time.monotonic() - started:.1f} s")
        status = stack.inspect(service)["State"]["ExitCode"]
        assert status == 0, f"the {service} ended with {status}"
    return ", ".join(seconds)


def all_in_one_image_serves_and_stops(stack: Stack) -> str:
    """One container that holds the whole service, after the stack has left its port."""
    stack.down()
    stack.build_all_in_one()
    container = stack.run_all_in_one()
    started = time.monotonic()
    try:
        _eventually(lambda: stack.request("GET", "/health/ready")[0] == 200, 300, "/health/ready answers 200")
        ready = time.monotonic() - started
        _eventually(lambda: _models_ready(stack), 300, "the models are ready")
        job = _ended_job(stack, _post_examples(stack, steps=4)["job"]["id"])
        assert job["status"] == "succeeded", f"the job ended as {job['status']}: {job['error']}"
        stack.run("stop", "--time=60", container, seconds=90)
        status = json.loads(stack.run("inspect", container))[0]["State"]["ExitCode"]
        assert status == 0, f"it ended with {status}"
    finally:
        stack.run("rm", "--force", "--volumes", container)
    return f"ready in {ready:.1f} s"


def nothing_is_left_behind(stack: Stack) -> str:
    """After `down`, volumes included."""
    stack.down()
    assert not stack.left_over(), f"left: {stack.left_over()}"
    return "no container, volume or network"


CHECKS: Final[tuple[Callable[[Stack], str], ...]] = (
    images_build,
    gateway_image_is_small,
    stack_becomes_ready,
    every_container_is_healthy,
    every_container_is_confined,
    only_the_gateway_is_published,
    images_hold_no_cuda_and_gateway_no_torch,
    posted_examples_are_tuned_and_classify,
    worker_killed_in_mid_job_ends_it_on_attempt_2,
    store_killed_forgets_nothing,
    deleted_context_leaves_no_artifact,
    worker_and_gateway_stop_in_order,
    all_in_one_image_serves_and_stops,
    nothing_is_left_behind,
)


def main() -> int:
    """Run every check; the first that fails ends it."""
    engine = os.environ.get("ENGINE", "docker")
    stack = Stack(engine, os.environ.get("COMPOSE", f"{engine} compose"), os.environ.get("BUILD_ARGS", ""))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if not _passes(engine_is_free, stack):
        return 1
    try:
        if all(_passes(check, stack) for check in CHECKS):
            return 0
        for service in SERVICES:
            stack.show_log(service)
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


def _models_ready(stack: Stack) -> bool:
    status, readiness = stack.request("GET", "/health/ready")
    models = readiness["checks"]["models"].values() if status == 200 else ()
    return bool(models) and all(model["status"] == "ready" for model in models)


def _eventually(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Look until it holds; AssertionError after so many seconds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def _base_bytes(stack: Stack) -> int:
    try:
        return stack.image_bytes(_BASE_IMAGE)
    except CommandFailed:  # a builder may keep base images to itself
        stack.run("pull", _BASE_IMAGE, seconds=300)
        return stack.image_bytes(_BASE_IMAGE)


def _post_examples(stack: Stack, steps: int) -> dict[str, Any]:
    body = json.loads(_EXAMPLES.read_text())
    body["hyperparameters"] = {"method": "cpt", "steps": steps}
    status, created = stack.request("POST", "/contexts", body)
    assert status == 202, f"POST /contexts answered {status}: {created}"
    return dict(created)


def _job(stack: Stack, job_id: str, wait: int = 0) -> dict[str, Any]:
    status, job = stack.request("GET", f"/jobs/{job_id}?wait={wait}")
    assert status == 200, f"GET /jobs/{job_id} answered {status}: {job}"
    return dict(job)


def _ended_job(stack: Stack, job_id: str) -> dict[str, Any]:
    _eventually(lambda: _job(stack, job_id, wait=30)["terminal"], 300, "the job ends")
    return _job(stack, job_id)


def _classify(stack: Stack, context: str) -> list[dict[str, float]]:
    """Confidence by label, for each of the inputs."""
    status, answer = stack.request("POST", "/classify", {"context": context, "inputs": _INPUTS})
    assert status == 200, f"POST /classify answered {status}: {answer}"
    found = answer["classifications"]
    return [{label: value["confidence"] for label, value in each["labels"].items()} for each in found]


def _listed(stack: Stack) -> list[str]:
    status, listing = stack.request("GET", "/contexts")
    assert status == 200, f"GET /contexts answered {status}: {listing}"
    return [context["id"] for context in listing["data"]]


def _artifacts(stack: Stack) -> list[str]:
    return stack.execute("worker", "find", "/data/artifacts", "-name", "*.safetensors").split()


if __name__ == "__main__":
    sys.exit(main())
