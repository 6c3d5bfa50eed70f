"""The worker as a process."""

import os
import subprocess
import sys
from pathlib import Path


def test_model_that_is_not_there_is_one_line(store_url: str, bus_url: str, tmp_path: Path) -> None:
    settings = {
        "CONTEXTUNE_STORE_URL": store_url,
        "CONTEXTUNE_BUS_URL": bus_url,
        "CONTEXTUNE_DATA_DIR": str(tmp_path),
        "CONTEXTUNE_MODELS": '{"mine": {"path": "./nowhere/model.gguf"}}',
    }
    command = [sys.executable, "-m", "worker"]
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, env={**os.environ, **settings}
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("a model of CONTEXTUNE_MODELS, or its encoder, was not loaded: ")
    assert "nowhere" in ended.stderr.splitlines()[-1]
