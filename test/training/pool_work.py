# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What workers do in test_worker_pool; apart from it, since spawned processes import it and should begin quickly."""

import os
import time


class Opened:
    """A worker's state, which counts what it was asked."""

    def __init__(self, base):
        self.base, self.asked = base, 0


def square(opened, item):
    opened.asked += 1
    if item == 7:
        raise LookupError("no such frame")
    time.sleep(0.05 * (item == 0))
    return opened.base + item**2, os.getpid(), opened.asked, os.environ.get("CUDA_VISIBLE_DEVICES")


def hang_or_die(state, item):
    if item:
        os._exit(9)
    time.sleep(600)


def zeros(state, item):
    import numpy as np

    item += 1
    return np.zeros(item.shape)
