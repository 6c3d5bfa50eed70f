"""Files where workers write artifacts and checkpoints."""

from pathlib import Path


def written(url: str) -> Path:
    """A file at the URL."""
    path = Path(url.removeprefix("file://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"content")
    return path


def partly_written(url: str) -> Path:
    """What a writer that died left of a file at the URL."""
    return written(f"{url}.0a1b.partial")
