"""Two installations, and a backup between them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.standalone.embedded import EmbeddedServer
from tests.app.admin.installations import Installation


@pytest.fixture
def here(store_url: str, tmp_path: Path) -> Iterator[Installation]:
    found = Installation(store_url, tmp_path / "here")
    yield found
    found.client.close()


@pytest.fixture
def there(own_store: EmbeddedServer, tmp_path: Path) -> Iterator[Installation]:
    found = Installation(own_store.url, tmp_path / "there")
    yield found
    found.client.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backup.tar"
