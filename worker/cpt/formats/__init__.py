"""A tuned context as bytes."""
