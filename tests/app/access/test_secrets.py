"""The secrets of keys."""

import pytest
from pydantic import SecretStr, ValidationError

from app.access.secrets import PREFIX, hash_of, new_secret
from app.config import Settings


def test_a_secret_has_32_random_bytes_and_a_prefix_that_scanners_find() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(secret.startswith(PREFIX) and len(secret) == len(PREFIX) + 43 for secret in secrets)


def test_what_is_stored_is_the_sha256() -> None:
    assert hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "short",
        "f4c7e1b09a5d3862",
        "0" * 64,
        "changeme-changeme-changeme-changeme",
        "0123456789abcdef0123456789abcdef",
        "with spaces " + "0123456789abcdefghijklmnopqrstuv",
        "ümläut-0123456789abcdefghijklmnopqrstuv",
        "line\nbreak-0123456789abcdefghijklmnopqr",
    ],
)
def test_a_weak_admin_key_is_refused_without_being_shown(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTUNE_ADMIN_KEY", secret)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert refused.value.errors()[0]["loc"] == ("admin_key",)
    assert not secret or secret not in str(refused.value)


def test_what_we_or_openssl_make_is_taken() -> None:
    for _ in range(1000):
        Settings(admin_key=SecretStr(new_secret()))
    Settings(admin_key=SecretStr("b1946ac92492d2347c6235b4d2611184a5e1d0c97b3f28640fd1c7a9e3b58206"))
