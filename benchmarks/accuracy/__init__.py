"""Accuracy at the same shots, against named peers, on the data sets of a folder. Runs for hours; see its command."""
