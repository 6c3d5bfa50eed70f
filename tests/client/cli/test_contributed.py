"""Commands that other distributions add."""

import json
from pathlib import Path

import pytest

from tests.client.command import contextune

ENTRY_POINTS = """
[contextune.commands]
greet = greetings:greet
explode = explosive:app
wrong = greetings:NUMBER
"""
GREETINGS = """
import typer

NUMBER = 1
greet = typer.Typer()


@greet.command()
def say(name: str, loud: bool = False) -> None:
    '''Say hello.'''
    typer.echo(f"hello {name.upper() if loud else name}")
    raise typer.Exit(7)
"""


@pytest.fixture
def distribution(tmp_path: Path) -> Path:
    """A folder with an installed distribution that adds a good command and two broken ones."""
    (tmp_path / "greetings.py").write_text(GREETINGS)
    (tmp_path / "explosive.py").write_text("raise RuntimeError('torch is broken')\n")
    information = tmp_path / "greetings-1.5.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: greetings\nVersion: 1.5\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    return tmp_path


def test_contributed_command_gets_its_arguments_and_gives_its_exit_code(distribution: Path) -> None:
    result = contextune("greet", "you", "--loud", path=distribution)
    assert (result.returncode, result.stdout) == (7, "hello YOU\n")
    assert "Say hello." in contextune("greet", "--help", path=distribution).stdout


def test_contributed_command_that_is_called_wrongly_says_so_in_the_envelope(distribution: Path) -> None:
    result = contextune("greet", "--json", path=distribution)
    assert (result.returncode, json.loads(result.stdout)["error"]["code"]) == (2, "wrong_arguments")


def test_help_loads_no_contributed_command(distribution: Path) -> None:
    result = contextune("--help", path=distribution)
    assert result.returncode == 0
    assert "Added by greetings 1.5" in result.stdout
    assert "torch is broken" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("command", "reason"), [("explode", "torch is broken"), ("wrong", "greetings:NUMBER is no typer.Typer")]
)
def test_broken_command_says_whose_it_is_and_breaks_no_other(distribution: Path, command: str, reason: str) -> None:
    broken = contextune(command, path=distribution)
    assert broken.returncode == 1
    (line,) = broken.stderr.splitlines()
    assert line.startswith(f"Error: the command {command} of greetings 1.5 cannot be loaded")
    assert reason in line
    assert contextune("version", path=distribution).returncode == 0
