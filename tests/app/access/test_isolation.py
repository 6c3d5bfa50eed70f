"""Two tenants: with the ids of one, the other sees nothing of it on any route of the OpenAPI document."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import redis

from app.config import Settings
from app.contract.access import Scope
from app.contract.batches import BatchOptions, BatchSpec
from app.records.batches import BatchSubmission
from app.records.connection import new_id
from app.records.store import Records
from tests.app.access.gateway import Service, serve
from tests.app.access.routes import application
from tests.app.records.steps import submit, succeed
from tests.submissions import EXAMPLES, MODEL

VICTIM, OTHER = "victim", "other"
TENANT_SCOPES = (Scope.READ, Scope.CLASSIFY, Scope.CONTEXTS_WRITE, Scope.ADMIN)
HEADERS = {"Idempotency-Key": "shared", "Content-Type": "application/json"}
#: Fields and query parameters that take a ref, an id or a name.
REFERRING = {"context", "base_context", "name", "tenant", "model", "after"}


@dataclass(frozen=True)
class Operation:
    """An operation of the document, to be asked for with somebody's ids."""

    method: str
    path: str
    description: dict[str, Any]

    def requests(self, refs: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """URLs and arguments, with each of ``refs`` wherever a ref may stand."""
        parameters = self.description.get("parameters", ())
        in_query = {one["name"] for one in parameters if one["in"] == "query"} & REFERRING
        names = [part[1:-1] for part in self.path.split("/") if part.startswith("{")]
        for ref in refs:
            url = self.path.format(**{name: "prod" if name == "alias" else ref for name in names})
            yield url, {"content": self.body(ref), "params": {}}
            for name in in_query:
                yield url, {"content": self.body(ref), "params": {name: ref}}

    def body(self, ref: str) -> bytes | None:
        content = self.description.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            return None
        example = dict(content["example"])
        example |= {name: ref for name in ("context", "base_context") if name in {*example, *self.fields(content)}}
        return json.dumps(example).encode()

    @staticmethod
    def fields(content: dict[str, Any]) -> set[str]:
        components = application().openapi()["components"]["schemas"]
        return set(components[content["schema"]["$ref"].rsplit("/", 1)[1]]["properties"])


def operations() -> list[Operation]:
    paths = application().openapi()["paths"]
    return [Operation(m.upper(), path, one) for path, item in sorted(paths.items()) for m, one in item.items()]


def populate(service: Service) -> list[str]:
    """Give the victim one of each object, and return what leads to them."""
    records: Records = service.records
    service.key(*TENANT_SCOPES, tenant=VICTIM)
    context = succeed(records, "victims-intents", VICTIM, metadata={"secret": "victims-metadata"})
    records.of(VICTIM).contexts.set_alias("victims-intents", "prod", 1)
    waiting, job = submit(records, "victims-second", VICTIM)
    webhook = records.of(VICTIM).webhooks.create("https://victim.example/hook", ())
    assert webhook is not None
    records.of(VICTIM).audit.append(None, "context.create", context)
    records.of(VICTIM).usage.add({"requests": 4321987}, "meter_1", 1)
    batch = new_id("job")
    upload = records.of(VICTIM).batches.upload(batch)
    upload.write(b'{"text": "victims-text"}')
    spec = BatchSpec(artifact="address", served="tuned", target_error=0.05, options=BatchOptions())
    records.of(VICTIM).batches.submit(batch, BatchSubmission(context, MODEL, spec, 1), upload, None)
    records.of(VICTIM).idempotency.begin("shared", "POST /contexts")
    (key,) = records.access.keys(1, None, VICTIM).data
    names = ["victims-intents", "victims-intents@1", "victims-intents@prod", "victims-intents@latest", "victims-second"]
    return [context, waiting, job, batch, webhook[0].id, key.id, VICTIM, *names]


def shown(answer: httpx.Response) -> str:
    """What an answer says, but for the path that was asked for."""
    if answer.headers.get("content-type") == "application/problem+json":
        return json.dumps({name: value for name, value in answer.json().items() if name != "instance"})
    return answer.text


def owned(store_url: str) -> dict[bytes, bytes]:
    """What is the victim's, none of which expires from now on."""
    with redis.Redis.from_url(store_url) as raw:
        keys = [*raw.scan_iter(f"{{ct}}:t:{VICTIM}:*"), *raw.scan_iter("{ct}:tenant:*")]
        for key in keys:
            raw.persist(key)
        return {key: raw.dump(key) or b"" for key in keys}


def test_no_route_shows_or_changes_anything_of_another_tenant(settings: Settings, store_url: str) -> None:
    async def scenario(service: Service) -> None:
        refs = populate(service)
        secrets = {*refs, "victims-metadata", "victim.example", "4321987", *(example.text for example in EXAMPLES)} - {
            VICTIM
        }
        other = service.key(*TENANT_SCOPES, tenant=OTHER)
        before = owned(store_url)
        for operation in operations():
            for url, arguments in operation.requests(refs):
                answer = await service.ask(other, operation.method, url, headers=HEADERS, **arguments)
                where = f"{operation.method} {url} {arguments}: {answer.status_code} {answer.text}"
                assert answer.status_code < 500 or answer.json()["code"] == "no_worker", where
                said = shown(answer)
                assert not [secret for secret in secrets if secret in said], where
                if "{" in operation.path and answer.status_code < 300:
                    assert (operation.method, answer.status_code) == ("DELETE", 204), where
        assert owned(store_url) == before

    serve(settings.model_copy(update={"webhooks": "public"}), scenario)


def test_an_operator_without_other_scopes_sees_keys_and_tenants_alone(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        refs = populate(service)
        operator = service.key(Scope.OPERATOR)
        allowed = ("/keys", "/tenants", "/metrics", "/health")
        for operation in operations():
            for url, arguments in operation.requests(refs):
                if not url.startswith(allowed):
                    answer = await service.ask(operator, operation.method, url, headers=HEADERS, **arguments)
                    assert answer.status_code == 403, (operation.method, url)

    serve(settings, scenario)


def test_idempotency_keys_are_a_tenants_own(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        records = service.records
        first = records.of(VICTIM).idempotency.begin("shared", "POST /contexts")
        second = records.of(OTHER).idempotency.begin("shared", "POST /contexts")
        assert type(first) is type(second)

    serve(settings, scenario)
