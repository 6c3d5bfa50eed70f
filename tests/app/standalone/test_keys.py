"""``contextune keys store``: keys for when all are lost."""

import json

import pytest
from contextune.errors import ContextuneError
from typer.testing import CliRunner, Result

from app.access.secrets import hash_of
from app.contract.access import ALL_SCOPES, Scope
from app.records.store import Records
from app.standalone.keys import cli


def run(store_url: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, env={"CONTEXTUNE_STORE_URL": store_url})


def test_a_key_is_made_listed_and_revoked_in_the_store(store_url: str, records: Records) -> None:
    made = run(store_url, "create", "rescue")
    assert (made.exit_code, made.stderr) == (0, "")
    found = records.access.find(hash_of(made.stdout.strip())).found
    assert found is not None
    assert (found.key.name, found.key.tenant, found.key.scopes) == ("rescue", "default", ALL_SCOPES)
    (as_json,) = json.loads(run(store_url, "list", "--json").stdout)["data"]
    assert as_json["id"] == found.key.id
    listed = run(store_url, "list")
    assert listed.stdout.split("\t")[0] == found.key.id
    assert made.stdout.strip() not in listed.stdout
    (entry,) = records.of("default").audit.page(10).data
    assert (entry.action, entry.object_id, entry.key_id) == ("key.create", found.key.id, None)
    assert run(store_url, "delete", found.key.id).exit_code == 0
    assert records.access.find(hash_of(made.stdout.strip())).found is None
    assert run(store_url, "delete", found.key.id).exit_code != 0


def test_scopes_and_tenant_can_be_given(store_url: str, records: Records) -> None:
    made = run(store_url, "create", "bot", "--scope", "classify", "--scope", "read", "--tenant", "acme")
    found = records.access.find(hash_of(made.stdout.strip())).found
    assert found is not None
    assert (found.key.tenant, found.key.scopes) == ("acme", (Scope.CLASSIFY, Scope.READ))


@pytest.mark.parametrize("arguments", [("--scope", "everything"), ("--tenant", "No Capitals")])
def test_bad_arguments_make_no_key(store_url: str, records: Records, arguments: tuple[str, ...]) -> None:
    assert run(store_url, "create", "bot", *arguments).exit_code == 2
    assert not records.access.find("").any_made


def test_a_store_that_does_not_run_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    result = run(f"unix://{tmp_path_factory.mktemp('none')}/none", "create", "rescue")
    assert isinstance(result.exception, ContextuneError)
    assert "contextune up" in str(result.exception)
    assert result.stdout == ""
