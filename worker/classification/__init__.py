"""Classification from the worker's side: resident contexts and the answers they give."""
