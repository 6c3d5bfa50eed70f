from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config import Settings


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTUNE_ALLOWED_HOSTS", "a.example, *.b.example,")
    monkeypatch.setenv("CONTEXTUNE_TRUSTED_PROXIES", "10.0.0.0/8,::1")
    monkeypatch.setenv("CONTEXTUNE_ALLOWED_ORIGINS", "")
    settings = Settings()
    assert settings.allowed_hosts == ("a.example", "*.b.example")
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert settings.allowed_origins == ()


@pytest.mark.parametrize(
    "values",
    [
        {"trusted_proxies": "proxy.example"},
        {"tls_cert": Path("cert.pem")},
        {"root_path": "api/"},
        {"keep_batches_days": "inf"},
        {"keep_names_days": 1e9},
        {"keep_idempotency_hours": 1e9},
        {"classify_timeout": "inf"},
        {"max_wait": "inf"},
    ],
)
def test_setting_of_the_wrong_form_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(values)
