"""Configuration of the gateway, read from the environment (prefix ``CONTEXTUNE_``) when asked for, never at import.

The worker reads the same variables in ``worker.config``; ``docs/configuration.md`` is the one description of both.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.contract.names import DEFAULT_MODELS, parse_model_ids

Network = IPv4Network | IPv6Network
#: Written with commas between them.
Names = Annotated[tuple[str, ...], NoDecode]
_DEVICE: Final = re.compile(r"cpu|cuda:[0-9]+")

#: Of a secret that somebody chose: as many characters as 16 random bytes have in hexadecimal, of which so many differ,
#: and no piece of so many characters occurs twice.
_FEWEST_CHARACTERS: Final = 32
_FEWEST_DIFFERENT: Final = 8
_REPEATED: Final = 8


class Settings(BaseSettings):
    """Settings of the gateway and of ``contextune up``.

    ``store_url`` (the store) and ``bus_url`` are ``None`` when the embedded servers are wanted.
    Raises ``pydantic.ValidationError`` for a value of the wrong form.
    """

    model_config = SettingsConfigDict(env_prefix="CONTEXTUNE_", extra="ignore", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    data_dir: Path = Path("data")
    store_url: str | None = None
    bus_url: str | None = None
    artifacts_url: str = Field(default="", description="fsspec URL; empty is a folder in data_dir")
    models: Annotated[tuple[str, ...], NoDecode] = tuple(DEFAULT_MODELS)
    log_level: str = "INFO"
    root_path: str = Field(default="", pattern=r"^(/[^/?#]+)*$", description="what a proxy removes from paths")
    allowed_hosts: Names = ()
    allowed_origins: Names = ()
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    devices: Annotated[tuple[str, ...], NoDecode] = ("auto",)
    auth: Literal["on", "off"] = "on"
    admin_key: SecretStr | None = None
    metrics_open: bool = Field(default=False, description="GET /metrics needs no key")
    show_first_key: bool = Field(default=True, description="write the first key to standard output, too")
    max_pending_inputs: int = Field(default=4096, ge=1)
    max_pending_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    max_wait: float = Field(default=10.0, gt=0, description="seconds that a small request may wait for its turn")
    max_batch_inputs: int = Field(default=64, ge=1)
    max_queued_jobs: int = Field(default=10_000, ge=1)
    max_queued_jobs_per_tenant: int = Field(default=1_000, ge=1)
    keep_jobs_days: float = Field(default=30.0, ge=0, description="after their end, with their events")
    keep_idempotency_hours: float = Field(default=24.0, gt=0)
    keep_names_days: float = Field(default=30.0, gt=0, description="the counter of a name without versions")
    webhooks: Literal["off", "public", "any"] = Field(
        default="off", description="addresses that webhooks may reach; `any` includes private ones"
    )
    keep_deliveries_hours: float = Field(default=24.0, gt=0, description="an event that a webhook does not take")
    keep_audit_days: float = Field(default=365.0, gt=0)
    keep_usage_days: float = Field(default=400.0, gt=0)
    classify_timeout: float = Field(default=60.0, gt=0, description="seconds for each 64 inputs")

    @field_validator("models", mode="before")
    @classmethod
    def _model_ids(cls, value: Any) -> Any:
        return parse_model_ids(value) if isinstance(value, str) else value

    @field_validator("allowed_hosts", "allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("devices", mode="before")
    @classmethod
    def _device_names(cls, value: Any) -> Any:
        names = tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else tuple(value)
        alone = names in {("auto",), ("cpu",)}
        if not alone and (not all(map(_DEVICE.fullmatch, names)) or len(set(names)) != len(names)):
            raise ValueError("must be auto, cpu, or different devices such as cuda:0,cuda:1")
        return names

    @field_validator("admin_key")
    @classmethod
    def _hard_to_guess(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (weakness := _weakness(value.get_secret_value())):
            raise ValueError(weakness)
        return value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @model_validator(mode="after")
    def _artifacts_in_data_dir(self) -> Settings:
        self.artifacts_url = self.artifacts_url or f"file://{self.data_dir}/artifacts"
        return self

    @model_validator(mode="after")
    def _whole_tls(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("set both CONTEXTUNE_TLS_CERT and CONTEXTUNE_TLS_KEY, or neither")
        return self

    @property
    def default_model(self) -> str:
        """The model of a context that names none: the first of the allow-list."""
        return self.models[0]


def _weakness(secret: str) -> str | None:
    """Why a secret that somebody chose can be guessed, None where that is not seen."""
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        return "must consist of printable ASCII characters without spaces"
    if len(secret) < _FEWEST_CHARACTERS:
        return f"must have at least {_FEWEST_CHARACTERS} characters; `openssl rand -hex 32` makes one"
    pieces = [secret[i : i + _REPEATED] for i in range(len(secret) - _REPEATED + 1)]
    if len(set(secret)) < _FEWEST_DIFFERENT or len(set(pieces)) < len(pieces):
        return "must be random, without repetitions; `openssl rand -hex 32` makes one"
    return None
