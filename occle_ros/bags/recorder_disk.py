# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Writer thread of the recorder, with a bounded buffer for a slow disk and regular flushes."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from occle_core.bags.writer import BagWriter
from occle_core.console import print_notice_once

WAITING_BYTES = 256 << 20
"""Size of the buffer; when it is full, messages are lost and counted."""
FLUSH_SECONDS = 0.2
"""Period of flushes to the operating system: `kill -9` loses no more than this."""
SYNC_SECONDS = 5.0
"""Period of fsync: a power cut loses no more than this, plus the time of a write."""


class WriterThread:
    """Thread that writes messages into a bag until `finish`.

    Args:
        writer: used by the thread only until then.
        write: called with (topic, time, data) for every message.
        waiting_bytes: size of the buffer.
    """

    def __init__(self, writer: BagWriter, write: Callable[[str, int, bytes], None], waiting_bytes: int = WAITING_BYTES) -> None:
        self._writer, self._write, self._limit = writer, write, waiting_bytes
        self._waiting: deque[tuple[str, int, bytes]] = deque()
        self._bytes = 0
        self._finishing = False
        self._changed = threading.Condition()
        self.failure: Exception | None = None
        """Error that stopped the thread."""
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def put(self, topic: str, stamp: int, data: bytes) -> bool:
        """Queue a message; False if the buffer is full or the disk has failed."""
        with self._changed:
            if self.failure:
                return False
            if self._bytes + len(data) > self._limit:
                full = f"the buffer of {self._limit >> 20} MiB is full"
                print_notice_once(f"recorder: messages are lost: the disk is too slow, {full}")
                return False
            self._waiting.append((topic, stamp, data))
            self._bytes += len(data)
            self._changed.notify()
            return True

    def finish(self) -> None:
        """Write the queued messages and join the thread; `failure` is None if that succeeded."""
        with self._changed:
            self._finishing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        flushed, synced = time.monotonic(), -math.inf  # the first `sync` secures that there is a recording at all
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._finishing, FLUSH_SECONDS / 2)
                    finishing, batch = self._finishing, list(self._waiting)
                    self._waiting.clear()
                for message in batch:
                    self._write(*message)
                    with self._changed:
                        self._bytes -= len(message[2])
                now = time.monotonic()
                if finishing or now - flushed >= FLUSH_SECONDS:
                    self._writer.flush()
                    flushed = now
                if now - synced >= SYNC_SECONDS:
                    self._writer.sync()
                    synced = now
                if finishing and not batch:
                    return
        except Exception as error:  # `_Recording.check` raises it
            with self._changed:
                self.failure = error
                self._waiting.clear()
