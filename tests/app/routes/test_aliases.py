"""Aliases over HTTP: moved atomically, only to what can answer, only where the report bears it out."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Settings
from app.contract.objects import Report, Score
from app.records.store import Records
from tests.app.gateway import ask
from tests.app.records.steps import FAILURE, claim, submit

PROD = "/contexts/intents/aliases/prod"


def scored(accuracy: float, ece: float = 0.05) -> Report:
    figures: dict[str, Any] = {"accuracy": accuracy, "macro_f1": accuracy, "nll": 0.5, "ece": ece, "brier": 0.2}
    intervals: dict[str, Any] = {f"{name}_ci95": (0.0, 1.0) for name in figures}
    score = Score(**figures, **intervals, n=40)
    return Report(served="tuned", tuned=score, icl=score)


def version(records: Records, report: Report) -> str:
    """Id of a new version of the name that has succeeded."""
    context_id, _ = submit(records, "intents")
    assert records.finish_succeeded(claim(records), "address", report, {}) == "succeeded"
    return context_id


@pytest.fixture
def settings(tmp_path: Path, store_url: str, bus_url: str) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url)


def test_alias_is_moved_read_rolled_back_and_deleted(settings: Settings, records: Records) -> None:
    first, second = version(records, scored(0.8)), version(records, scored(0.9))

    async def scenario(http: httpx.AsyncClient) -> None:
        moved = await http.put(PROD, json={"version": 1})
        assert (moved.status_code, moved.headers["etag"], moved.json()["previous_version"]) == (200, '"1"', None)
        assert moved.json()["resident"] is False  # no worker is there
        moved = await http.put(PROD, json={"version": 2}, headers={"If-Match": '"1"'})
        assert (moved.status_code, moved.json()["context_id"], moved.json()["previous_version"]) == (200, second, 1)
        assert (await http.get("/contexts/intents@prod")).json()["id"] == second
        again = await http.put(PROD, json={"version": 2}, headers={"If-Match": '"1"'})
        assert (again.status_code, again.json()["version"]) == (200, 2), "the answer to the first may be lost"
        late = await http.put(PROD, json={"version": 1}, headers={"If-Match": '"1"'})
        assert (late.status_code, late.json()["code"]) == (412, "alias_changed")
        assert (await http.put(PROD, json={"version": 1})).json()["context_id"] == first
        read = await http.get(PROD)
        assert (read.headers["etag"], read.json()["version"], read.json()["resident"]) == ('"1"', 1, None)
        assert (await http.delete(f"/contexts/{first}")).json()["code"] == "context_in_use"
        for _ in range(2):
            assert (await http.delete(PROD)).status_code == 204
        assert (await http.get(PROD)).json()["code"] == "alias_not_found"

    ask(settings, scenario)


def test_alias_moves_only_where_the_report_bears_it_out(settings: Settings, records: Records) -> None:
    for accuracy in (0.7, 0.9, 0.8):
        version(records, scored(accuracy))
    required: list[tuple[dict[str, Any], bool]] = [
        ({"min_accuracy": 0.8}, True),
        ({"min_accuracy": 0.81}, False),
        ({"max_ece": 0.05}, True),
        ({"max_ece": 0.01}, False),
        ({"not_worse_than": "1"}, True),
        ({"not_worse_than": "prod"}, False),
    ]

    async def scenario(http: httpx.AsyncClient) -> None:
        for require, borne_out in required:
            assert (await http.put(PROD, json={"version": 2})).status_code == 200
            answer = await http.put(PROD, json={"version": 3, "require": require})
            assert answer.status_code == (200 if borne_out else 409), require
            if not borne_out:
                assert answer.json()["code"] == "promotion_refused"
                assert "0.8" in answer.json()["detail"] or "0.05" in answer.json()["detail"]
            assert (await http.get(PROD)).json()["version"] == (3 if borne_out else 2)

    ask(settings, scenario)


def test_every_requirement_that_is_missed_is_named(settings: Settings, records: Records) -> None:
    for accuracy in (0.9, 0.8):
        version(records, scored(accuracy))

    async def scenario(http: httpx.AsyncClient) -> None:
        require = {"min_accuracy": 0.85, "max_ece": 0.01, "not_worse_than": "1"}
        answer = await http.put(PROD, json={"version": 2, "require": require})
        detail = answer.json()["detail"]
        assert all(part in detail for part in ("min_accuracy 0.85", "max_ece 0.01", "0.900 of intents@1")), detail

    ask(settings, scenario)


def test_alias_that_moves_meanwhile_does_not_fall_below_what_it_points_at(settings: Settings, records: Records) -> None:
    for accuracy in (0.7, 0.9, 0.8):
        version(records, scored(accuracy))

    async def scenario(http: httpx.AsyncClient) -> None:
        require = {"not_worse_than": "prod"}
        for _ in range(5):
            assert (await http.put(PROD, json={"version": 1})).status_code == 200
            moves = [http.put(PROD, json={"version": number, "require": require}) for number in (2, 3)]
            better, worse = await asyncio.gather(*moves)
            stands = (await http.get(PROD)).json()["version"]
            assert {better.status_code, worse.status_code} <= {200, 409, 412}
            assert stands == 2 or better.status_code != 200

    ask(settings, scenario)


def test_version_without_figures_passes_no_gate(settings: Settings, records: Records) -> None:
    version(records, Report(served="tuned"))
    version(records, scored(0.9))

    async def scenario(http: httpx.AsyncClient) -> None:
        for number, require in ((1, {"min_accuracy": 0.1}), (2, {"not_worse_than": "1"})):
            answer = await http.put(PROD, json={"version": number, "require": require})
            assert (answer.status_code, answer.json()["code"]) == (409, "promotion_refused")
            assert "intents@1 has no figures" in answer.json()["detail"]

    ask(settings, scenario)


def test_alias_points_only_at_what_can_answer(settings: Settings, records: Records) -> None:
    submit(records, "intents")
    records.finish_failed(claim(records), FAILURE)
    submit(records, "intents")

    async def scenario(http: httpx.AsyncClient) -> None:
        for number, code in ((1, "context_failed"), (2, "context_not_ready"), (3, "context_not_found")):
            assert (await http.put(PROD, json={"version": number})).json()["code"] == code
        assert (await http.put("/contexts/none/aliases/prod", json={"version": 1})).status_code == 404

    ask(settings, scenario)


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/contexts/intents/aliases/latest", {"version": 1}, {}),
        ("/contexts/intents/aliases/Prod", {"version": 1}, {}),
        ("/contexts/intents/aliases/1", {"version": 1}, {}),
        (PROD, {"version": 0}, {}),
        (PROD, {"version": "1"}, {}),
        (PROD, {"version": 1, "require": {"min_recall": 1}}, {}),
        (PROD, {"version": 1}, {"If-Match": "1"}),
    ],
)
def test_bad_move_is_refused(
    settings: Settings, records: Records, path: str, body: dict[str, Any], headers: dict[str, str]
) -> None:
    version(records, scored(0.9))

    async def scenario(http: httpx.AsyncClient) -> None:
        assert (await http.put(path, json=body, headers=headers)).status_code == 422
        assert (await http.get("/contexts/intents")).json()["aliases"] == []

    ask(settings, scenario)
