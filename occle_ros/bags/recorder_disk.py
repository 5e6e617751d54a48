"""The recorder's thread that writes: messages wait in memory while the disk is slow, and what is flushed survives the process."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from occle_core.bags.writer import BagWriter
from occle_core.console import print_notice_once

WAITING_BYTES = 256 << 20
"""So much may wait for the disk; what comes then is lost, and counted."""
FLUSH_SECONDS = 0.2
"""At most this long a message is in this process only: `kill -9` loses no more."""
SYNC_SECONDS = 5.0
"""At most this long (and the time the disk takes) a message is in the operating system only: a power cut loses no more."""


class DiskThread:
    """Writes messages into a bag until `finish`.

    Args:
        writer: used by the thread alone until then.
        write: called with (topic, time, data) for every message.
        waiting_bytes: how much may wait.
    """

    def __init__(self, writer: BagWriter, write: Callable[[str, int, bytes], None], waiting_bytes: int = WAITING_BYTES) -> None:
        self._writer, self._write, self._limit = writer, write, waiting_bytes
        self._waiting: deque[tuple[str, int, bytes]] = deque()
        self._bytes = 0
        self._ends = False
        self._changed = threading.Condition()
        self.failure: Exception | None = None
        """Why it writes no more."""
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def put(self, topic: str, stamp: int, data: bytes) -> bool:
        """Take a message, or refuse it because too much waits or the disk has failed."""
        with self._changed:
            if self.failure:
                return False
            if self._bytes + len(data) > self._limit:
                print_notice_once(
                    f"recorder: messages are lost: the disk is slower than they come, and {self._limit >> 20} MiB wait for it"
                )
                return False
            self._waiting.append((topic, stamp, data))
            self._bytes += len(data)
            self._changed.notify()
            return True

    def finish(self) -> None:
        """Write what waits and end the thread; `failure` then says whether that worked."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        flushed, synced = time.monotonic(), -math.inf  # the first `sync` secures that there is a recording at all
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._ends, FLUSH_SECONDS / 2)
                    ends, batch = self._ends, list(self._waiting)
                    self._waiting.clear()
                for message in batch:
                    self._write(*message)
                    with self._changed:
                        self._bytes -= len(message[2])
                now = time.monotonic()
                if ends or now - flushed >= FLUSH_SECONDS:
                    self._writer.flush()
                    flushed = now
                if now - synced >= SYNC_SECONDS:
                    self._writer.sync()
                    synced = now
                if ends and not batch:
                    return
        except Exception as error:  # raised again by who records
            with self._changed:
                self.failure = error
                self._waiting.clear()
