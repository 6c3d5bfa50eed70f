"""Every setting is described on the page of the configuration, and nothing else is."""

import re
from pathlib import Path

from app.config import Settings
from worker.config import WorkerSettings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_page_describes_the_settings_that_exist() -> None:
    described = set(re.findall(r"`CONTEXTUNE_([A-Z_]+)`", PAGE.read_text()))
    assert described == {name.upper() for settings in (Settings, WorkerSettings) for name in settings.model_fields}
