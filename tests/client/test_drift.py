"""The client against the server's OpenAPI document, so that the two cannot drift apart: routes, arguments, answers."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from contextune import models
from contextune.calls import access, batches, classification, contexts, jobs, service
from contextune.protocol.call import Request
from pydantic import AliasChoices, BaseModel

from app.config import Settings
from app.main import create_app

REF, NAME = "intents", "a"
EXAMPLES = [("a", "yes"), ("b", "no")]
CREATED: dict[str, Any] = {
    "examples": EXAMPLES, "model": "m", "labels": ["yes", "no"], "training_examples": EXAMPLES,
    "validation_examples": EXAMPLES, "calibration_texts": ["a"], "base_context": "b",
    "remove_examples": ["/examples/0"], "template": {}, "hyperparameters": {},
}  # fmt: skip
PAGE: dict[str, Any] = {"limit": 1, "after": "a"}
OPTIONS: dict[str, Any] = {"truncate": "END", "min_confidence": 0.5, "exact": True, "top_k": 1}
CLASSIFIED = classification.classify(
    "c", ["a"], examples=EXAMPLES, labels=["yes", "no"], model="m", template={}, batch_calibration=True, **OPTIONS
)

#: What the client sends to each route, with every argument, and what it reads the answer as.
ROUTES: dict[str, tuple[Request, type[BaseModel] | None]] = {
    "post /contexts": (contexts.create(**CREATED, name="n", metadata={}).request, models.CreatedContext),
    "get /contexts": (contexts.page(name="n", status="s", model="m", **PAGE).request, models.Page[models.Context]),
    "get /contexts/{}": (contexts.get(REF).request, models.Context),
    "patch /contexts/{}": (contexts.update(REF, metadata={}).request, models.Context),
    "delete /contexts/{}": (contexts.delete(REF).request, None),
    "get /contexts/{}/examples": (contexts.examples_page(REF, **PAGE).request, models.Page[models.Example]),
    "get /contexts/{}/adapter": (contexts.export(REF, embeddings=True), None),
    "post /contexts/import": (Request("POST", "/contexts/import"), models.CreatedContext),
    "put /contexts/{}/aliases/{}": (contexts.set_alias(REF, NAME, 1).request, models.Alias),
    "get /contexts/{}/aliases/{}": (contexts.get_alias(REF, NAME).request, models.Alias),
    "delete /contexts/{}/aliases/{}": (contexts.delete_alias(REF, NAME).request, None),
    "get /jobs": (jobs.page(status="s", kind="k", context="c", **PAGE).request, models.Page[models.Job]),
    "get /jobs/{}": (jobs.get("j", wait=1).request, models.Job),
    "post /jobs/{}/cancel": (jobs.cancel("j").request, models.Job),
    "delete /jobs/{}": (jobs.delete("j").request, None),
    "get /jobs/{}/events": (jobs.events_page("j", **PAGE).request, models.Page[models.Event]),
    "post /classify": (CLASSIFIED.request, models.Answer),
    "post /batches": (batches.create("c", ["a"], **OPTIONS).request, models.Batch),
    "get /batches": (batches.page(**PAGE).request, models.Page[models.Batch]),
    "get /batches/{}": (batches.get("b").request, models.Batch),
    "get /batches/{}/results": (batches.lines("b", "results", 1), None),
    "get /batches/{}/errors": (batches.lines("b", "errors", 1), None),
    "get /models": (service.models().request, models.ModelPage),
    "get /models/{}": (service.get_model("m").request, models.BaseModelInfo),
    "get /health/live": (service.live().request, None),
    "get /health/ready": (service.ready().request, models.Readiness),
    "post /keys": (access.create_key("n", ["read"], tenant="t", expires_at="x", limits={}).request, models.Key),
    "get /keys": (access.keys_page(**PAGE).request, models.Page[models.Key]),
    "delete /keys/{}": (access.delete_key("k").request, None),
    "get /tenants": (access.tenants_page(**PAGE).request, models.Page[models.Tenant]),
    "get /tenants/{}": (access.get_tenant("t").request, models.Tenant),
    "patch /tenants/{}": (access.update_tenant("t", limits={}).request, models.Tenant),
    "delete /tenants/{}": (access.delete_tenant("t").request, None),
    "get /usage": (access.usage().request, models.Usage),
    "get /audit": (access.audit_page(**PAGE).request, models.Page[models.AuditEntry]),
    "post /webhooks": (access.create_webhook("u", events=["e"]).request, models.Webhook),
    "get /webhooks": (access.webhooks().request, models.Page[models.Webhook]),
    "delete /webhooks/{}": (access.delete_webhook("w").request, None),
}
#: Not for this client: other services' clients, what a browser or Prometheus reads.
OTHERS = ("/v1/", "/compat/", "/metrics", "/docs", "/console", "/openapi.json")


@cache
def description() -> dict[str, Any]:
    document: dict[str, Any] = create_app(Settings()).openapi()
    return document


def operations() -> dict[str, dict[str, Any]]:
    """Operations of the document by method and path, whatever its parameters are called."""
    found = {}
    for path, item in description()["paths"].items():
        for method, operation in item.items():
            if not path.startswith(OTHERS) and path != "/":
                parts = ["{}" if part.startswith("{") else part for part in path.split("/")]
                found[f"{method} {'/'.join(parts)}"] = operation
    return found


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = description()["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def answers(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Schemas of the answers that are JSON, of the first of the good statuses first."""
    for status, answer in sorted(operation["responses"].items(), reverse=True):
        content = answer.get("content", {})
        if status.startswith("2") and "application/json" in content:
            yield resolved(content["application/json"]["schema"])


def sample(schema: dict[str, Any], full: bool) -> Any:  # noqa: PLR0911 - one line a kind of schema
    """A value that the schema allows: with all that may be there, or with as little as there must be."""
    schema = resolved(schema)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            options = schema[choice]
            null = next((option for option in options if option.get("type") == "null"), None)
            return None if null and not full else sample(next(o for o in options if o is not null), full)
    kind = schema.get("type")
    if kind == "object":
        if "properties" in schema:
            names = schema["properties"] if full else schema.get("required", [])
            return {name: sample(schema["properties"][name], full) for name in names}
        values = schema.get("additionalProperties")
        return {"key": sample(values, full)} if full and isinstance(values, dict) else {}
    if kind == "array":
        if "prefixItems" in schema:
            return [sample(item, full) for item in schema["prefixItems"]]
        return [sample(schema["items"], full)] if full and "items" in schema else []
    formats = {"date-time": "2026-11-28T01:00:00Z", "date": "2026-11-28"}
    return {"string": formats.get(schema.get("format", ""), "x"), "integer": 1, "number": 0.5, "boolean": True,
            "null": None}.get(str(kind), {})  # fmt: skip


def unknown_fields(value: Any, read: Any, where: str = "") -> Iterator[str]:
    """Paths of what the server sends and the client's model has no field for."""
    if isinstance(read, BaseModel):
        fields: dict[str, str] = {}
        for name, field in type(read).model_fields.items():
            alias = field.validation_alias
            names = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [name]
            fields |= dict.fromkeys(names, name)
        for name, inner in value.items():
            if name in fields:
                yield from unknown_fields(inner, getattr(read, fields[name]), f"{where}/{name}")
            else:
                yield f"{where}/{name}"
    elif isinstance(read, dict) and isinstance(value, dict):
        for name, inner in value.items():
            yield from unknown_fields(inner, read.get(name), f"{where}/{name}")
    elif isinstance(read, (list, tuple)) and isinstance(value, list):
        for index, (inner, inner_read) in enumerate(zip(value, read, strict=True)):
            yield from unknown_fields(inner, inner_read, f"{where}/{index}")


def test_client_has_every_route_of_the_server() -> None:
    missing = operations().keys() - ROUTES.keys()
    assert not missing, "add a call in client/src/contextune/calls and a line in ROUTES"


@pytest.mark.parametrize("route", sorted(operations().keys() & ROUTES.keys()))
def test_client_sends_what_the_server_takes(route: str) -> None:
    request, _ = ROUTES[route]
    operation = operations()[route]
    taken = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"}
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content and isinstance(request.content, bytes):
        schema = resolved(content["application/json"]["schema"])
        variants = [resolved(one) for one in schema.get("anyOf", [schema])]
        taken |= {name for variant in variants for name in variant.get("properties", ())}
    assert sent(request) - taken == set()


def sent(request: Request) -> set[str]:
    """Names of the query and of the JSON body."""
    body = json.loads(request.content) if isinstance(request.content, bytes) else {}
    return {*request.query, *body}


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(
    "route", sorted(route for route in operations().keys() & ROUTES.keys() if ROUTES[route][1] is not None)
)
def test_client_reads_what_the_server_answers(route: str, full: bool) -> None:
    kind = ROUTES[route][1]
    assert kind
    value = sample(next(answers(operations()[route])), full)
    unknown = list(unknown_fields(value, kind.model_validate(value)))
    assert not unknown, "add these fields in client/src/contextune/models"


def test_dry_run_is_read() -> None:
    assert ROUTES["post /contexts"][0].path == contexts.dry_run(**CREATED).request.path
    *_, schema = answers(operations()["post /contexts"])
    value = sample(schema, full=True)
    assert list(unknown_fields(value, models.DryRun.model_validate(value))) == []
