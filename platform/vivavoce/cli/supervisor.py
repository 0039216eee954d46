"""The local worker of `vivavoce serve`: a child process, started again when it ends, if that can help."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import structlog

from vivavoce.cli.main import BAD_SETTINGS

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_HEALTHY_SECONDS = 60.0
"""A worker that lived this long had started well: the next start need not wait longer than the first."""
_STOP_SECONDS = 40.0
"""Longer than a worker gives its running jobs to end by themselves."""

_log = structlog.get_logger("vivavoce.cli")


class Supervisor:
    """Keeps one worker process alive until stopped."""

    def __init__(self, command: tuple[str, ...] = (sys.executable, "-m", "vivavoce.cli", "worker")) -> None:
        self._command = command
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="worker-supervisor", daemon=True)

    def start(self) -> None:
        """Start the worker, and watch it from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End the worker: ask, wait for its jobs, then insist; at once when a second signal comes."""
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt, SystemExit):
                # Its jobs go to the next worker when their leases have run out.
                _log.warning("worker_killed")
                process.kill()
        self._thread.join()

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            process = self._spawn()
            if process is None:
                return
            status = process.wait()
            if self._stopping.is_set():
                return
            if status == BAD_SETTINGS:
                _log.error("worker_cannot_start", status=status)
                return
            pause = _FIRST_PAUSE_SECONDS if time.monotonic() - began > _HEALTHY_SECONDS else pause
            _log.error("worker_ended", status=status, restart_in_seconds=pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._stopping.is_set():
                return None
            # Its own group: Ctrl-C reaches only us, and we stop the worker once the last request is answered.
            self._process = subprocess.Popen(self._command, start_new_session=True)  # noqa: S603 - our own command
            return self._process
