"""What is installed and shipped: verbs of the Makefile that no part of the running service knows."""
