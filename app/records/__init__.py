"""The durable records: contexts, jobs and the job state machine, in the Redis role called the store."""
