"""A way to a store on which answers get lost: the store has done what it was asked, and the connection breaks."""

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingUnixStreamServer
from threading import Thread

_BYTES = 1 << 16


class _Way(BaseRequestHandler):
    server: "LossyStore"

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as store:
            store.connect(self.server.store)
            ends, asked = {self.request: store, store: self.request}, b""
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    with suppress(ConnectionError):
                        piece = end.recv(_BYTES)
                    if not piece or (end is store and self.server.loses(asked)):
                        return
                    asked = piece if end is self.request else b""
                    ends[end].sendall(piece)


class LossyStore(ThreadingUnixStreamServer):
    """It loses the answers to the next ``losses`` requests that hold ``lost_of``."""

    daemon_threads = True
    lost_of = b""
    losses = 0

    def __init__(self, folder: Path, store_url: str) -> None:
        self.store = store_url.removeprefix("unix://")
        path = folder / "lossy"
        self.url = f"unix://{path}"
        super().__init__(str(path), _Way)

    def lose(self, of: bytes, times: int) -> None:
        self.lost_of, self.losses = of, times

    def loses(self, asked: bytes) -> bool:
        lost = self.losses > 0 and self.lost_of in asked
        self.losses -= lost
        return lost


@contextmanager
def lossy(folder: Path, store_url: str) -> Iterator[LossyStore]:
    with LossyStore(folder, store_url) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
