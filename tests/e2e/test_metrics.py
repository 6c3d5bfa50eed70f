"""What `/metrics` says of a service at work, and whether the dashboard and the alerts ask for what is there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.service import TEXTS, TINY, Service
from tests.waiting import eventually

MONITORING = Path(__file__).parents[2] / "docker" / "monitoring"
#: What Prometheus adds to each sample, and the metric that it makes itself.
ADDED = {"job", "instance"}
OWN = {"up": ADDED}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(service: Service) -> Samples:
    answer = service.http.get("/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples that have these labels."""
    return sum(value for (one, has), value in samples.items() if one == name and set(labels.items()) <= has)


@pytest.fixture(scope="module")
def samples(service: Service, tiny: str) -> Samples:
    """A scrape once the worker's figures of what was asked of it have arrived."""
    before = scrape(service)
    for _ in range(3):
        answer = service.http.post("/classify", json={"context": tiny, "inputs": TEXTS})
        assert answer.status_code == 200
    had = total(before, "contextune_prefix_hits_total", model=TINY)
    eventually(lambda: total(scrape(service), "contextune_prefix_hits_total", model=TINY) >= had + 2)
    return scrape(service)


def test_one_scrape_tells_of_gateway_workers_and_queues(samples: Samples) -> None:
    assert total(samples, "contextune_requests_total", route="/classify", method="POST", status="200") >= 3
    assert total(samples, "contextune_inputs_total", model=TINY) >= 9
    assert total(samples, "contextune_input_tokens_total", model=TINY) > 9
    for stage in ("queue", "device", "reply"):
        assert total(samples, "contextune_classify_stage_seconds_count", model=TINY, stage=stage) >= 3
    assert total(samples, "contextune_classify_stage_seconds_sum", model=TINY, stage="device") > 0
    assert total(samples, "contextune_workers", model=TINY) == 1
    assert total(samples, "contextune_prefix_loads_total", model=TINY) >= 1
    assert total(samples, "contextune_prefix_bytes", model=TINY) > 0
    assert total(samples, "contextune_prefix_bytes") < total(samples, "contextune_prefix_capacity_bytes")
    assert total(samples, "contextune_device_busy_seconds_total", device="cpu") > 0
    assert total(samples, "contextune_job_attempts_total") > 0
    assert total(samples, "contextune_jobs_ended_total") > 0
    assert total(samples, "contextune_jobs", model=TINY, status="running") == 0


def queries() -> Iterator[tuple[str, str]]:
    """What the dashboard's panels and the alerts ask for, by name."""
    dashboard = json.loads((MONITORING / "grafana" / "contextune.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"].replace("$__rate_interval", "5m")
    for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"]
            yield f"alert {rule['alert']}", rule["expr"]


def selectors(expression: str) -> tuple[list[Any], set[str]]:
    """The selectors of an expression, and the labels that it groups by."""
    found: list[Any] = []
    grouped: set[str] = set()

    def visit(node: Any) -> None:
        match node:
            case promql_parser.VectorSelector():
                found.append(node)
            case promql_parser.AggregateExpr() if node.modifier is not None:
                grouped.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found, grouped


@pytest.mark.parametrize(("name", "expression"), list(queries()), ids=lambda value: value if "{" not in value else "")
def test_query_asks_for_metrics_and_labels_that_are_there(samples: Samples, name: str, expression: str) -> None:
    found, grouped = selectors(expression)
    assert found
    there = set(ADDED)
    for selector in found:
        labels: dict[str, set[str]] = {label: set() for label in OWN.get(selector.name, ())}
        for metric, has in samples:
            for label, value in has if metric == selector.name else ():
                labels.setdefault(label, set()).add(value)
        assert selector.name in OWN or any(metric == selector.name for metric, _ in samples), selector.name
        there |= set(labels)
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels, f"{selector.name} has no label {matcher.name}"
            status_code = re.match(r"\d", matcher.value)  # of answers that did not come up here
            if matcher.op == promql_parser.MatchOp.Equal and not status_code and matcher.name not in ADDED:
                assert matcher.value in labels[matcher.name]
    assert grouped <= there


def test_no_label_of_a_metric_is_an_id_of_a_record(samples: Samples) -> None:
    values = {value for _, has in samples for _, value in has}
    assert not any(value.startswith(("ctx_", "job_", "key_", "req_")) for value in values)


def test_every_metric_is_described(service: Service) -> None:
    page = (MONITORING.parents[1] / "docs" / "monitoring.md").read_text()
    families = text_string_to_metric_families(service.http.get("/metrics").text)
    named = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert {name for name in named if name.startswith("contextune_") and f"`{name}`" not in page} == set()
