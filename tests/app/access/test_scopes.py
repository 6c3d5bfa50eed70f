"""Which scopes include which."""

import pytest

from app.contract.access import Scope, effective

READ, CLASSIFY, WRITE, ADMIN, OPERATOR = Scope


@pytest.mark.parametrize(
    ("given", "effectively"),
    [
        ((), set()),
        ((READ,), {READ}),
        ((CLASSIFY,), {CLASSIFY}),
        ((WRITE,), {WRITE, READ, CLASSIFY}),
        ((ADMIN,), {ADMIN, WRITE, READ, CLASSIFY}),
        ((OPERATOR,), {OPERATOR}),
        ((OPERATOR, READ), {OPERATOR, READ}),
        (tuple(Scope), set(Scope)),
    ],
)
def test_scopes_include_others(given: tuple[Scope, ...], effectively: set[Scope]) -> None:
    assert effective(given) == effectively
