# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM: a request while steps run, an interruption where targets are made or read."""

import signal

import pytest
from occle_train.loop.stop_request import end_steps_first, stop_on_signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_steps_are_asked_and_ended_at_once_by_a_second_ctrl_c(number, code, capfd):
    with stop_on_signals() as stop, end_steps_first():
        assert not stop()
        signal.raise_signal(number)
        assert stop() and stop.exit_code == code
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err == "stopping after this step; Ctrl-C again: at once\n"


def test_between_steps_the_process_ends_at_once():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_on_signals():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with end_steps_first():
            pass
        with pytest.raises(SystemExit, match="143"):
            signal.raise_signal(signal.SIGTERM)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
