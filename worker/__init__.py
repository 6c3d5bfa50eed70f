"""The worker: loads base models, tunes contexts and classifies with them."""
