"""Classification from the gateway's side: the batcher, the bus, live workers, answers."""
