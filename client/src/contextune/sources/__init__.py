"""What a caller has: files, tables of pandas or polars, iterables. They become rows, and those examples or lines.

Every fault is a `SourceError` of one line that says what and where. Nothing here knows the service but its limits.
"""

from contextune.sources.columns import Columns
from contextune.sources.examples import ExampleSource, SourcedExample, examples_from
from contextune.sources.labels import labels_from
from contextune.sources.lines import LineSource, lines_from
from contextune.sources.tables import Table, table_from

__all__ = [
    "Columns",
    "ExampleSource",
    "LineSource",
    "SourcedExample",
    "Table",
    "examples_from",
    "labels_from",
    "lines_from",
    "table_from",
]
