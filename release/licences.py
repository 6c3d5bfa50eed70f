"""The licences of what is shipped: reads CycloneDX documents and prints each licence with the packages under it.

python -m release.licences dist/sbom/gateway.cdx.json dist/sbom/worker.cdx.json
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_CLASSIFIER = "License :: "


def by_licence(documents: Iterable[dict[str, Any]]) -> dict[str, set[str]]:
    """``name version`` of every component by what it says of its licence."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for document in documents:
        for component in document["components"]:
            found[licence(component)].add(f"{component['name']} {component.get('version', '')}".strip())
    return dict(found)


def licence(component: dict[str, Any]) -> str:
    """An SPDX expression where there is one, else the component's own words, else ``not declared``."""
    said = [entry.get("expression") or _name(entry.get("license", {})) for entry in component.get("licenses", [])]
    named = sorted({name.removeprefix(_CLASSIFIER) for name in said if name})
    return " / ".join(named) or "not declared"


def _name(entry: dict[str, Any]) -> str:
    name = str(entry.get("id") or entry.get("name") or "")
    if not name.startswith("declared license"):
        return name
    text = str(entry.get("text", {}).get("content", "")).strip()
    return "" if "\n" in text else text  # a line that names the licence; what is longer is the licence itself


def main() -> int:
    """Print the list of the files that are named."""
    documents = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    for name, packages in sorted(by_licence(documents).items()):
        sys.stdout.write(f"{name}\n" + "".join(f"  {package}\n" for package in sorted(packages, key=str.lower)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
