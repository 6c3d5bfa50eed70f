"""The routes of the contract, one function each: arguments in, a `Call` out. Written once for both clients; no I/O."""
