"""Which runs a job tries, what is held out, and the choice made on it."""
