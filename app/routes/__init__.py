"""The routes: thin adapters that parse, call, and answer."""
