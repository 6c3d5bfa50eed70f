"""schemathesis over the whole OpenAPI document, with all of its checks: what is described is what is answered."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from app.contract.access import ALL_SCOPES, Scope
from app.standalone.embedded import EmbeddedServer
from tests.schema import hooks  # noqa: F401 - they register themselves
from tests.schema.service import OTHER_TENANT, Described, described

FOLDER = Path(__file__).parent
CONFIG = FOLDER / "schemathesis.toml"
SETTINGS = settings(
    max_examples=1,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def service(
    servers: tuple[EmbeddedServer, EmbeddedServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Described]:
    store, bus = servers
    with described(tmp_path_factory.mktemp("described"), store.url, bus.url) as service:
        yield service


def test_all_that_is_described_holds_also_in_a_row(service: Described, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG)]
    command += ["run", f"{service.url}/openapi.json", "-H", f"Authorization: Bearer {service.key(*ALL_SCOPES)}"]
    command += ["--phases", "examples,coverage,stateful", "--max-examples", "3"]
    command += ["--generation-deterministic", "--continue-on-failure", "--no-color"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(FOLDER)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]


def test_it_holds_for_keys_of_each_scope(service: Described) -> None:
    config = schemathesis.Config.from_path(CONFIG)
    document = schemathesis.openapi.from_url(f"{service.url}/openapi.json", config=config)
    # The first test deletes its tenant, whose name is refused for a while.
    keys = {scope: service.key(scope, tenant=OTHER_TENANT) for scope in Scope}
    asked = 0
    for found in document.get_all_operations():
        operation: Any = found

        @SETTINGS
        @given(case=operation.ok().as_strategy())
        def ask(case: Any) -> None:
            nonlocal asked
            for key in keys.values():
                case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, timeout=30)
                asked += 1

        ask()
    assert asked >= 5 * 39
