"""``contextune jobs``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from contextune.cli.output import Json, Output, clipped
from contextune.cli.pages import fields_table, job_fields, jobs_table, when
from contextune.cli.progress import follow
from contextune.cli.session import connect
from contextune.models.jobs import Event

jobs = typer.Typer(help="Look at jobs, wait for them, cancel them.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The job's id.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]


@jobs.command(name="list")
def list_jobs(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only queued, running, succeeded, failed or cancelled.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind: tuning or batch.")] = None,
    of: Annotated[str | None, typer.Option("--context", help="Only jobs of this context, by its id.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    with connect(context) as client:
        found = list(client.jobs.list(status=status, kind=kind, context=of, limit=limit))
    Output(as_json).result(found, lambda console: console.print(jobs_table(found)))


@jobs.command()
def show(context: typer.Context, job: Id, as_json: Json = False) -> None:
    """Show a job."""
    with connect(context) as client:
        found = client.jobs.get(job)
    Output(as_json).result(found, lambda console: console.print(fields_table(job_fields(found))))


@jobs.command()
def wait(context: typer.Context, job: Id, as_json: Json = False) -> None:
    """Wait until a job has ended; exit with status 7 unless it has succeeded."""
    output = Output(as_json)
    with connect(context) as client:
        ended = follow(client, client.jobs.get(job), output)
    output.result(ended, lambda console: console.print(fields_table(job_fields(ended))))


@jobs.command()
def events(
    context: typer.Context,
    job: Id,
    follow_job: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on until the job has ended, or print what there is.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Print the events of a job as they happen, until it has ended; into a pipe as a JSON object a line."""
    with connect(context) as client:
        found = client.jobs.events(job) if follow_job else client.jobs.list_events(job)
        if as_json:
            Output(as_json).result(list(found), lambda _: None)
        for event in found:
            _print_event(event)


def _print_event(event: Event) -> None:
    if sys.stdout.isatty():
        numbers = ", ".join(f"{name} {value}" for name, value in event.data.items())
        sys.stdout.write(f"{when(event.created_at)} {event.type:8} {clipped(event.message or numbers, 100)}\n")
    else:
        sys.stdout.write(event.model_dump_json() + "\n")
    sys.stdout.flush()


@jobs.command()
def cancel(context: typer.Context, job: Id, as_json: Json = False) -> None:
    """Cancel a job: at once while it is queued, within a step while it runs."""
    output = Output(as_json)
    with connect(context) as client:
        found = client.jobs.cancel(job)
    output.result(found, lambda console: console.print(fields_table(job_fields(found))))
    if not found.terminal:
        output.note(f"The job is {found.status} until its next pause; `contextune jobs wait {job}` waits for it.")


@jobs.command(name="delete")
def delete_job(context: typer.Context, job: Id, as_json: Json = False) -> None:
    """Delete a job that has ended, and its files."""
    with connect(context) as client:
        client.jobs.delete(job)
    Output(as_json).result({"id": job, "deleted": True}, lambda _: None)
