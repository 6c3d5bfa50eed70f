"""What the display does besides printing."""

import pytest

from app.standalone.display import Display


def test_page_is_opened_once_as_soon_as_the_service_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    opened: list[str] = []
    with Display("http://127.0.0.1:8000", opened.append) as display:
        display.stage("starting the store")
        assert opened == []
        display.ready()
        display.ready()
    assert opened == ["http://127.0.0.1:8000"]
    assert "Contextune is ready on http://127.0.0.1:8000" in capsys.readouterr().out
