"""Batches: many texts in a file, received as a stream, and what is done of them, sent as one."""
