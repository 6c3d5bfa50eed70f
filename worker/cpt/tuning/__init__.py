"""What is learned (configuration, embedding, projection, loss, gradient) and the steps that learn it."""
