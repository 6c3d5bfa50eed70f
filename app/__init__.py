"""The gateway: HTTP, durable records, batching of requests. It runs without torch."""
