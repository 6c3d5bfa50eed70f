"""Work in a process of its own: a module of this package reads a JSON request and writes a JSON answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any


def ask(module: str, **request: Any) -> Any:
    """What `module` answers; raises CalledProcessError if it fails (its error output is shown)."""
    done = subprocess.run(
        [sys.executable, "-m", module], input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def answer(work: Callable[..., Any]) -> None:
    """Answer the request on standard input; called by the module that `ask` runs."""
    print(json.dumps(work(**json.load(sys.stdin))))
