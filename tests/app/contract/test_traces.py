"""Traces of a process that traces nothing, and of one that lacks what it needs for them. See also tests/e2e."""

import os
import subprocess
import sys

USED = """
import sys
from app.contract.traces import record, span, start_tracing, stop_tracing, traceparent, tracing
start_tracing("test")
with span("request", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", inputs=1):
    print(tracing(), traceparent())
record("queue", None, 1.0, 2.0)
stop_tracing()
print("opentelemetry.sdk" in sys.modules)
"""
WITHOUT_PACKAGES = "import sys\nsys.modules['opentelemetry'] = None\n"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", code], env={**own, **environment}, capture_output=True, text=True, check=True, timeout=60
    )


def test_nothing_is_loaded_or_kept_without_an_endpoint() -> None:
    assert run(USED).stdout.split() == ["False", "None", "False"]


def test_process_that_lacks_the_extra_says_so_and_goes_on() -> None:
    done = run(WITHOUT_PACKAGES + USED, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert done.stdout.split()[-3:] == ["False", "None", "False"]
    assert "pip install 'contextune-server[otel]'" in done.stdout + done.stderr
