"""What a gateway hears on its channel of the bus."""

from typing import Any

from tests.waiting import eventually

CHANNEL = "replies"


def heard(replies: Any) -> str:
    """The next message."""
    return str(eventually(lambda: replies.get_message(timeout=1))["data"])
