"""Figures of quality, and the report that a job ends with."""
