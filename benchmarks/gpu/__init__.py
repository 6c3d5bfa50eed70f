"""Measurements on one GPU, in parts of at most three minutes; they run on a CPU with tiny shapes as well."""
