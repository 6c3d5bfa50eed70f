from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config import Settings, wrong_settings


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
        {"log_level": "LOUD"},
    ],
)
def test_setting_of_the_wrong_form_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(values)


@pytest.mark.parametrize(
    "origins",
    ["*", "https://*.example", "app.example", "https://app.example/", "https://App.example", "null", "https://a b"],
)
def test_origin_that_no_browser_sends_is_refused(origins: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"allowed_origins": origins})
    (line,) = wrong_settings(refused.value)
    assert line.startswith("CONTEXTUNE_ALLOWED_ORIGINS: must be origins, each named")


def test_origins_of_pages_and_of_apps_are_taken() -> None:
    taken = Settings.model_validate(
        {"allowed_origins": "https://app.example:8443, tauri://localhost, http://[::1]:3000"}
    )
    assert taken.allowed_origins == ("https://app.example:8443", "tauri://localhost", "http://[::1]:3000")


@pytest.mark.parametrize("name", ["store_url", "bus_url"])
@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://:s3cret/more@localhost", "redis://h:x"])
def test_url_of_no_server_is_refused_in_words_that_do_not_repeat_it(name: str, url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({name: url})
    (line,) = wrong_settings(refused.value)
    assert (
        line == f"CONTEXTUNE_{name.upper()}: must be redis://host:6379/0, rediss:// likewise, or unix:///path/to/socket"
    )


@pytest.mark.parametrize(
    "url", ["redis://host", "rediss://user:p%40ss@host:6380/1?ssl_cert_reqs=none", "unix:///a/b", ""]
)
def test_url_of_a_server_is_taken(url: str) -> None:
    assert Settings(store_url=url, log_level="debug").store_url == url
