"""Imports over HTTP, a worker's place taken by the test: what is taken, what is refused, and contexts without jobs."""

import asyncio
import hashlib
import io
import json
import stat
import struct
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest
import redis

from app.config import Settings
from app.contexts.importing import AdapterReceiver
from app.contract.adapters import MAX_ADAPTER_BYTES, Imported, ImportReply
from app.contract.messages import Failure
from app.contract.names import ErrorCode, artifact_url, plan_queue
from app.errors import DomainError
from app.records.files import read_file, write_file
from app.records.idempotency import KeyClaim
from app.records.store import TenantRecords
from app.routes.idempotency import StreamedAttempt
from tests.app.access.gateway import Service, serve
from tests.app.standin import MODEL, StandIn
from tests.waiting import eventually

TENSORS = b"what was tuned"
LABELS = ("good", "bad")
SUMMARY = {
    "format": 1,
    "context": {"id": "ctx_elsewhere", "name": "films", "version": 7, "model": MODEL},
    "model": MODEL,
    "sha256": hashlib.sha256(TENSORS).hexdigest(),
    "labels": LABELS,
}
PEFT: dict[str, str | bytes] = {
    "adapter_config.json": '{"base_model_name_or_path": "/models/x"}',
    "adapter_model.safetensors": TENSORS,
}
ZIP = {"Content-Type": "application/zip"}
IMPORT = "/contexts/import"


def packed(files: Mapping[str, str | bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, held in files.items():
            archive.writestr(name, held)
    return content.getvalue()


def packed_as_if(size: int) -> bytes:
    """A zip whose directory says that a file has so many bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("contextune.json", "{}")
        archive.filelist[0].file_size = size
    return content.getvalue()


def export(folder: str = "", **changes: Any) -> bytes:
    """An export of this service."""
    summary = json.dumps({**SUMMARY, **changes})
    files: dict[str, str | bytes] = {"contextune.json": summary, "contextune.safetensors": TENSORS}
    files |= {f"prompt-0/{name}": content for name, content in PEFT.items()}
    return packed({folder + name: content for name, content in files.items()})


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url, models=(MODEL,))


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "artifacts").rglob("*") if path.is_file()}


def answered(settings: Settings, request: dict[str, Any]) -> ImportReply:
    """What a worker does with an adapter that it finds right: here it changes nothing."""
    content = read_file(artifact_url(settings.artifacts_url, request["tensors"]))
    write_file(artifact_url(settings.artifacts_url, request["target"]), content)
    labels = tuple(request["labels"]) or LABELS
    made = Imported(size=len(content), sha256=hashlib.sha256(content).hexdigest(), labels=labels, tokens=12)
    return ImportReply(id=request["id"], imported=made)


def run(
    settings: Settings,
    scenario: Callable[[Service, list[dict[str, Any]]], Awaitable[None]],
    answer: Callable[[Settings, dict[str, Any]], ImportReply] = answered,
) -> None:
    """Run a scenario with a worker, and the list of what it was asked."""
    stopped, asked = Event(), list[dict[str, Any]]()

    def work() -> None:
        with StandIn(settings.bus_url or "") as worker:
            while not stopped.is_set():
                worker.announce()
                try:
                    request = worker.take(0.5, plan_queue)
                except Exception:  # noqa: BLE001 - nothing was asked
                    continue
                asked.append(request)
                worker.say(request, answer(settings, request))

    async def whole(service: Service) -> None:
        bus = service.app.state.gateway.bus
        await asyncio.to_thread(eventually, lambda: bus.connected and bus.live_workers(MODEL))
        await scenario(service, asked)

    thread = Thread(target=work)
    thread.start()
    try:
        serve(settings, whole)
    finally:
        stopped.set()
        thread.join(20)


async def post(
    service: Service, content: bytes, headers: dict[str, str] | None = None, /, **fields: str
) -> httpx.Response:
    """Import a file, as a form where there are fields."""
    if not fields:
        return await service.http.post(IMPORT, content=content, headers={**ZIP, **(headers or {})})
    form = {"file": ("adapter.zip", content, "application/zip")}
    return await service.http.post(IMPORT, data=fields, files=form, headers=headers)


def test_context_without_a_job_is_a_context_everywhere(settings: Settings, tmp_path: Path) -> None:
    async def scenario(service: Service, asked: list[dict[str, Any]]) -> None:
        http = service.http
        created = await post(service, export())
        assert created.status_code == 201, created.text
        context = created.json()["context"]
        assert created.headers["Location"] == f"/contexts/{context['id']}"
        assert created.json()["job"] is None
        known = {"name": "films", "version": 1, "model": MODEL, "labels": list(LABELS), "tokens": 12, "aliases": []}
        known |= {"status": "succeeded", "job_id": None, "error": None, "report": None, "hyperparameters": None}
        assert {name: context[name] for name in known} == known
        assert context["created_at"] == context["finished_at"]
        assert files(tmp_path) == {f"{SUMMARY['sha256']}.safetensors"}
        for ref in (context["id"], "films", "films@1", "films@latest"):
            assert (await http.get(f"/contexts/{ref}")).json() == context
        assert (await http.get("/contexts/films/examples")).json()["data"] == []
        for query in ("", "?status=succeeded", "?name=films", f"?model={MODEL}"):
            assert (await http.get(f"/contexts{query}")).json()["data"] == [context]
        assert (await http.get(f"/jobs?context={context['id']}")).json()["data"] == []
        assert "films" in [one["id"] for one in (await http.get("/models")).json()["data"]]
        retuned = await http.post("/contexts", json={"base_context": "films"})
        assert (retuned.status_code, retuned.json()["param"]) == (422, "/base_context")
        moved = await http.put("/contexts/films/aliases/prod", json={"version": 1, "require": {"min_accuracy": 0.5}})
        assert (moved.status_code, moved.json()["code"]) == (409, "promotion_refused")
        assert service.records.of("default").contexts.set_alias("films", "prod", 1)
        batch = await http.post("/batches?context=films@prod", content=b'{"text": "a"}', headers=JSONL)
        assert batch.status_code == 202, batch.text
        assert (await http.delete(f"/contexts/{context['id']}")).json()["code"] == "context_in_use"
        await http.delete("/contexts/films/aliases/prod")
        await http.post(f"/jobs/{batch.json()['id']}/cancel")
        await http.delete(f"/jobs/{batch.json()['id']}")
        patched = await http.patch(f"/contexts/{context['id']}", json={"metadata": {"from": "elsewhere"}})
        assert patched.json()["metadata"] == {"from": "elsewhere"}
        assert service.records.sweep() == {}
        assert service.records.retire() == 0
        second = (await post(service, export("an/export/"), name="films")).json()["context"]
        assert (second["version"], (await http.get("/contexts/films")).json()["version"]) == (2, 2)
        for one in (context, second):
            for _ in range(2):
                assert (await http.delete(f"/contexts/{one['id']}")).status_code == 204
        assert files(tmp_path) == set()
        assert (await http.get("/contexts")).json()["data"] == []

    run(settings, scenario)


JSONL = {"Content-Type": "application/jsonl"}


def test_fields_say_what_the_file_does_not(settings: Settings) -> None:
    async def scenario(service: Service, asked: list[dict[str, Any]]) -> None:
        template = {"input": "Text: {text}", "separator": "\n", "output": "Is: {label}", "between": "\n"}
        labels = json.dumps(["good", {"name": "bad", "description": "what nobody likes"}])
        given = {"labels": labels, "template": json.dumps(template), "model": MODEL, "name": "from-peft"}
        created = await post(service, packed({f"x/{name}": held for name, held in PEFT.items()}), **given)
        assert created.status_code == 201, created.text
        assert created.json()["context"]["name"] == "from-peft"
        request = asked.pop()
        assert (request["labels"], request["template"]) == (list(LABELS), template)
        assert request["config"] == PEFT["adapter_config.json"]
        named = PEFT | {"adapter_config.json": json.dumps({"base_model_name_or_path": MODEL})}
        assert (await post(service, packed(named), labels=labels)).status_code == 201
        assert asked.pop()["model"] == MODEL
        renamed = await post(service, export(model="as-it-is-called-there"), model=MODEL, name="other")
        assert (renamed.status_code, renamed.json()["context"]["name"]) == (201, "other")
        assert asked.pop()["config"] is None
        unnamed = await post(service, export(context={"name": None}))
        assert (unnamed.status_code, unnamed.json()["context"]["name"]) == (201, None)

    run(settings, scenario)


def test_import_is_made_once_for_each_idempotency_key(settings: Settings, tmp_path: Path) -> None:
    async def scenario(service: Service, asked: list[dict[str, Any]]) -> None:
        key = {"Idempotency-Key": "once"}
        zipped = export()  # once: a zip file has the time of its making
        first = await post(service, zipped, key, name="films")
        again = await post(service, zipped, key, name="films")  # another boundary
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.json() == first.json()
        assert len(asked) == 1
        for other in ({"name": "others"}, {"model": MODEL}):
            reused = await post(service, zipped, key, **other)
            assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
        await service.http.delete(f"/contexts/{first.json()['context']['id']}")
        gone = await post(service, zipped, key, name="films")
        assert (gone.status_code, gone.json()["code"]) == (410, "deleted")
        refused = await post(service, b"no zip", {"Idempotency-Key": "second"})
        assert refused.status_code == 422
        assert (await post(service, export(), {"Idempotency-Key": "second"})).status_code == 201

    run(settings, scenario)


def test_key_is_held_for_as_long_as_a_check_takes(settings: Settings, client: redis.Redis) -> None:
    async def scenario(service: Service) -> None:
        records = service.records.of("default")
        claim = records.idempotency.begin("once", "POST /contexts/import")
        assert isinstance(claim, KeyClaim)
        row = f"{{ct}}:t:default:idempotency:{claim.key}"
        async with StreamedAttempt(records, "POST /contexts/import", claim).held(every=0.01):
            client.pexpire(row, 5_000)
            await asyncio.to_thread(eventually, lambda: client.pttl(row) > 10_000)

    serve(settings, scenario)


def test_what_a_worker_refuses_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    def refuse(_: Settings, request: dict[str, Any]) -> ImportReply:
        failure = Failure(code=ErrorCode.MODEL_CHANGED, message="other files", param="/file")
        return ImportReply(id=request["id"], failure=failure)

    async def scenario(service: Service, asked: list[dict[str, Any]]) -> None:
        answer = await post(service, export())
        assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (409, "model_changed", "/file")
        assert files(tmp_path) == set()
        assert (await service.http.get("/contexts")).json()["data"] == []
        assert service.records.garbage.files() == {}

    run(settings, scenario, refuse)


@pytest.mark.parametrize("limit", ["contexts", "artifact_bytes"])
def test_tenant_that_has_as_much_as_it_may_imports_nothing(settings: Settings, tmp_path: Path, limit: str) -> None:
    async def scenario(service: Service, asked: list[dict[str, Any]]) -> None:
        key = {"Authorization": f"Bearer {service.key()}"}
        assert (await post(service, export(), key)).status_code == 201
        limits = {"limits": {limit: 1 if limit == "contexts" else len(TENSORS)}}
        patched = await service.http.patch("/tenants/default", json=limits, headers=key)
        assert patched.status_code == 200, patched.text
        before = files(tmp_path)
        answer = await post(service, export(), key)
        assert (answer.status_code, answer.json()["code"]) == (429, "quota"), answer.text
        assert files(tmp_path) == before

    run(settings, scenario)


def linked() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        link = zipfile.ZipInfo("contextune.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    return content.getvalue()


def encrypted(content: bytes) -> bytes:
    """The same with the flag of encrypted files in the table of contents."""
    changed = bytearray(content)
    changed[changed.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


def many_entries(content: bytes) -> bytes:
    """The same with a table of contents that is said to be very long."""
    end = content.rindex(b"PK\x05\x06")
    padded = content[:end] + b"\0" * 400_000 + content[end:]
    size, offset = struct.unpack("<II", content[end + 12 : end + 20])
    return padded[: end + 400_012] + struct.pack("<II", size + 400_000, offset) + padded[end + 400_020 :]


def damaged(content: bytes) -> bytes:
    """The same with another byte in the tensors, whose checksum is then wrong."""
    at = content.index(TENSORS)
    return content[:at] + b"W" + content[at + 1 :]


MIB = 2**20
DEFLATED = zipfile.ZIP_DEFLATED
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
#: What is sent, and the code and param of its refusal.
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "adapter_invalid", "/file"),
    "no zip": (b"GIF89a" * 100, "adapter_invalid", "/file"),
    "cut off": (export()[:-30], "adapter_invalid", "/file"),
    "beginning missing": (export()[60:], "adapter_invalid", "/file"),
    "damaged": (damaged(export()), "adapter_invalid", "/file"),
    "empty": (packed({}), "adapter_invalid", "/file"),
    "other files": (packed({"readme.txt": "hello"}), "adapter_invalid", "/file"),
    "no tensors": (packed({"contextune.json": json.dumps(SUMMARY)}), "adapter_invalid", "/file"),
    "pickled": (packed({"adapter_config.json": "{}", "adapter_model.bin": b"\x80"}), "adapter_invalid", "/file"),
    "tensors alone": (packed({"contextune.safetensors": TENSORS}), "adapter_invalid", "/file"),
    "two adapters": (
        packed({f"{place}/{name}": held for place in "ab" for name, held in PEFT.items()}),
        "adapter_invalid",
        "/file",
    ),
    "upwards": (packed({"../contextune.json": "{}"}), "adapter_invalid", "/file"),
    "absolute": (packed({"/contextune.json": "{}"}), "adapter_invalid", "/file"),
    "of Windows": (packed({"C:\\contextune.json": "{}"}), "adapter_invalid", "/file"),
    "a link": (linked(), "adapter_invalid", "/file"),
    "encrypted": (encrypted(export()), "adapter_invalid", "/file"),
    "many files": (packed({f"{n}.txt": "" for n in range(70)}), "adapter_invalid", "/file"),
    "long table": (many_entries(export()), "adapter_invalid", "/file"),
    "a bomb": (
        packed({"contextune.json": "{}", "contextune.safetensors": b"\0" * (64 * MIB)}, DEFLATED),
        "adapter_invalid",
        "/file",
    ),
    "long text": (
        packed({"contextune.json": " " * 2 * MIB, "contextune.safetensors": b""}),
        "adapter_invalid",
        "/file",
    ),
    "no JSON": (packed({"contextune.json": "{", "contextune.safetensors": b""}), "adapter_invalid", "/file"),
    "no text": (packed({"contextune.json": b"\xff", "contextune.safetensors": b""}), "adapter_invalid", "/file"),
    "deep": (packed({"contextune.json": "[" * 9999, "contextune.safetensors": b""}), "adapter_invalid", "/file"),
    "other tensors": (export(sha256="0" * 64), "adapter_invalid", "/file"),
    "bad name": (export(context={"name": "no name"}), "adapter_invalid", "/file"),
    "newer": (export(format=2), "format_unsupported", "/file"),
    "unknown model": (export(model="of-theirs"), "model_unknown", "/model"),
    "PEFT without labels": (packed(PEFT), "invalid_request", "/labels"),
}
STATUS = {"format_unsupported": 409}
#: The same for fields beside a file that is right.
FIELDS: list[tuple[bytes, dict[str, str], str, str]] = [
    (packed(PEFT), {"labels": '["a", "b"]'}, "invalid_request", "/model"),
    (packed(PEFT), {"labels": "a, b"}, "invalid_request", "/labels"),
    (packed(PEFT), {"labels": '["a"]'}, "too_few_labels", "/labels"),
    (packed(PEFT), {"labels": '["a", "a"]'}, "invalid_request", "/labels"),
    (packed(PEFT), {"labels": '["a", " "]'}, "text_empty", "/labels/1"),
    (packed(PEFT), {"labels": '["a", "\\u0000"]'}, "text_invalid", "/labels/1"),
    (packed(PEFT), {"labels": '["a", "b"]', "model": "nobody's"}, "model_unknown", "/model"),
    (packed(PEFT), {"labels": '["a", "b"]', "template": "{}x"}, "invalid_request", "/template"),
    (packed(PEFT), {"labels": '["a", "b"]', "template": '{"input": "x"}'}, "template_invalid", "/template"),
    (export(), {"labels": '["a", "b"]'}, "invalid_request", "/labels"),
    (export(), {"template": "{}"}, "invalid_request", "/template"),
    (export(), {"name": "ctx_x"}, "invalid_request", "/name"),
    (export(), {"name": ""}, "invalid_request", "/name"),
    (export(), {"other": "x"}, "invalid_request", "/file"),
]


def test_file_that_is_no_adapter_is_refused_and_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        for what, (content, code, param) in REFUSED.items():
            answer = await post(service, content)
            told = (what, answer.text)
            assert (answer.status_code, answer.json()["code"]) == (STATUS.get(code, 422), code), told
            assert answer.json()["param"] == param, told
            assert files(tmp_path) == set(), told
        for content, fields, code, param in FIELDS:
            answer = await post(service, content, **fields)
            told = (str(fields), answer.text)
            assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (422, code, param), told
            assert files(tmp_path) == set(), told
        assert (await service.http.get("/contexts")).json()["data"] == []
        assert service.records.garbage.files() == {}

    serve(settings, scenario)


@pytest.mark.parametrize("kind", ["application/zip", FORM["Content-Type"]])
def test_file_with_too_much_in_it_is_refused(tenant: TenantRecords, kind: str) -> None:
    upload = tenant.uploads.begin("ctx_1")
    receiver = AdapterReceiver(kind, upload, most_bytes=1000)
    receiver.begin()
    with pytest.raises(DomainError) as refused:
        receiver.feed(PART % b"file" + b"x" * 1001)
    assert refused.value.code == "body_too_large"
    upload.discard()


def test_body_that_is_not_received_is_refused_and_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        for content, headers, status, code in (
            (export(), {"Content-Type": "application/json"}, 415, "unsupported_media_type"),
            (export(), {}, 415, "unsupported_media_type"),
            (export(), {**ZIP, "Content-Encoding": "gzip"}, 400, "malformed_request"),
            (b"nonsense", FORM, 400, "malformed_request"),
            (
                PART % b"name" + b"x\r\n--b--\r\n",
                FORM,
                400,
                "malformed_request",
            ),
            (PART % b"file" + b"x", FORM, 400, "malformed_request"),
            (PART % b"name" + b"x" * 2**21, FORM, 413, "body_too_large"),
        ):
            answer = await service.http.post(IMPORT, content=content, headers=headers)
            told = (content[:40], answer.text)
            assert (answer.status_code, answer.json()["code"]) == (status, code), told
            assert files(tmp_path) == set(), told
        declared = {**ZIP, "Content-Length": str(600 * MIB)}
        assert (await service.http.post(IMPORT, content=b"x", headers=declared)).status_code == 413
        bomb = await service.http.post(IMPORT, content=packed_as_if(MAX_ADAPTER_BYTES + 1), headers=ZIP)
        assert (bomb.status_code, bomb.json()["code"]) == (422, "adapter_invalid")
        assert f"more than {MAX_ADAPTER_BYTES} bytes" in bomb.json()["detail"]

    serve(settings, scenario)
