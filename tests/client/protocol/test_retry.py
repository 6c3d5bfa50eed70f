"""When to try again, and how long to wait."""

from datetime import UTC, datetime

import pytest
from contextune.errors import ServiceUnreachableError, problem_error
from contextune.protocol.retry import RetryPolicy, retry_after

UNREACHABLE = ServiceUnreachableError("nothing there")


def test_waits_double_up_to_a_bound_and_half_of_each_is_random() -> None:
    least, most = (RetryPolicy(attempts=99, random=lambda value=value: value) for value in (0.0, 1.0))  # type: ignore[misc]
    assert [least.pause(attempt, UNREACHABLE) for attempt in (1, 2, 3, 5, 90)] == [0.25, 0.5, 1, 4, 4]
    assert [most.pause(attempt, UNREACHABLE) for attempt in (1, 2, 3, 5, 90)] == [0.5, 1, 2, 8, 8]


def test_last_attempt_is_followed_by_none() -> None:
    assert RetryPolicy(attempts=3).pause(2, UNREACHABLE)
    assert RetryPolicy(attempts=3).pause(3, UNREACHABLE) is None


@pytest.mark.parametrize(("status", "transient"), [(429, True), (502, True), (503, True), (504, True), (500, False),
                                                   (422, False), (401, False), (404, False), (409, False)])  # fmt: skip
def test_only_what_passes_by_itself_is_tried_again(status: int, transient: bool) -> None:
    assert (RetryPolicy().pause(1, problem_error(status, {"code": "x"})) is not None) is transient


def test_create_that_still_runs_is_asked_for_again() -> None:
    assert RetryPolicy().pause(1, problem_error(409, {"code": "idempotency_in_progress"}, 2.0))


def test_hint_is_the_least_wait_and_one_beyond_the_bound_is_left_to_the_caller() -> None:
    policy = RetryPolicy(longest_hint=60, random=lambda: 0.5)
    assert policy.pause(1, problem_error(429, {}, 8.0)) == 8.5
    assert policy.pause(1, problem_error(429, {}, 0.0)) == 0.0
    error = problem_error(429, {}, 61.0)
    assert policy.pause(1, error) is None
    assert error.retry_after == 61.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Sat, 28 Nov 2026 01:00:30 GMT"}, 30.0),
        ({"retry-after": "Sat, 28 Nov 2026 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_hint_is_read_in_each_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, datetime(2026, 11, 28, 1, 0, tzinfo=UTC)) == seconds
