"""What keys and prompts make of the bytes of a real terminal."""

import os
import pty
import subprocess
import sys
import time

import numpy as np
import pytest

from mbrl_ros.leader_arm import nearest_turn

READ_KEYS = """
import sys
from mbrl_ros.teleop_keys import TeleopKeys
with TeleopKeys(["a", "b"]) as keys:
    print("ready", flush=True)
    print(repr(keys.poll(20.0)), keys.action().tolist(), flush=True)
"""
ASK = """
import time
from mbrl_ros.prompt import Prompt
print("loading", flush=True)
time.sleep(1.0)
print("got " + repr(Prompt().ask("sure?")), flush=True)
"""


@pytest.fixture
def terminal():
    """Starts a program at a terminal of its own; gives the other end and its output."""
    controller, terminal = pty.openpty()
    processes = []

    def start(program):
        command = [sys.executable, "-c", program]
        processes.append(subprocess.Popen(command, stdin=terminal, stdout=subprocess.PIPE, text=True))
        return controller, processes[0].stdout

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
    os.close(controller)
    os.close(terminal)


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        (b"\x1b", "'stop' [0.0, 0.0]"),
        (b"\x1b\x1b", "'stop' [0.0, 0.0]"),
        (b"q\x1b", "'stop' [0.0, 0.0]"),
        (b"\x1b ", "'stop' [0.0, 0.0]"),
        (b"\x1b[C", "'end' [0.0, 0.0]"),
        (b"\x1b[D", "'drop' [0.0, 0.0]"),
        (b"\x1b[A", "'' [0.0, 0.0]"),
        (b" ", "'end' [0.0, 0.0]"),
        (b"qs", "'' [1.0, -1.0]"),
    ],
)
def test_escape_stops_whatever_else_was_typed_and_arrows_are_no_escape(terminal, typed, word):
    keyboard, output = terminal(READ_KEYS)
    assert output.readline() == "ready\n"
    os.write(keyboard, typed)
    assert output.readline() == word + "\n"


def test_what_was_typed_before_a_question_does_not_answer_it(terminal):
    keyboard, output = terminal(ASK)
    assert output.readline() == "loading\n"
    os.write(keyboard, b"too early\n")
    assert output.readline() == "sure?\n"
    time.sleep(0.2)
    os.write(keyboard, b"yes\n")
    assert output.readline() == "got 'yes'\n"


def test_a_leader_that_crosses_its_encoders_end_goes_on_the_same_way():
    before = np.array([3.1, -3.1, 0.5, 6.2])
    now = np.array([-3.1, 3.1, 0.6, 0.0])
    expected = [2 * np.pi - 3.1, 3.1 - 2 * np.pi, 0.6, 2 * np.pi]
    np.testing.assert_allclose(nearest_turn(now, before), expected)
