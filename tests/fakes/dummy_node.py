"""A process that behaves, on signals, like a node would: `python -m fakes.dummy_node BEHAVIOUR EVENTS NAME`."""

import os
import signal
import subprocess
import sys
import time


def note(path, text):
    with open(path, "a") as events:
        events.write(text + "\n")


def main():
    behaviour, events, name = sys.argv[1:4]

    def leave(number, frame):
        note(events, f"{name} {signal.Signals(number).name}")
        sys.exit(0)

    polite = {"polite": (signal.SIGINT, signal.SIGTERM), "stubborn": (signal.SIGTERM,), "immortal": ()}
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave if number in polite.get(behaviour, (number,)) else signal.SIG_IGN)
    if behaviour == "parent":
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        note(events, f"child {child.pid}")
    note(events, f"{name} up {os.getpid()}")
    if behaviour == "failing":
        print("last words")
        sys.exit(3)
    while True:
        time.sleep(0.05)


main()
