"""The command in this process, against a stand-in service on a real socket."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from contextune.cli.application import run

from tests.client.standin import StandIn


@dataclass
class Said:
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What the envelope holds."""
        document = json.loads(self.out)
        assert document["ok"] is (self.status == 0)
        return document["data"] if document["ok"] else document["error"]


Command = Callable[..., Said]


@pytest.fixture
def service(listening: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """A service that the command speaks with."""
    listening.clear()
    monkeypatch.setenv("CONTEXTUNE_URL", listening.url)
    monkeypatch.setenv("CONTEXTUNE_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.delenv("CONTEXTUNE_API_KEY", raising=False)
    return listening


@pytest.fixture
def command(service: StandIn, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command."""

    def command(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as ended:
            run(list(arguments))
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return command
