"""How products and attention are computed on a device; knows no language model."""
