"""Contexts: find, check and delete them."""
