"""The page of the configuration is that of the settings; `make configuration` writes it anew."""

from pathlib import Path

from release import models
from release.configuration import page, undescribed

MODELS = Path(__file__).parents[2] / "docs" / "models.md"
PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_every_setting_is_described() -> None:
    assert undescribed() == []


def test_page_is_made_of_the_settings() -> None:
    assert PAGE.read_text() == page()


def test_table_of_models_is_the_planners() -> None:
    text = MODELS.read_text()
    assert models.page(text) == text
