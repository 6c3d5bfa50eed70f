"""Configuration of the gateway, read from the environment (prefix ``CONTEXTUNE_``) when asked for, never at import.

The worker reads the same variables in ``worker.config``. What stands under a setting is its description, of which
``make configuration`` makes ``docs/configuration.md``.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from redis.connection import parse_url

from app.contract.log_lines import LogLevel
from app.contract.names import DEFAULT_MODELS, parse_model_ids

Network = IPv4Network | IPv6Network
#: Written with commas between them.
Names = Annotated[tuple[str, ...], NoDecode]
#: For as long as a century: what is kept for longer has no end that a date can state.
Days = Annotated[float, Field(le=36_525)]
Hours = Annotated[float, Field(le=24 * 36_525)]
_DAY_SECONDS: Final = 24 * 3600
_DEVICE: Final = re.compile(r"cpu|cuda:[0-9]+")
#: As browsers send one.
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#*@\sA-Z]+")

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

    model_config = SettingsConfigDict(
        env_prefix="CONTEXTUNE_", extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """Address that the gateway listens on. On any address but a loopback address each request needs a key, and the
    first start makes the first key.
    """

    port: int = Field(default=8000, ge=1, le=65535)
    """Port that the gateway listens on."""

    data_dir: Path = Path("data")
    """Folder of the embedded servers, artifacts, unpacked models and logs."""

    store_url: str | None = None
    """The store: a durable Redis or Valkey 7.2 or newer (`appendonly yes`, `appendfsync always`, `maxmemory-policy
    noeviction`, and a `maxmemory`), embedded unless given. A store that may evict records, or that keeps them in
    memory alone, is refused at the start.
    """

    bus_url: str | None = None
    """The bus: any Redis or Valkey 7.2 or newer, embedded unless given. It holds nothing that matters."""

    artifacts_url: str = ""
    """Where artifacts and checkpoints go: an fsspec URL that gateways and workers share, a folder in the data folder
    unless given. A URL other than `file://` needs its fsspec package (such as `s3fs` or `gcsfs`) installed.
    """

    models: Annotated[tuple[str, ...], NoDecode] = tuple(DEFAULT_MODELS)
    """Allow-list of base models, a JSON object; the first model is the default: `{"id": {"path": …, "revision": …,
    "dtype": "auto", "device": "auto", "encoder": …}}`. `path` is a folder, a GGUF file, a hub id or
    `embedded:smollm2-135m-instruct`, and alone required; `dtype` is float32 or bfloat16; `device` is `cpu` or
    `cuda:<n>`; `encoder` takes the place of `CONTEXTUNE_ENCODER`. A model that cannot be tuned for is refused by name
    (422 `model_unsupported`) while the others serve.
    """

    model_names: Annotated[dict[str, str | None], NoDecode] = {"jev-latest": None}
    """Names, comma-separated, that clients of other services may give as `model` for a base model: `name` stands for
    the default model, `name=id` for another. A context of that name comes first.
    """

    log_level: LogLevel = "INFO"
    """Least level of the lines that are logged. Under `make up` the logs are in `data/logs`, and a log over 10 MiB is
    set aside as `<name>.1`. No text of a user is ever logged.
    """

    root_path: str = Field(default="", pattern=r"^(/[^/?#]+)*$")
    """Beginning of the path that a proxy in front removes, such as `/contextune`."""

    allowed_hosts: Names = ()
    """Names, comma-separated, by which the gateway may be asked besides loopback names and the address that it
    listens on; `*.example.org` is any name below `example.org`, `*` any name. A request for another name gets a 421,
    so that no web page reaches the service by a name of its own (DNS rebinding).
    """

    allowed_origins: Names = ()
    """Origins, comma-separated, of web pages that may use the service from a browser, such as
    `https://app.example.org`; pages of the service itself always may. Each is named: `*` is refused.
    """

    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = ()
    """Addresses or networks, comma-separated, of proxies whose `X-Forwarded-*` headers are read; such headers from
    elsewhere are removed.
    """

    tls_cert: Path | None = None
    """PEM file of a certificate and of its intermediate certificates, to serve HTTPS; needs `CONTEXTUNE_TLS_KEY`.
    """

    tls_key: Path | None = None
    """PEM file of the private key of `CONTEXTUNE_TLS_CERT`."""

    devices: Annotated[tuple[str, ...], NoDecode] = ("auto",)
    """Devices that get a worker each: `auto` (every GPU, else the CPU), `all` (every GPU), `cpu`, or a list such as
    `cuda:0,cuda:1`. The `device` of a model's entry comes first.
    """

    auth: Literal["on", "off"] = "on"
    """`off` lets whoever reaches the service do everything."""

    admin_key: SecretStr | None = None
    """A key with every scope for the tenant `default`, in place of the first key that a start would make: at least 32
    random characters (`openssl rand -hex 32`). A start with a new value revokes the old one.
    """

    metrics_open: bool = False
    """`true` lets whoever reaches the service read `GET /metrics` without a key."""

    show_first_key: bool = True
    """Whether the first key is written to standard output, and not to `admin-key` in the data folder alone."""

    max_pending_inputs: int = Field(default=4096, ge=1)
    """Inputs that may wait for a model before further requests get a 429, whose `Retry-After` says when there will
    be room. Inputs of requests with up to 8 inputs (4,096 characters) are counted apart.
    """

    max_pending_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    """Bytes of texts (64 MiB) that may wait for a model before further requests get a 429."""

    max_wait: float = Field(default=10.0, gt=0, le=_DAY_SECONDS)
    """Seconds that a request with up to 8 inputs may wait for its turn. A request that is expected to wait longer gets
    a 429 at once.
    """

    max_batch_inputs: int = Field(default=64, ge=1)
    """Inputs in one message to a worker, at most. A small request (up to 8 inputs and 4,096 characters) overtakes
    larger ones between two passes of the model. Other requests wait for about three messages: a lower number shortens
    their wait, and costs some inputs per second.
    """

    max_queued_jobs: int = Field(default=10_000, ge=1)
    """Jobs that may be queued in all; beyond them 429 `overloaded`."""

    max_queued_jobs_per_tenant: int = Field(default=1_000, ge=1)
    """Jobs of one tenant that may be queued; beyond them 429 `quota`."""

    keep_jobs_days: Days = Field(default=30.0, ge=0)
    """How long a job and its events are kept after its end; contexts are kept until they are deleted."""

    keep_batches_days: Days = Field(default=30.0, ge=0)
    """How long a batch and its files are kept after its end."""

    keep_idempotency_hours: Hours = Field(default=24.0, gt=0)
    """How long an `Idempotency-Key` is remembered, with what its request made."""

    keep_names_days: Days = Field(default=30.0, gt=0)
    """How long a name whose versions are all deleted keeps its count, so that no number is used twice."""

    webhooks: Literal["off", "public", "any"] = "off"
    """Which addresses webhooks may reach: `off` sends none, `public` refuses private addresses, `any` refuses none.
    """

    keep_deliveries_hours: Hours = Field(default=24.0, gt=0)
    """How long an event that a webhook does not take is tried again."""

    keep_audit_days: Days = Field(default=365.0, gt=0)
    """How long an entry of the audit log is kept."""

    keep_usage_days: Days = Field(default=400.0, gt=0)
    """How long the usage of a day is kept."""

    classify_timeout: float = Field(default=60.0, gt=0, le=_DAY_SECONDS)
    """Seconds after which a request to classify gets a 504; with more than 64 inputs, so many for each 64."""

    @field_validator("store_url", "bus_url")
    @classmethod
    def _url_of_a_server(cls, value: str | None) -> str | None:
        try:
            if value:
                parse_url(value)  # type: ignore[no-untyped-call]
        except ValueError:  # whose text may hold part of a password
            raise ValueError("must be redis://host:6379/0, rediss:// likewise, or unix:///path/to/socket") from None
        return value

    @field_validator("models", mode="before")
    @classmethod
    def _model_ids(cls, value: Any) -> Any:
        return parse_model_ids(value) if isinstance(value, str) else value

    @field_validator("model_names", mode="before")
    @classmethod
    def _model_names(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = (one.partition("=") for one in value.split(",") if one.strip())
        return {name.strip(): model.strip() or None for name, _, model in pairs}

    @field_validator("allowed_hosts", "allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _named_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_ORIGIN.fullmatch, value)):
            raise ValueError("must be origins, each named, without a path, such as https://app.example.org")
        return value

    @field_validator("devices", mode="before")
    @classmethod
    def _device_names(cls, value: Any) -> Any:
        names = tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else tuple(value)
        alone = names in {("auto",), ("all",), ("cpu",)}
        if not alone and (not all(map(_DEVICE.fullmatch, names)) or len(set(names)) != len(names)):
            raise ValueError("must be auto, all, cpu, or different devices such as cuda:0,cuda:1")
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

    @model_validator(mode="after")
    def _names_of_models(self) -> Settings:
        for name, model in self.model_names.items():
            if not name or (model is not None and model not in self.models):
                raise ValueError("CONTEXTUNE_MODEL_NAMES must be name, or name=id with an id of CONTEXTUNE_MODELS")
        return self

    @property
    def base_models(self) -> dict[str, str]:
        """Ids of base models by what may stand for them where other services' clients ask."""
        named = {name: model or self.default_model for name, model in self.model_names.items()}
        return named | {model: model for model in self.models}

    @property
    def default_model(self) -> str:
        """The model of a context that names none: the first of the allow-list."""
        return self.models[0]


def wrong_settings(error: ValidationError) -> list[str]:
    """What is wrong with each setting, in a line that names it; values are not repeated."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        reason = problem["msg"].removeprefix("Value error, ")
        lines.append(f"CONTEXTUNE_{str(problem['loc'][0]).upper()}: {reason}" if problem["loc"] else reason)
    return lines


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
