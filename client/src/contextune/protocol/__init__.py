"""How to speak with the service, without speaking: retries, paging, waiting, resuming. Nothing here does I/O.

A conversation is a generator: it yields what to do next, a `Request` to send or a `Pause` to make, and is sent what
came of it. `contextune.client` and `contextune.async_client` do as they are told.
"""
