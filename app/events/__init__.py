"""What happens to jobs, as it happens: a gateway's one subscription to the store's channel."""
