"""A twin in a process of its own, as nodes have it: beside the loop in one interpreter both would keep bad time."""

import multiprocessing

from mbrl_core.robots.realtime import ask_for_realtime
from mbrl_sim.emulated_bus import Twin


def _serve(profile, pipe):
    ask_for_realtime()
    with Twin(profile, seed=1) as twin:
        pipe.send(twin.port)
        while (order := pipe.recv()) is not None:
            faults, cut = order
            for name, value in faults.items():
                setattr(twin.faults, name, value)
            if cut:
                twin.power_cycle(cut)
            pipe.send(twin.position)


class TwinProcess:
    """Entered: the twin runs, on `port`."""

    def __init__(self, profile):
        self._pipe, far = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=(profile, far))

    def __enter__(self):
        self._process.start()
        self.port = self._pipe.recv()
        return self

    def __exit__(self, *_):
        self._pipe.send(None)
        self._process.join()

    def spoil(self, **faults):
        """Set faults of BusFaults; returns where the joints are: (J_all,) rad."""
        return self._ask(faults, ())

    def power_cycle(self, servo_ids):
        """As `Twin.power_cycle`."""
        return self._ask({}, servo_ids)

    def _ask(self, faults, cut):
        self._pipe.send((faults, cut))
        return self._pipe.recv()
