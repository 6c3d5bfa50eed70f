"""The whole service on one machine: `contextune up`, its supervisor, children and embedded servers."""
