"""A backup of a service at work is the same service elsewhere."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event

from tests.e2e.service import TINY, Service, assert_problem
from tests.waiting import eventually
from tests.worker.tiny import causal_model, tokenizer


@contextmanager
def crowd(service: Service) -> Iterator[None]:
    """Somebody who creates contexts and deletes each second one, whatever else happens."""
    over = Event()

    def deleted(context_id: str) -> bool:
        response = service.http.delete(f"/contexts/{context_id}")
        if response.status_code != 204:
            assert_problem(response, 503, "artifacts_unavailable")
            assert response.headers["retry-after"]
        return response.status_code == 204

    def create_and_delete() -> int:
        rounds = 0
        while rounds < 2 or not over.is_set():
            texts = [f"text {number} of round {rounds}" for number in range(4)]
            examples = [{"text": text, "label": "ab"[number % 2]} for number, text in enumerate(texts)]
            first, _ = service.create(name="crowd", examples=examples, hyperparameters={"method": "icl"})
            service.tuned(name="crowd", examples=examples[::-1], hyperparameters={"method": "icl"})
            assert eventually(partial(deleted, first), 60)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(1) as pool:
        rounds = pool.submit(create_and_delete)
        try:
            yield
        finally:
            over.set()
        assert rounds.result(120) >= 2


def test_backup_made_at_work_answers_elsewhere_to_the_bit(models: Path, tmp_path: Path) -> None:
    causal_model().save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    allowed = json.dumps({TINY: {"path": str(tmp_path / "model"), "device": "cpu"}})
    here, there = (Service(tmp_path / name, models, models=allowed) for name in ("here", "there"))
    backup = str(tmp_path / "backup.tar")
    try:
        here.start()
        here.tuned(name="intents")
        assert here.http.put("/contexts/intents/aliases/prod", json={"version": 1}).status_code == 200
        answers = here.confidences("intents@prod")
        unended, job_id = here.create(hyperparameters={"method": "cpt", "steps": 150})
        here.moving(job_id)
        with crowd(here):
            made = here.command("backup", backup)
        assert made.returncode == 0, made.stderr
        here.stop()
        restored = there.command("restore", backup)
        assert restored.returncode == 0, restored.stderr
        there.start()
        assert there.confidences("intents@prod") == answers
        job = there.ended(job_id)
        assert (job["status"], job["attempt"], job["context_id"]) == ("succeeded", 1, unended)
        for context_id in there.listed("/contexts"):
            assert there.ended(there.context(context_id)["job_id"])["status"] == "succeeded"
            assert there.confidences(context_id)
        assert there.command("doctor").returncode == 0
    finally:
        here.close()
        there.close()
