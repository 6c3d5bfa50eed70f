"""How much is asked of a store."""

import time

import redis


def commands(client: redis.Redis) -> int:
    """How many commands the store has had."""
    return int(client.info("stats")["total_commands_processed"])


def quiet(client: redis.Redis) -> bool:
    """Whether nothing is asked of the store for a moment."""
    before = commands(client)
    time.sleep(0.3)
    return commands(client) - before < 3
