"""From a tuned context to probabilities: prefix KV, label scores, heads, mixture."""
