"""What a context has learned, given to PEFT, plain transformers and another installation, and taken from both."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from contextune import Contextune
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.e2e.service import EXAMPLES, TINY, Service, assert_problem
from tests.waiting import eventually
from tests.worker.cpt.oracle import Oracle
from worker.cpt.encoding.context import Context, encode_example, encode_labels, encode_query
from worker.cpt.encoding.template import Template

# PEFT reads an attribute that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

TEXT = "my card never came"


@pytest.fixture(scope="module")
def tuned(service: Service) -> str:
    """Id of a context of one prompt, whose confidences are its label scores alone."""
    return service.tuned(name="adapters", model=TINY, hyperparameters={"method": "cpt", "steps": 3})


def exported(service: Service, ref: str, **query: Any) -> bytes:
    response = service.http.get(f"/contexts/{ref}/adapter", params=query)
    assert response.status_code == 200, response.text
    assert len(response.content) == int(response.headers["Content-Length"])
    return response.content


def label_scores(model: Any, tokenizer: Any, labels: list[str], prompt: Tensor | None) -> Tensor:
    """[L] of the labels after the text, by plain forwards after ``prompt`` [T, H], or by a model that has its own."""
    query, scores = encode_query(tokenizer, Template(), TEXT), []
    for label in encode_labels(tokenizer, Template(), labels):
        ids = torch.tensor([query + label])
        with torch.no_grad():
            if prompt is None:
                types = torch.zeros_like(ids)
                logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), input_type_mask=types).logits
            else:
                words = model.get_input_embeddings()(ids)
                logits = model(inputs_embeds=torch.cat([prompt[None], words], 1)).logits
        log_p = logits[0, -len(label) - 1 : -1].float().log_softmax(-1)
        scores.append(log_p[range(len(label)), label].sum())
    return torch.stack(scores)


def test_adapter_loads_in_peft_and_in_plain_transformers_with_the_same_answers(
    service: Service, tuned: str, tmp_path: Path
) -> None:
    folder = service.model_folder(TINY)
    answer = service.post_classify(tuned, [TEXT]).json()["classifications"][0]
    labels = list(answer["labels"])
    expected = torch.tensor([answer["labels"][label]["confidence"] for label in labels])
    with zipfile.ZipFile(io.BytesIO(exported(service, tuned))) as archive:
        assert archive.testzip() is None
        names = {"prompt-0/adapter_config.json", "prompt-0/adapter_model.safetensors"}
        assert set(archive.namelist()) == names | {"contextune.json", "contextune.safetensors"}
        archive.extractall(tmp_path)
    said = json.loads((tmp_path / "contextune.json").read_text())
    assert said["context"]["id"] == tuned
    assert said["labels"] == labels
    base, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    embeddings = safetensors.torch.load(exported(service, tuned, format="embeddings"))
    plain = label_scores(base, tokenizer, labels, embeddings["prompt.0"]).softmax(0)
    torch.testing.assert_close(plain, expected, rtol=1e-4, atol=1e-4)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "prompt-0").eval()
    by_peft = label_scores(loaded, tokenizer, labels, None).softmax(0)
    torch.testing.assert_close(by_peft, expected, rtol=1e-4, atol=1e-4)


def test_exports_are_the_same_each_time_and_leave_no_file(service: Service, tuned: str) -> None:
    before = service.artifacts()
    first = exported(service, "adapters@latest")
    assert exported(service, tuned) == first
    assert service.artifacts() == before


def test_what_cannot_be_exported_is_refused(service: Service, tuned: str) -> None:
    assert_problem(service.http.get("/contexts/nobody/adapter"), 404, "context_not_found")
    unknown = service.http.get(f"/contexts/{tuned}/adapter", params={"format": "onnx"})
    assert (unknown.status_code, unknown.json()["param"]) == (422, "/format"), unknown.text
    before = service.artifacts()
    waiting, job = service.create(model=TINY, hyperparameters={"method": "cpt", "steps": 1000})
    assert_problem(service.http.get(f"/contexts/{waiting}/adapter"), 409, "context_not_ready", "/ref")
    service.http.post(f"/jobs/{job}/cancel").raise_for_status()
    service.ended(job)
    service.http.delete(f"/contexts/{waiting}").raise_for_status()
    assert service.artifacts() == before


@pytest.fixture
def elsewhere(service: Service, models: Path, tmp_path: Path) -> Iterator[Service]:
    """Another installation, with the tiny base model alone."""
    allowed = json.dumps({TINY: {"path": service.model_folder(TINY), "device": "cpu"}})
    other = Service(tmp_path / "elsewhere", models, models=allowed)
    try:
        other.start()
        yield other
    finally:
        other.close()


def learned(adapter: bytes) -> bytes:
    """What of an export decides the answers."""
    with zipfile.ZipFile(io.BytesIO(adapter)) as archive:
        return archive.read("contextune.safetensors")


def test_export_answers_to_the_bit_in_another_installation(
    service: Service, elsewhere: Service, tmp_path: Path
) -> None:
    here = service.tuned(name="moved", model=TINY, hyperparameters={"method": "auto", "max_seconds": 2})
    answers, file = service.confidences(here), tmp_path / "moved.zip"
    file.write_bytes(exported(service, here))
    with Contextune(str(elsewhere.http.base_url)) as client:
        created = client.contexts.import_(file)
        assert (created.job, created.context.name, created.context.status) == (None, "moved", "succeeded")
        assert client.contexts.import_(file, name="other").context.name == "other"
    assert elsewhere.confidences("moved@1") == answers
    assert learned(exported(elsewhere, "moved")) == learned(file.read_bytes())
    before = elsewhere.worker_pid()
    elsewhere.kill_worker()
    eventually(lambda: elsewhere.worker_pid() not in (None, before), 120)
    eventually(lambda: elsewhere.post_classify("other", [TEXT]).is_success, 240)
    assert elsewhere.confidences("other") == answers


def test_adapter_that_peft_trained_answers_as_in_peft(service: Service, tmp_path: Path) -> None:
    folder, labels = service.model_folder(TINY), ["card linking", "card arrival"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    examples = [(one["text"], one["label"]) for one in EXAMPLES]
    config = Context.build(tokenizer, Template(), examples).config(opt_projection_epsilon=1.0)
    oracle = Oracle.of(AutoModelForCausalLM.from_pretrained(folder), config)
    optimizer = torch.optim.AdamW([oracle.delta], lr=0.05)
    for _ in range(3):
        loss = oracle.loss([encode_example(tokenizer, Template(), *one) for one in examples])
        (oracle.delta.grad,) = torch.autograd.grad(loss, oracle.delta)
        optimizer.step()
    oracle.model.save_pretrained(tmp_path / "trained")
    file = tmp_path / "trained.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "trained").iterdir()):
            archive.write(path, f"trained/{path.name}")
    with Contextune(str(service.http.base_url)) as client:
        created = client.contexts.import_(file, name="from-peft", model=TINY, labels=labels)
        assert (created.context.labels, created.context.tokens) == (tuple(labels), len(config.cpt_token_ids or ()))
        answer = client.classify("from-peft", TEXT)[0].labels
    base = AutoModelForCausalLM.from_pretrained(folder)
    trained = peft.PeftModel.from_pretrained(base, tmp_path / "trained").eval()
    expected = label_scores(trained, tokenizer, labels, None).softmax(0)
    found = torch.tensor([answer[label].confidence for label in labels])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    before = service.artifacts()
    form = {"labels": json.dumps(labels), "model": "smollm2-135m-instruct"}
    other = service.http.post("/contexts/import", data=form, files={"file": file.read_bytes()})
    assert_problem(other, 422, "adapter_invalid", "/file")
    assert service.artifacts() == before
