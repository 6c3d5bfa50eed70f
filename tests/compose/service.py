"""What clients see of the stack: readiness, contexts, jobs, and what outlives kills, restarts and stops."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.compose.stack import SERVICES, Stack

_EXAMPLES: Final = Path("examples/support-intents.json")
_EXAMPLES_FILE: Final = Path("examples/support-intents.csv")
_INPUTS: Final = ["my card never came", "somebody took my card"]
#: The machine may have much else to do.
_READY_SECONDS: Final = 600
#: A busy worker announces itself late, and readiness may be told by an announcement from before a kill.
_RETRY_SECONDS: Final = 120


def stack_becomes_ready(stack: Stack) -> str:
    """Store, bus, and a worker that has loaded its model, with no variable set but the port."""
    stack.up_with_prometheus()
    models_are_ready(stack)
    return "store, bus, and the models of the worker"


def command_tunes_and_classifies(stack: Stack) -> str:
    """The quick start of README.md, with the key that the first start made."""
    started = time.monotonic()
    tuned = json.loads(stack.command("tune", str(_EXAMPLES_FILE), "--json", seconds=900))
    assert tuned["ok"], tuned
    seconds = time.monotonic() - started
    line = stack.command("classify", "support-intents", "My card got lost").strip()
    prediction, confidence, _ = line.split("\t")
    assert prediction == "lost or stolen card", line
    assert all(abs(sum(answer.values()) - 1) < 1e-6 for answer in classify(stack)), "confidences do not add up to 1"
    return f"tuned in {seconds:.0f} s, {prediction!r} with {confidence}"


def command_is_in_the_container_of_the_gateway(stack: Stack) -> str:
    """For those who have no client, and for what needs the store, such as a backup."""
    key = f"CONTEXTUNE_API_KEY={stack.first_key()}"
    listed = stack.execute("gateway", "env", key, "contextune", "contexts", "list")
    assert "support-intents@1" in listed, listed
    backup = ". /run/contextune/urls && contextune backup /data/backup.tar"
    return stack.execute("gateway", "sh", "-c", backup).strip()


def worker_killed_in_mid_job_ends_it_on_attempt_2(stack: Stack) -> str:
    """SIGKILL, and the container started again: the job goes on, and contexts tuned before answer as they did."""
    before = classify(stack)
    job_id = post_examples(stack, steps=20)["job"]["id"]
    eventually(lambda: _job(stack, job_id)["progress"]["fraction"] > 0.1, 300, "the job moves")
    stack.restart_killed("worker")
    killed = time.monotonic()
    assert not _job(stack, job_id)["terminal"], "the job had ended before its worker was killed"
    eventually(lambda: _job(stack, job_id)["attempt"] == 2, 300, "the job is claimed again")
    claimed = time.monotonic() - killed
    job = ended_job(stack, job_id)
    assert (job["status"], job["attempt"]) == ("succeeded", 2), f"{job['status']} on attempt {job['attempt']}"
    assert classify(stack) == before, "a context answers otherwise after the worker's death"
    return f"claimed again after {claimed:.1f} s"


def every_container_killed_and_started_again_forgets_nothing(stack: Stack) -> str:
    """What was acknowledged is on the volume of the store; the passwords are on theirs."""
    contexts, answers = _listed(stack), classify(stack)
    for service in SERVICES:
        stack.restart_killed(service)
        models_are_ready(stack)
        assert _listed(stack) == contexts, f"contexts are lost with the {service}"
        assert classify(stack) == answers, f"a context answers otherwise after the death of the {service}"
    return f"{len(contexts)} contexts"


def down_and_up_again_keeps_everything(stack: Stack) -> str:
    """The containers and networks are new ones, the volumes are not; this time without Prometheus."""
    key, contexts, answers = stack.first_key(), _listed(stack), classify(stack)
    stack.down(keep_volumes=True)
    stack.up()
    models_are_ready(stack)
    assert stack.first_key() == key, "the key is another"
    assert _listed(stack) == contexts, "contexts are lost"
    assert classify(stack) == answers, "a context answers otherwise"
    return f"{len(contexts)} contexts and the key"


def deleted_context_leaves_no_artifact(stack: Stack) -> str:
    """The gateway removes from the volume what the worker wrote there."""
    contexts = _listed(stack)
    assert len(_artifacts(stack)) == len(contexts) > 0, f"{_artifacts(stack)} for {contexts}"
    for context_id in contexts:
        status, problem = stack.request("DELETE", f"/contexts/{context_id}")
        assert status == 204, f"{status}: {problem}"
    eventually(lambda: not _artifacts(stack), 60, "the artifacts are gone")
    return f"{len(contexts)} deleted"


def worker_and_gateway_stop_in_order(stack: Stack) -> str:
    """Within the time that docker-compose.yml gives them, with exit status 0."""
    return f"worker in {_stopped(stack, 'worker', 30):.1f} s, gateway in {_stopped(stack, 'gateway', 10):.1f} s"


def worker_stops_while_it_loads_its_model(stack: Stack) -> str:
    """The first process of a container has no signal handlers but its own."""
    stack.run("start", stack.container("worker"))
    eventually(lambda: '"stage"' in stack.log("worker", lines=1), 120, "the worker loads its model")
    return f"in {_stopped(stack, 'worker', 30):.1f} s"


def all_in_one_image_serves_stops_and_goes_on(stack: Stack) -> str:
    """One container that holds the whole service, and a second one on the first one's volume."""
    stack.down()
    stack.build_all_in_one()
    container = stack.run_all_in_one()
    try:
        models_are_ready(stack)
        assert stack.first_key() in stack.log("gateway"), "the log does not show the first key"
        job = ended_job(stack, post_examples(stack, steps=4)["job"]["id"])
        assert job["status"] == "succeeded", f"the job ended as {job['status']}: {job['error']}"
        key, answers = stack.first_key(), classify(stack)
        _stop_all_in_one(stack, container)
        container = stack.run_all_in_one()
        models_are_ready(stack)
        assert stack.first_key() == key, "the key is another"
        assert classify(stack) == answers, "a context answers otherwise"
        _stop_all_in_one(stack, container)
    finally:
        stack.remove_all_in_one(container)
    return "the same key and the same answers from a second container"


def models_are_ready(stack: Stack) -> None:
    """Wait until each model has a worker."""

    def holds() -> bool:
        status, readiness = stack.request("GET", "/health/ready")
        models = readiness["checks"]["models"].values() if status == 200 else ()
        return bool(models) and all(model["status"] == "ready" for model in models)

    eventually(holds, _READY_SECONDS, "the models are ready")


def eventually(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Look until it holds; AssertionError after so many seconds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def post_examples(stack: Stack, steps: int) -> dict[str, Any]:
    """The context and the job that tunes it in so many steps."""
    body = json.loads(_EXAMPLES.read_text())
    body["hyperparameters"] = {"method": "cpt", "steps": steps}
    status, created = stack.request("POST", "/contexts", body)
    assert status == 202, f"POST /contexts answered {status}: {created}"
    return dict(created)


def ended_job(stack: Stack, job_id: str) -> dict[str, Any]:
    """A job once it has ended."""
    eventually(lambda: _job(stack, job_id, wait=30)["terminal"], 900, "the job ends")
    return _job(stack, job_id)


def classify(stack: Stack, context: str = "support-intents@1") -> list[dict[str, float]]:
    """Confidence by label, for each of the inputs; asked again after a 503, as clients do."""
    body = {"context": context, "inputs": _INPUTS}
    until = time.monotonic() + _RETRY_SECONDS
    while (answered := stack.request("POST", "/classify", body))[0] in (0, 503) and time.monotonic() < until:
        time.sleep(1)
    status, answer = answered
    assert status == 200, f"POST /classify answered {status}: {answer}"
    found = answer["classifications"]
    return [{label: value["confidence"] for label, value in each["labels"].items()} for each in found]


def _job(stack: Stack, job_id: str, wait: int = 0) -> dict[str, Any]:
    status, job = stack.request("GET", f"/jobs/{job_id}?wait={wait}")
    assert status == 200, f"GET /jobs/{job_id} answered {status}: {job}"
    return dict(job)


def _listed(stack: Stack) -> list[str]:
    status, listing = stack.request("GET", "/contexts")
    assert status == 200, f"GET /contexts answered {status}: {listing}"
    return [context["id"] for context in listing["data"]]


def _artifacts(stack: Stack) -> list[str]:
    return stack.execute("worker", "find", "/data/artifacts", "-name", "*.safetensors").split()


def _stop_all_in_one(stack: Stack, container: str) -> None:
    _stopped(stack, "gateway", 60)
    stack.run("rm", container)


def _stopped(stack: Stack, service: str, grace: int) -> float:
    """How many seconds the container of ``service`` took to end in order."""
    started = time.monotonic()
    stack.run("stop", f"--time={grace}", stack.container(service), seconds=grace + 30)
    seconds = time.monotonic() - started
    status = stack.inspect(service)["State"]["ExitCode"]
    assert status == 0, f"the {service} ended with {status}"
    return seconds
