"""Batches over HTTP, without a worker: what is taken, what is refused, what is left, and who may do what."""

import gzip
import json
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.batches.receiving import Receiver
from app.config import Settings
from app.contexts.deletion import collect
from app.contract.access import Scope
from app.contract.names import artifact_url
from app.errors import DomainError
from app.jobs.ending import remove_files, retire
from app.records.chunks import Chunk, Done
from app.records.claims import BatchClaim
from app.records.connection import connect
from app.records.files import read_file, write_file
from app.records.limits import Retention
from app.records.rows import NewerFormat
from app.records.store import Records, TenantRecords
from app.routes.encodings import decoded, decoder_of
from tests.app import full_disk
from tests.app.access.gateway import Service, serve
from tests.app.records.steps import succeed
from tests.submissions import MODEL

JSONL = {"Content-Type": "application/jsonl"}
CSV = {"Content-Type": "text/csv"}
LINE = b'{"text": "my card never came"}\n'


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url)


def files(folder: Path) -> set[Path]:
    return {path for path in (folder / "artifacts").rglob("*") if path.is_file()}


def stored_lines(service: Service, tmp_path: Path, job_id: str) -> list[dict[str, Any]]:
    """The input of a batch as a worker reads it."""
    claim = service.records.claim([MODEL], "worker-1")
    assert isinstance(claim, BatchClaim)
    assert (claim.job_id, claim.labels) == (job_id, ("good", "bad"))
    content = read_file(artifact_url(f"file://{tmp_path}/artifacts", claim.input))
    service.records.finish_cancelled(claim)
    found = [json.loads(line) for line in content.splitlines()]
    assert len(found) == claim.total
    return found


def form(*parts: tuple[str, str, str, bytes]) -> tuple[bytes, dict[str, str]]:
    """A form with these parts: field, file name, content type, content."""
    pieces = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        f"Content-Type: {kind}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, filename, kind, content in parts
    ]
    return b"".join(pieces) + b"--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


def zstd(content: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd as compression  # noqa: PLC0415
    else:
        from backports import zstd as compression  # noqa: PLC0415
    return compression.compress(content)


TAKEN: list[tuple[bytes, dict[str, str], list[dict[str, Any]]]] = [
    (
        b'\xef\xbb\xbf{"text": "a"}\r\n\n  \n{"text": "b", "id": "2"}',
        JSONL,
        [{"text": "a"}, {"text": "b", "id": "2"}],
    ),
    (
        b'\xef\xbb\xbfLabel,other, text ,id\r\ngood,x,"a, ""b""\nc",1\r\n\r\n,x,d,\r\n',
        CSV,
        [{"text": 'a, "b"\nc', "id": "1", "label": "good"}, {"text": "d"}],
    ),
    (*form(("file", "a.jsonl", "application/octet-stream", LINE)), [json.loads(LINE)]),
    (gzip.compress(LINE * 30_000), {**JSONL, "Content-Encoding": "gzip"}, [json.loads(LINE)] * 30_000),
    (zstd(LINE * 30_000), {**JSONL, "Content-Encoding": "zstd"}, [json.loads(LINE)] * 30_000),
    (*form(("file", "a", "text/csv; charset=utf-8", b"text\n1\n2\n")), [{"text": "1"}, {"text": "2"}]),
]


@pytest.mark.parametrize(("body", "headers", "lines"), TAKEN, ids=range(len(TAKEN)))
def test_file_is_taken_as_json_lines_csv_or_a_form(
    settings: Settings, tmp_path: Path, body: bytes, headers: dict[str, str], lines: list[dict[str, Any]]
) -> None:
    """It arrives in pieces of one byte, and nothing of it is left but the lines."""

    async def pieces() -> AsyncIterator[bytes]:
        for place in range(len(body)):
            yield body[place : place + 1]

    async def scenario(service: Service) -> None:
        context_id = succeed(service.records, "intents")
        before = files(tmp_path)
        query: dict[str, Any] = {
            "context": "intents",
            "truncate": "END",
            "min_confidence": 0.5,
            "exact": True,
            "top_k": 3,
        }
        answer = await service.http.post("/batches", params=query, content=pieces(), headers=headers)
        batch = answer.json()
        assert answer.status_code == 202, batch
        assert answer.headers["location"] == f"/batches/{batch['id']}"
        assert (batch["kind"], batch["status"], batch["context_id"]) == ("batch", "queued", context_id)
        assert batch["counts"] == {"total": len(lines), "done": 0, "failed": 0}
        assert (batch["expires_at"], batch["report"], batch["hyperparameters"]) == (None, None, None)
        assert batch["estimated_finish_at"]
        assert len(files(tmp_path) - before) == 1
        for path in (f"/batches/{batch['id']}", f"/jobs/{batch['id']}"):
            assert (await service.http.get(path)).json() == batch
        for path in ("/batches", "/jobs?kind=batch", "/v1/batches"):
            assert (await service.http.get(path)).json()["data"] == [batch]
        assert stored_lines(service, tmp_path, batch["id"]) == lines

    serve(settings, scenario)


REFUSED: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"", JSONL, 422, "invalid_request"),
    (b"\n \n", JSONL, 422, "invalid_request"),
    (b'[{"text": "a"}]', JSONL, 400, "invalid_json"),
    (b"text\na\n", JSONL, 400, "invalid_json"),
    (b"", CSV, 422, "invalid_request"),
    (b"text\n", CSV, 422, "invalid_request"),
    (b"question;label\na;b\n", CSV, 422, "invalid_request"),
    (b"text,id\na\n", CSV, 422, "invalid_request"),
    (b'text\n"a', CSV, 422, "invalid_request"),
    (b'text\n"a"b\n', CSV, 422, "invalid_request"),
    (b"text\n\xff\n", CSV, 422, "invalid_request"),
    (b"text\n" + b"x" * 2_000_000, CSV, 422, "invalid_request"),
    (LINE, {"Content-Type": "application/json"}, 415, "unsupported_media_type"),
    (LINE, {}, 415, "unsupported_media_type"),
    (LINE, {**JSONL, "Content-Encoding": "br"}, 415, "unsupported_media_type"),
    (LINE, {**JSONL, "Content-Encoding": "gzip"}, 400, "malformed_request"),
    (gzip.compress(LINE)[:-1], {**JSONL, "Content-Encoding": "gzip"}, 400, "malformed_request"),
    (b"text\na", {"Content-Type": "text/csv; charset=latin-1"}, 415, "unsupported_media_type"),
    (b"nonsense", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "malformed_request"),
    (b"nonsense", {"Content-Type": f"multipart/form-data; boundary={'b' * 300}"}, 400, "malformed_request"),
    (b"--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "malformed_request"),
    (*form(("file", "a.jsonl", "", LINE), ("file", "b.jsonl", "", LINE)), 422, "invalid_request"),
    (*form(("other", "a.jsonl", "", LINE)), 422, "invalid_request"),
    (*form(("file", "a.xlsx", "application/octet-stream", LINE)), 415, "unsupported_media_type"),
    (form(("file", "a.jsonl", "", LINE))[0][:-9], form()[1], 400, "malformed_request"),
]


def test_file_that_cannot_be_read_is_refused_and_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        succeed(service.records, "intents")
        before = files(tmp_path)
        for body, headers, status, code in REFUSED:
            answer = await service.http.post("/batches?context=intents", content=body, headers=headers)
            told = (body[:60], answer.text)
            assert (answer.status_code, answer.json()["code"]) == (status, code), told
            assert files(tmp_path) == before, told
        assert (await service.http.get("/batches")).json()["data"] == []
        assert service.records.garbage.files() == {}

    serve(settings, scenario)


@pytest.mark.parametrize(
    ("kind", "encoding", "body", "code"),
    [
        ("application/jsonl", "", LINE * 4, "too_many_inputs"),
        ("text/csv", "", b"text\n" + b"a\n" * 4, "too_many_inputs"),
        ("application/jsonl", "", LINE + b"{" + b" " * 3_000, "body_too_large"),
        ("application/jsonl", "gzip", gzip.compress(LINE + b" " * 3_000_000), "body_too_large"),
        ("application/jsonl", "zstd", zstd(LINE + b" " * 3_000_000), "body_too_large"),
    ],
)
def test_file_with_too_much_in_it_is_refused_and_leaves_nothing(
    tenant: TenantRecords, tmp_path: Path, kind: str, encoding: str, body: bytes, code: str
) -> None:
    receiver = Receiver(kind, partial(tenant.batches.upload, "job_1"), most_lines=3, most_bytes=2_500)
    receiver.begin()
    with pytest.raises(DomainError) as refused:
        _feed(receiver, encoding, body)
    assert refused.value.code == code
    receiver.discard()
    assert files(tmp_path) == set()


def _feed(receiver: Receiver, encoding: str, body: bytes) -> None:
    for block in decoded(decoder_of(encoding), body):
        receiver.feed(block)
    receiver.end()


@pytest.mark.parametrize(
    ("query", "status", "code", "param"),
    [
        ("", 422, "invalid_request", "/context"),
        ("context=nothing", 404, "context_not_found", None),
        ("context=intents&top_k=0", 422, "invalid_request", "/top_k"),
        ("context=intents&min_confidence=nan", 422, "invalid_request", "/min_confidence"),
        ("context=intents&truncate=MIDDLE", 422, "invalid_request", "/truncate"),
        ("context=intents&other=1", 422, "invalid_request", "/other"),
    ],
)
def test_bad_query_is_refused(settings: Settings, query: str, status: int, code: str, param: str | None) -> None:
    async def scenario(service: Service) -> None:
        succeed(service.records, "intents")
        answer = await service.http.post(f"/batches?{query}", content=LINE, headers=JSONL)
        told = answer.json()
        assert (answer.status_code, told["code"], told["param"]) == (status, code, param)

    serve(settings, scenario)


def test_repeated_request_creates_once_whatever_its_boundary(settings: Settings, tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        succeed(service.records, "intents")

        async def post(body: bytes, headers: dict[str, str], query: str = "") -> httpx.Response:
            sent = {**headers, "Idempotency-Key": "once"}
            return await service.http.post(f"/batches?context=intents{query}", content=body, headers=sent)

        body, headers = form(("file", "a.jsonl", "", LINE))
        first = await post(body, headers)
        before = files(tmp_path)
        other = {"Content-Type": "multipart/form-data; boundary=other"}
        again = await post(body.replace(b"--b", b"--other"), other)
        assert (again.status_code, again.json(), again.headers["location"]) == (
            202,
            first.json(),
            first.headers["location"],
        )
        for changed in (await post(LINE + LINE, JSONL), await post(LINE, JSONL, "&top_k=2")):
            assert (changed.status_code, changed.json()["code"]) == (422, "idempotency_key_reused")
        assert files(tmp_path) == before
        await service.http.post(f"/jobs/{first.json()['id']}/cancel")
        assert (await service.http.delete(f"/jobs/{first.json()['id']}")).status_code == 204
        gone = await post(body, headers)
        assert (gone.status_code, gone.json()["code"]) == (410, "deleted")

    serve(settings, scenario)


def run_chunk(records: Records, root: str, first: int, count: int) -> BatchClaim:
    """Do what a worker would: results for lines from ``first`` on, every second one an error."""
    claim = records.claim([MODEL], "worker-1")
    assert isinstance(claim, BatchClaim)
    content: dict[str, str] = {"results": "", "errors": ""}
    for index in range(first, first + count):
        labels = {"good, or so": {"confidence": 0.75}}
        good = {"index": index, "id": f"=line {index}", "prediction": "good, or so", "confidence": 0.75}
        bad = {"index": index, "id": None, "code": "text_empty", "message": "text: must not be empty"}
        line = {**good, "abstained": False, "labels": labels} if index % 2 == 0 else bad
        content["results" if index % 2 == 0 else "errors"] += json.dumps(line, separators=(",", ":")) + "\n"
    addresses = {}
    for what, text in content.items():
        addresses[what] = f"{what}-{first}.jsonl"
        assert records.begin_write(claim, addresses[what]) == "go"
        write_file(artifact_url(root, addresses[what]), text.encode())
    number = len(records.batch_work.chunks(claim))
    done = Done(done=(count + 1) // 2, failed=count // 2, bytes=10, input_tokens=5, context_tokens=5)
    chunk = Chunk(first, first + count, 0, **addresses)
    for _ in range(2):  # as after an answer that was lost
        assert records.batch_work.add(claim, number, chunk, done) == "held"
    return claim


def test_results_are_read_while_the_batch_runs_and_deleted_with_it(settings: Settings, tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        records = service.records
        context_id = succeed(records, "intents")
        root, before = f"file://{tmp_path}/artifacts", files(tmp_path)
        created = await service.http.post("/batches?context=intents", content=LINE * 7, headers=JSONL)
        job_id = created.json()["id"]

        async def read(what: str) -> tuple[str, list[int]]:
            answer = await service.http.get(f"/batches/{job_id}/{what}")
            assert answer.status_code == 200, answer.text
            found = [json.loads(line)["index"] for line in answer.text.splitlines()]
            return answer.headers["contextune-complete"], found

        assert await read("results") == ("false", [])
        run_chunk(records, root, 0, 4)
        assert await read("results") == ("false", [0, 2])
        assert await read("errors") == ("false", [1, 3])
        used = await service.http.delete(f"/contexts/{context_id}")
        assert (used.status_code, used.json()["code"]) == (409, "context_in_use")
        claim = run_chunk(records, root, 4, 3)
        assert records.batch_work.finish(claim, None, 0.001) == "succeeded"
        assert records.batch_work.finish(claim, None, 0.001) == "succeeded"
        batch = (await service.http.get(f"/batches/{job_id}?")).json()
        assert (batch["status"], batch["counts"]) == ("succeeded", {"total": 7, "done": 4, "failed": 3})
        assert batch["expires_at"]
        assert await read("results") == ("true", [0, 2, 4, 6])
        assert await read("results?after=2") == ("true", [4, 6])
        assert await read("results?after=5") == ("true", [6])
        assert await read("errors?after=1") == ("true", [3, 5])
        table = await service.http.get(f"/batches/{job_id}/results?format=csv&after=4")
        assert table.headers["content-type"] == "text/csv; charset=utf-8"
        assert table.text == (
            "index,id,prediction,confidence,abstained,labels\r\n"
            '6,=line 6,"good, or so",0.75,false,"{""good, or so"": 0.75}"\r\n'
        )
        assert (await service.http.delete(f"/jobs/{job_id}")).status_code == 204
        assert files(tmp_path) == before
        for path in (f"/batches/{job_id}", f"/batches/{job_id}/results", f"/batches/{job_id}/errors"):
            assert (await service.http.get(path)).status_code == 404
        assert (await service.http.delete(f"/contexts/{context_id}")).status_code == 204

    serve(settings, scenario)


def test_tuning_job_is_no_batch(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        succeed(service.records, "intents")
        (job,) = (await service.http.get("/jobs")).json()["data"]
        for path in ("", "/results", "/errors"):
            answer = await service.http.get(f"/batches/{job['id']}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
        assert "counts" not in job

    serve(settings, scenario)


def test_key_with_the_scope_classify_owns_batches_whole(settings: Settings, tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        succeed(service.records, "intents")
        secret, reader = service.key(Scope.CLASSIFY), service.key(Scope.READ)
        created = await service.ask(secret, "POST", "/batches?context=intents", content=LINE, headers=JSONL)
        job_id = created.json()["id"]
        paths = ("/batches", f"/batches/{job_id}", f"/batches/{job_id}/results", f"/batches/{job_id}/errors")
        for path in (*paths, f"/jobs/{job_id}", f"/jobs/{job_id}/events"):
            for key in (secret, reader):
                assert (await service.ask(key, "GET", path)).status_code == 200, path
        refused = await service.ask(reader, "POST", "/batches?context=intents", content=LINE, headers=JSONL)
        assert refused.status_code == 403
        assert (await service.ask(secret, "POST", f"/jobs/{job_id}/cancel")).json()["status"] == "cancelled"
        assert (await service.ask(secret, "DELETE", f"/jobs/{job_id}")).status_code == 204

    serve(settings, scenario)


def test_tenant_has_no_more_bytes_and_jobs_than_it_may(settings: Settings, tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        succeed(service.records, "intents")
        secret = service.key()
        for limits, status in (({"artifact_bytes": 10}, 429), ({"artifact_bytes": None, "queued_jobs": 1}, 202)):
            await service.ask(secret, "PATCH", "/tenants/default", json={"limits": limits})
            before = files(tmp_path)
            answer = await service.ask(secret, "POST", "/batches?context=intents", content=LINE, headers=JSONL)
            assert answer.status_code == status, answer.text
            assert (files(tmp_path) == before) == (status == 429)
            assert answer.headers.get("retry-after") == ("60" if status == 429 else None)  # until something is deleted
        answer = await service.ask(secret, "POST", "/batches?context=intents", content=LINE, headers=JSONL)
        assert (answer.status_code, answer.json()["code"]) == (429, "quota")
        assert answer.headers["retry-after"] == "1"  # until a job begins

    serve(settings, scenario)


@pytest.fixture
def impatient(records: Records, tmp_path: Path) -> Records:
    """Records that keep nothing for long."""
    return Records(
        records._store._client,  # type: ignore[arg-type] # the same store
        retention=Retention(jobs=0, batches=0, unreferenced=0),
        artifacts_url=f"file://{tmp_path}/artifacts",
    )


def test_what_a_crash_leaves_of_uploads_and_old_batches_is_collected(
    settings: Settings, tmp_path: Path, impatient: Records
) -> None:
    root = f"file://{tmp_path}/artifacts"

    async def scenario(service: Service) -> None:
        succeed(service.records, "intents")
        before = files(tmp_path)
        created = await service.http.post("/batches?context=intents", content=LINE * 2, headers=JSONL)
        run_chunk(service.records, root, 0, 2)
        claim = service.records.claim([MODEL], "worker-1")
        assert isinstance(claim, BatchClaim)
        service.records.batch_work.finish(claim, None, None)
        service.records.of("default").batches.upload("job_lost").write(b"{")  # and the gateway died
        moved = service.records.of("default").batches.upload("job_moved")
        moved.write(b"{}")
        moved.keep()
        assert len(files(tmp_path)) == len(before) + 5
        retire(impatient)
        remove_files(impatient, root)
        collect(impatient, root)
        assert files(tmp_path) == before
        answer = await service.http.get(f"/batches/{created.json()['id']}")
        assert answer.status_code == 404

    serve(settings, scenario)


def test_upload_that_is_broken_off_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    messages = iter([{"type": "http.request", "body": LINE, "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    async def scenario(service: Service) -> None:
        succeed(service.records, "intents")
        before = files(tmp_path)
        headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/jsonl")]
        scope = {"type": "http", "method": "POST", "path": "/batches", "query_string": b"context=intents"}
        rest = {"headers": headers, "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
        await service.app({**scope, **rest, "http_version": "1.1"}, receive, send)
        assert sent[0]["status"] == 400
        assert files(tmp_path) == before
        assert (await service.http.get("/batches")).json()["data"] == []

    serve(settings, scenario)


def test_full_disk_is_told_and_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        answer = await service.http.post("/batches?context=intents", content=LINE, headers=JSONL)
        assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
        assert files(tmp_path) == before
        assert service.records.garbage.files() == {}

    with connect(settings.store_url or "") as store:
        succeed(Records(store, artifacts_url=f"file://{tmp_path}/artifacts"), "intents")
    before = files(tmp_path)
    full_disk.register()
    serve(settings.model_copy(update={"artifacts_url": f"full://{tmp_path}/artifacts"}), scenario)


def test_batch_of_a_newer_release_is_refused_by_name(settings: Settings, records: Records) -> None:
    async def scenario(service: Service) -> None:
        succeed(service.records, "intents")
        created = await service.http.post("/batches?context=intents", content=LINE, headers=JSONL)
        job_id = created.json()["id"]
        records._store._client.hset(f"{{ct}}:t:default:job:{job_id}", "format", 99)
        with pytest.raises(NewerFormat):
            service.records.of("default").batches.get(job_id)
        for path in ("", "/results", "/errors"):
            answer = await service.http.get(f"/batches/{job_id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (409, "format_unsupported")

    serve(settings, scenario)
