"""This tree against earlier commits, in one run: what it does on a CPU must not have become slower."""
