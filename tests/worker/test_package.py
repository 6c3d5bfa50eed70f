"""What importing the worker does to the process, seen in a process of its own."""

import os
import subprocess
import sys

import pytest

_REPORT = """
import os, sys
import worker
assert "torch" not in sys.modules
import worker.host
print(os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "None")],
    ids=["by default", "a count of the user's", "a policy of the user's"],
)
def test_threads_spin_shortly_unless_the_environment_says_otherwise(given: dict[str, str], found: str) -> None:
    others = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    reported = subprocess.run(
        [sys.executable, "-c", _REPORT], env=others | given, capture_output=True, text=True, check=True, timeout=120
    )
    assert reported.stdout.strip() == found
