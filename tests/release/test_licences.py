"""Which licences the list names."""

from typing import Any

import pytest

from release.licences import by_licence, licence


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        ([{"license": {"id": "MIT"}}], "MIT"),
        ([{"expression": "MIT OR Apache-2.0"}], "MIT OR Apache-2.0"),
        ([{"license": {"name": "License :: OSI Approved :: BSD License"}}], "OSI Approved :: BSD License"),
        ([{"license": {"id": "MIT"}}, {"license": {"name": "declared license of 'x'", "text": {}}}], "MIT"),
        ([{"license": {"name": "declared license of 'x'", "text": {"content": "Apache 2.0"}}}], "Apache 2.0"),
        ([{"license": {"name": "declared license of 'x'", "text": {"content": "Copyright\nof x"}}}], "not declared"),
        ([], "not declared"),
    ],
)
def test_licence_of_a_component(licenses: list[dict[str, Any]], expected: str) -> None:
    assert licence({"name": "x", "licenses": licenses}) == expected


def test_packages_of_all_documents_are_listed_once() -> None:
    tiny = {"name": "tiny", "version": "1", "licenses": [{"license": {"id": "MIT"}}]}
    assert by_licence([{"components": [tiny]}, {"components": [tiny, {"name": "own"}]}]) == {
        "MIT": {"tiny 1"},
        "not declared": {"own"},
    }
