"""Bodies as the contract has them."""

import json
from typing import Any

from contextune.protocol.call import Reply

AT = "2026-11-28T01:00:00Z"


def job(**fields: Any) -> dict[str, Any]:
    return {
        "id": "job_1", "object": "job", "kind": "tuning", "context_id": "ctx_1", "model": "tiny", "status": "running",
        "terminal": False, "created_at": AT, "started_at": AT, "finished_at": None, "estimated_finish_at": None,
        "progress": {"step": 1, "total_steps": 4, "fraction": 0.25}, "attempt": 1, "hyperparameters": {},
        "trained_tokens": 0, "error": None, "cancel_requested": False, **fields,
    }  # fmt: skip


def ended(status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    return job(status=status, terminal=True, finished_at=AT, **fields)


def context(**fields: Any) -> dict[str, Any]:
    return {
        "id": "ctx_1", "object": "context", "name": "intents", "version": 1, "aliases": [], "model": "tiny",
        "encoder": None, "labels": ["yes", "no"], "status": "succeeded", "error": None, "job_id": "job_1",
        "hyperparameters": {}, "tokens": 9, "report": None, "metadata": {}, "created_at": AT, "finished_at": AT,
        **fields,
    }  # fmt: skip


def problem(status: int, code: str, **headers: str) -> Reply:
    document = {"status": status, "code": code, "detail": f"it is {code}", "param": "/name", "request_id": "req_1"}
    return Reply(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(document).encode()
    )


def reply(body: Any, status: int = 200) -> Reply:
    return Reply(status, {}, json.dumps(body).encode())
