"""What every request passes through before its route, one file each. Plain ASGI; it knows no store and no bus."""
