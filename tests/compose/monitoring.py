"""The profile `monitoring`: a real Prometheus with the repository's configuration, rules and queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from tests.compose.confinement import is_confined
from tests.compose.service import classify, eventually, models_are_ready
from tests.compose.stack import Stack, request

_DASHBOARD: Final = Path("docker/monitoring/grafana/contextune.json")


def prometheus_reads_the_gateway_and_answers_every_panel(stack: Stack) -> str:
    """With the key that was made for it; the alert of a gateway that is gone is raised."""
    eventually(lambda: _targets(stack) == ["up"], 120, "Prometheus reads the gateway")
    is_confined(stack, "prometheus")
    classify(stack)
    (group,) = _asked(stack, "rules")["groups"]
    eventually(lambda: _health(stack) == {"ok"}, 60, "every rule was evaluated")
    empty = dict(_panels())
    eventually(lambda: _all_answer(stack, empty), 120, f"an answer for {set(empty)}")
    assert not _alerts(stack, "firing"), f"alerts: {_alerts(stack, 'firing')}"
    stack.run("stop", stack.container("gateway"))
    eventually(lambda: "ContextuneGatewayDown" in _alerts(stack, "pending"), 120, "an alert of the gateway's end")
    stack.run("start", stack.container("gateway"))
    models_are_ready(stack)
    return f"{len(group['rules'])} rules, {len(dict(_panels()))} queries"


def _panels() -> Iterator[tuple[str, str]]:
    """Queries of the dashboard by a name, as Grafana would ask them."""
    for panel in json.loads(_DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"].replace("$__rate_interval", "1m")


def _all_answer(stack: Stack, waiting: dict[str, str]) -> bool:
    """Whether each query has had an answer; takes those that have from ``waiting``."""
    for name, expression in list(waiting.items()):
        if _asked(stack, f"query?query={quote(expression)}")["result"]:
            del waiting[name]
    return not waiting


def _targets(stack: Stack) -> list[str]:
    return [target["health"] for target in _asked(stack, "targets").get("activeTargets", ())]


def _health(stack: Stack) -> set[str]:
    (group,) = _asked(stack, "rules")["groups"]
    return {rule["health"] for rule in group["rules"]}


def _alerts(stack: Stack, state: str) -> set[str]:
    """Alerts whose condition holds: ``pending`` at first, ``firing`` once for long enough."""
    alerts = _asked(stack, "alerts")["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == state}


def _asked(stack: Stack, path: str) -> dict[str, Any]:
    status, answer = request("GET", f"http://127.0.0.1:{stack.prometheus_port}/api/v1/{path}")
    if status == 0:  # not yet
        return {}
    assert status == 200, f"Prometheus answered {status} to {path}: {answer}"
    return dict(answer["data"])
