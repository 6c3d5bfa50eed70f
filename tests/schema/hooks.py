"""What schemathesis needs to know of the service: how the lines of a batch and zip files are written."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/jsonl", "text/csv", "application/zip")
def _lines(context: Any, value: Any) -> Any:
    """Text as it is; other values as JSON, each on a line."""
    if isinstance(value, str | bytes):
        return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return "\n".join(json.dumps(one) for one in (value if isinstance(value, list) else [value])).encode()
