"""Configuration of a worker, read from the environment (prefix ``CONTEXTUNE_``) when asked for, never at import.

Settings that the gateway has too are described in ``app.config``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.contract.log_lines import LogLevel
from app.contract.names import DEFAULT_MODELS


class ModelSource(BaseModel):
    """Where a base model comes from and how it is loaded.

    ``path`` is a local folder, a GGUF file, an id on the model hub, or ``embedded:smollm2-135m-instruct``, the one that
    the ``contextune-smollm2`` package carries. ``device`` "auto" is that of the worker;
    ``dtype`` "auto" is float32, but bfloat16 on CUDA from a billion parameters on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    encoder: str | None = None


class WorkerSettings(BaseSettings):
    """Settings of a worker. Raises ``pydantic.ValidationError`` for a missing URL or a value of the wrong form."""

    model_config = SettingsConfigDict(
        env_prefix="CONTEXTUNE_", extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    store_url: str
    bus_url: str
    data_dir: Path = Path("data")
    artifacts_url: str = ""
    models: dict[str, ModelSource] = Field(
        default_factory=lambda: {name: ModelSource(**source) for name, source in DEFAULT_MODELS.items()}, min_length=1
    )
    log_level: LogLevel = "INFO"
    device: str = "auto"
    """Device of a worker that is started by itself: `auto` (the first CUDA device, else the CPU), `cpu`, or a device
    such as `cuda:1`.
    """

    devices: Annotated[tuple[str, ...], NoDecode] = ()
    resident_bytes: int | None = Field(default=None, gt=0)
    """Memory (bytes) of a worker for contexts that are ready to answer. Unless given: on a GPU half of what is free, on
    the CPU a quarter and 2 GiB at most. Contexts in use may take as much again.
    """

    encoder: str = "auto"
    """Sentence encoders beside a model whose entry names none: folders or hub ids with safetensors, comma-separated, or
    `none`, or `auto`: `embedded:multilingual-e5-small` and `embedded:all-minilm-l6-v2`, as far as their packages
    (`contextune-e5-small`, `contextune-minilm`) are installed. The first is tuned for a context, and serves it unless
    held-out examples speak for another. A context answers only beside the encoder that it was tuned with.
    """

    pinned_contexts: Annotated[tuple[str, ...], NoDecode] = ()
    """Refs, comma-separated, of contexts that are always resident."""

    place: str = Field(default="", pattern=r"^\S*$")
    """For supervisors: a name that one worker has at a time. A new worker of this name replaces the last at once.
    """

    checkpoint_seconds: float = Field(default=5.0, ge=0)
    """Time between two checkpoints of a running job, or two chunks of a running batch."""

    @field_validator("pinned_contexts", "devices", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        return tuple(ref.strip() for ref in value.split(",") if ref.strip()) if isinstance(value, str) else value

    @property
    def own_models(self) -> dict[str, ModelSource]:
        """The models that this worker of several loads: each loads those without a device of their own.

        One with a device that no worker has is left to the first worker.
        """
        leads = not self.devices or self.device in {"auto", self.devices[0]}
        return {
            name: source
            for name, source in self.models.items()
            if source.device in {"auto", self.device} or (leads and source.device not in self.devices)
        }

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @model_validator(mode="after")
    def _artifacts_in_data_dir(self) -> Any:
        self.artifacts_url = self.artifacts_url or f"file://{self.data_dir}/artifacts"
        return self
