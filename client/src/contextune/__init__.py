"""Contextune's Python client: labelled examples in, a text classifier out, over HTTP."""

__version__ = "0.2.0.dev0"
