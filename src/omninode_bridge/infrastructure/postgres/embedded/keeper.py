"""Keeps one PostgreSQL server running for as long as somebody uses its data folder, then stops it.

    python -I -S keeper.py DATA_FOLDER SOCKET_FOLDER UID GID PROGRAM ARGUMENT...

It is run by its path, so that it starts in hundredths of a second. It writes to its standard
output `ready`, `busy` when there is a keeper already, or else what went wrong, and closes it. The
keeper is the server's parent, in a session of its own: no Ctrl-C in a terminal reaches the server.

The locks are `flock`s, which the kernel frees however their holder ends:

- Each user of the server shares `users.lock`. The keeper tries to take it alone: that it can means
  that there is no user, and while it has it there can be no new one. So it stops the server only
  without users, and a newcomer waits until the server has stopped. That it cannot means that there
  are users, and a server that has ended, by a crash or because somebody else stopped it, is started
  again on the same socket. The keeper does that for itself, for it is the one who holds
  `keeper.lock`: there never are two who start a server. Before the first server was ready it gives
  up at a failure, for somebody waits to hear why; later nobody listens, and it tries again,
  with longer and longer pauses, until the server starts or the last user has left.
- The keeper holds `keeper.lock` alone for life: there is one keeper, and others see that it lives.
  It is opened before `users.lock` and given up before it; when the keeper is killed, too, for the
  kernel closes descriptors in ascending order. So a user who got `users.lock` never takes
  a keeper that is just leaving for one that serves.
- The server's processes hold `postgres/server.lock` by a descriptor all of them inherit. Nobody
  starts a server while a process of the last one lives, not even in another container, where
  neither process ids nor PostgreSQL's own shared-memory check could tell.

Rule 1: the standard library only, and none of our other modules.
Rule 2: no work as root: after its locks are open, it becomes the account of the server.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

USERS_LOOK_S: Final = 0.1
START_LOOK_S: Final = 0.01
LOG_LOOK_S: Final = 10.0
LOG_BYTES_MAX: Final = 8 * 1024 * 1024
LOG_TAIL_BYTES: Final = 2000
COPY_BYTES: Final = 1024 * 1024
LEFTOVERS_WAIT_S: Final = 60.0
LONG_LIFE_S: Final = 10.0  # A server that lived longer is started again at once.
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 10.0
STOPS: Final = (
    (signal.SIGINT, 120.0),  # fast: a checkpoint, then the end
    (
        signal.SIGQUIT,
        20.0,
    ),  # immediate: the next start recovers, nothing that was committed is lost
    (signal.SIGKILL, 20.0),
)
SOCKET_NAME: Final = ".s.PGSQL.5432"
UNKNOWN_EXIT: Final = -1
OUT_OF_SIGHT: Final = 0
UNTOLD: Final = -1
STATUS_LINE: Final = 8  # of postmaster.pid
READY: Final = "ready"
BUSY: Final = "busy"


class GiveUp(Exception):
    """The server cannot be kept up; says why."""


class Server:
    """A running postmaster: our child, or one that outlived its keeper."""

    def __init__(self, pid: int, *, child: bool) -> None:
        """Watch process `pid`; `child` says whether it is ours to wait for."""
        self.born = time.monotonic()
        self.exit_code: int | None = None
        self.pid = pid
        self._child = child
        # A descriptor of the process itself: its end shows at once, even if nobody waits for it,
        # and no other process ever has it. Not on every system.
        self._process = -1 if child or not hasattr(os, "pidfd_open") else os.pidfd_open(pid)

    def gone(self) -> bool:
        """Say whether it has ended, and gather its exit code if it was our child."""
        if self.exit_code is None and self._child:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
        elif self.exit_code is None and self._process >= 0:
            ended, _, _ = select.select([self._process], [], [], 0)
            self.exit_code = UNKNOWN_EXIT if ended else None
        elif self.exit_code is None:
            try:
                os.kill(self.pid, 0)
            except (ProcessLookupError, PermissionError):
                self.exit_code = UNKNOWN_EXIT
        return self.exit_code is not None

    def hasten(self) -> None:
        """End what a smart shutdown waits for; a faster shutdown, or none, it leaves as it is."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)

    def stop(self) -> None:
        """Shut it down, by gentle means first."""
        for number, wait_s in STOPS:
            deadline = time.monotonic() + wait_s
            if not self.gone():
                with suppress(ProcessLookupError):
                    os.kill(self.pid, number)
            while not self.gone() and time.monotonic() < deadline:
                time.sleep(START_LOOK_S)


class Keeper:
    """The one keeper of a data folder."""

    def __init__(self, folder: Path, socket_folder: Path, command: list[str], users: int) -> None:
        """Keep what `command` starts; `users` is the descriptor of `users.lock`."""
        self._postgres = folder / "postgres"
        self._pid_file = self._postgres / "data" / "postmaster.pid"
        self._socket_folder = socket_folder
        self._command = command
        self._users = users
        self._log = os.open(log_file(folder), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._log_start = 0
        self._leftovers_since: float | None = None
        self._pause_s = 0.0
        self._next_start = 0.0
        self._asked_to_stop = False
        self._reported = False

    def keep(self) -> None:
        """Serve until nobody uses the server any more, or we are told to end (SIGTERM).

        Raises:
            GiveUp: when it cannot be kept up.
        """
        signal.signal(signal.SIGTERM, self._on_terminate)
        server: Server | None = None
        next_log_look = 0.0
        while not (self._asked_to_stop or self._nobody_uses_it()):
            server = self._look_after(server)
            if time.monotonic() >= next_log_look:
                if shorten(self._log, log_file(self._postgres.parent)):
                    self._log_start = 0
                next_log_look = time.monotonic() + LOG_LOOK_S
            time.sleep(USERS_LOOK_S if self._reported else START_LOOK_S)
        if server is not None:
            server.stop()
        if self._socket_folder != self._postgres:
            remove_if_empty(self._socket_folder)

    def report(self, words: str) -> None:
        """Tell who started us, once; later words go to the log."""
        with suppress(BrokenPipeError):  # It need not have waited for us.
            os.write(1, f"{words}\n".encode())
        os.dup2(self._log, 1)
        os.dup2(self._log, 2)
        self._reported = True

    def _on_terminate(self, _signal: int, _frame: object) -> None:
        self._asked_to_stop = True

    def _nobody_uses_it(self) -> bool:
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _look_after(self, server: Server | None) -> Server | None:
        """Take the next step for the server, and return the one that runs now."""
        if server is None:
            pausing = time.monotonic() < self._next_start
            return None if pausing else self._running() or self._launch()
        if server.gone():
            self._plan_another(server)
            return None
        if not self._reported:
            if is_ready(self._postgres, self._socket_folder):
                self.report(READY)
        elif self._somebody_stops(server):
            # A smart shutdown waits for the users' connections, and the users for new ones.
            server.hasten()
        return server

    def _somebody_stops(self, server: Server) -> bool:
        # The file may still be the last server's: then it does not name this one.
        return status(self._postgres) == "stopping" and writer_of(self._pid_file) == server.pid

    def _running(self) -> Server | None:
        """Return the server that a killed keeper left behind."""
        pid = listening_process(self._socket_folder)
        if pid is None or status(self._postgres) == "stopping":
            return None
        if pid == UNTOLD:
            # Somebody listens, so the file was written by who listens (see `is_ready`).
            pid = writer_of(self._pid_file)
        if pid is None:
            return None
        if pid == OUT_OF_SIGHT:
            message = "its server runs in another container, and has lost its keeper: end it there"
            raise GiveUp(message)
        return Server(pid, child=False)

    def _launch(self) -> Server | None:
        """Start a server, or return None while processes of the last one are still at work."""
        server_lock = os.open(self._postgres / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(server_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._require_patience()
            return None
        else:
            self._leftovers_since = None
            disown(self._pid_file)
            disown(self._socket_folder / f"{SOCKET_NAME}.lock")
            self._log_start = os.fstat(self._log).st_size
            pid = os.fork()
            if pid == 0:
                self._become_server(server_lock)
            return Server(pid, child=True)
        finally:
            os.close(server_lock)

    def _become_server(self, server_lock: int) -> None:
        try:
            os.set_inheritable(server_lock, True)
            os.dup2(self._log, 1)
            os.dup2(self._log, 2)
            os.execv(self._command[0], self._command)  # noqa: S606 - no shell on purpose
        except OSError as error:
            os.write(2, f"{self._command[0]}: {error.strerror}\n".encode())
        os._exit(127)

    def _require_patience(self) -> None:
        now = time.monotonic()
        if self._leftovers_since is None:
            self._leftovers_since = now
        if now - self._leftovers_since > LEFTOVERS_WAIT_S and not self._reported:
            message = (
                "processes of a server that was killed are still at work in it. End them, or wait"
                " until they have ended, and try again."
            )
            raise GiveUp(message)

    def _plan_another(self, server: Server) -> None:
        """Say when to start the next server; give up on one that never was ready."""
        if not self._reported:
            message = f"it ended with exit code {server.exit_code}.\n{self._log_tail()}"
            raise GiveUp(message)
        now = time.monotonic()
        if now - server.born >= LONG_LIFE_S:
            self._pause_s = 0.0
        self._next_start = now + self._pause_s
        how = f"ended with exit code {server.exit_code}"
        when = f"again in {self._pause_s:g} s"
        self.report(f"keeper: the server {how} while it is used; it is started {when}")
        self._pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, self._pause_s * 2))

    def _log_tail(self) -> str:
        with log_file(self._postgres.parent).open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").strip()


def log_file(folder: Path) -> Path:
    """Return where the server of the data folder `folder` logs to."""
    return folder / "postgres" / "server.log"


def shorten(log: int, path: Path) -> bool:
    """Make a log that is too long the one old log, and begin anew; say whether it was too long.

    `log` is open for appending on `path`, and so are the writers' descriptors: they go on at the
    new end. What they write between the copy and the cut is lost, which a log can bear.
    """
    if os.fstat(log).st_size < LOG_BYTES_MAX:
        return False
    with path.open("rb") as whole, Path(f"{path}.1").open("wb") as old:
        while block := whole.read(COPY_BYTES):
            old.write(block)
    os.ftruncate(log, 0)
    return True


def status(postgres: Path) -> str:
    """Return what the server last said of itself: `starting`, `ready`, `stopping`, or nothing."""
    try:
        lines = (postgres / "data" / "postmaster.pid").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[STATUS_LINE - 1].strip() if len(lines) >= STATUS_LINE else ""


def writer_of(lock_file: Path) -> int | None:
    """Return the process that a lock file of PostgreSQL names, or None if it names none."""
    try:
        return int(lock_file.read_bytes().partition(b"\n")[0])
    except (OSError, ValueError):
        return None


def is_ready(postgres: Path, socket_folder: Path) -> bool:
    """Say whether the server takes connections.

    A server writes its own `postmaster.pid` before it listens. So what the file says after we
    could connect was said by the server that listens; the first look saves needless connections.
    """
    return (
        status(postgres) == "ready"
        and listening_process(socket_folder) is not None
        and status(postgres) == "ready"
    )


def listening_process(socket_folder: Path) -> int | None:
    """Return the process that listens on the socket, or None when there is none.

    The kernel says so: it is the process that called listen(2), whatever any file claims. It is
    `OUT_OF_SIGHT` in another container, and `UNTOLD` where the system does not tell.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(socket_folder / SOCKET_NAME))
        except OSError:
            return None
        if not hasattr(socket, "SO_PEERCRED"):
            return UNTOLD
        size = struct.calcsize("3i")
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return int(struct.unpack("3i", credentials)[0])


def disown(lock_file: Path) -> None:
    """Put our process id into a lock file of PostgreSQL whose writer is gone.

    A process that merely has the dead server's id by now would make PostgreSQL refuse to start. It
    never takes its parent for another server, and we will be its parent. Deleting the file would
    be as good, but this way PostgreSQL goes on to check that no process is attached to the shared
    memory named in the file: a second proof, should somebody have started a server by hand.
    """
    try:
        _, separator, rest = lock_file.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return
    if not separator:
        lock_file.unlink()  # Cut off by a power failure; PostgreSQL refuses what it cannot read.
        return
    with lock_file.open("r+b") as file:
        file.write(b"%d\n%b" % (os.getpid(), rest))
        file.truncate()


def remove_if_empty(folder: Path) -> None:
    """Remove a folder; leave it if anything is in it."""
    with suppress(OSError):
        folder.rmdir()


def become(uid: int, gid: int) -> None:
    """Drop the rights of root, if we have them, for good."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def main() -> None:
    """Become the keeper of the folder named on the command line."""
    folder, socket_folder, uid, gid, *command = sys.argv[1:]
    if os.fork():
        os._exit(0)  # Whoever started us has no child to wait for.
    keeper_lock = os.open(Path(folder) / "keeper.lock", os.O_RDWR | os.O_CREAT, 0o600)
    users = os.open(Path(folder) / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(keeper_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.write(1, BUSY.encode())
        return
    become(int(uid), int(gid))
    os.umask(0o077)
    os.chdir("/")
    keeper = Keeper(Path(folder), Path(socket_folder), command, users)
    try:
        keeper.keep()
    except GiveUp as reason:
        keeper.report(str(reason))
    os.close(keeper_lock)
    os.close(users)


if __name__ == "__main__":
    main()
