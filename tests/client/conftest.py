"""A stand-in for the service on a real socket, which forgets all between two tests."""

from collections.abc import Iterator

import pytest

from tests.client.standin import StandIn, standing


@pytest.fixture(scope="session")
def listening() -> Iterator[StandIn]:
    with standing() as stand_in:
        yield stand_in


@pytest.fixture
def service(listening: StandIn) -> StandIn:
    listening.clear()
    return listening
