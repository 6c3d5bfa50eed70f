"""The frozen language model on packed rows: its layers, attention, memory, and what is supported."""
