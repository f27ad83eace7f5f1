"""Drives a bus with a vendor's SDK, as told by lines of JSON: [verb, arguments...] in, its result out.

Run: python sdk_verbs.py dynamixel-sdk|feetech-servo-sdk|ftservo-python-sdk PORT BAUD, with the package's folder on
PYTHONPATH where it is not installed. Results are the SDK's own codes. The three descend from one library: what differs
is who holds the port. Imports nothing of this project, so that only the vendor's code has a say.
"""

import importlib
import json
import sys
import time
from collections import Counter


class Verbs:
    """What a session can ask of one SDK; a register is an address and a size, values are unsigned.

    Args:
      package: name on PyPI.
      port: path of the serial port.
      baud: bit/s.
    """

    def __init__(self, package, port, baud):
        """Open the port."""
        self.sdk = importlib.import_module("dynamixel_sdk" if package == "dynamixel-sdk" else "scservo_sdk")
        self.port = self.sdk.PortHandler(port)
        if package == "ftservo-python-sdk":
            self.handler = self.sdk.sms_sts(self.port)
            self.first, self.ends = (), (self.handler,)
        else:
            self.handler = self.sdk.PacketHandler(2.0 if package == "dynamixel-sdk" else 0)
            self.first, self.ends = (self.port,), (self.port, self.handler)
        if not (self.port.openPort() and self.port.setBaudRate(baud)):
            raise SystemExit(f"{package} does not open {port}")

    def call(self, name, *args):
        """Call any function of the packet handler."""
        return getattr(self.handler, name)(*self.first, *args)

    def ping(self, servo_id):
        """Return model number, code, error."""
        return self.call("ping", servo_id)

    def read(self, servo_id, address, size):
        """Return value, code, error."""
        data, code, error = self.call("readTxRx", servo_id, address, size)
        return [int.from_bytes(bytes(data or ()), "little"), code, error]

    def write(self, servo_id, address, size, value):
        """Return code, error."""
        return self.call("writeTxRx", servo_id, address, size, _bytes(value, size))

    def reg_write(self, servo_id, address, size, value):
        """Return code, error."""
        return self.call("regWriteTxRx", servo_id, address, size, _bytes(value, size))

    def action(self, servo_id=0xFE):
        """Return the code."""
        return self.call("action", servo_id)

    def sync_write(self, address, size, values):
        """Write one register of many servos: [[id, value], ...]; return the code."""
        group = self.sdk.GroupSyncWrite(*self.ends, address, size)
        for servo_id, value in values:
            group.addParam(servo_id, _bytes(value, size))
        return group.txPacket()

    def sync_read(self, address, size, servo_ids, fast=False):
        """Return the code and [value or null] by servo: null where the SDK says that it is not available."""
        group = self.sdk.GroupSyncRead(*self.ends, address, size)
        for servo_id in servo_ids:
            group.addParam(servo_id)
        code = group.fastSyncRead() if fast else group.txRxPacket()
        return [code, [_available(group, servo_id, address, size) for servo_id in servo_ids]]

    def bulk_read(self, spans, fast=False):
        """Read [[id, address, size], ...]; return the code and [value or null]."""
        group = self.sdk.GroupBulkRead(*self.ends)
        for span in spans:
            group.addParam(*span)
        code = group.fastBulkRead() if fast else group.txRxPacket()
        return [code, [_available(group, *span) for span in spans]]

    def bulk_write(self, values):
        """Write [[id, address, size, value], ...]; return the code."""
        group = self.sdk.GroupBulkWrite(*self.ends)
        for servo_id, address, size, value in values:
            group.addParam(servo_id, address, size, _bytes(value, size))
        return group.txPacket()

    def cycles(self, count, read, write, servo_ids, value, fast=False):
        """Sync read and sync write `count` times; return how often each outcome came, and the seconds that it took.

        Args:
          count: cycles.
          read: [address, size] of the block.
          write: [address, size] of the register.
          servo_ids: all of them.
          value: what is written to every servo.
          fast: whether the sync read is a fast one.
        """
        reader, writer = self.sdk.GroupSyncRead(*self.ends, *read), self.sdk.GroupSyncWrite(*self.ends, *write)
        for servo_id in servo_ids:
            reader.addParam(servo_id)
            writer.addParam(servo_id, _bytes(value, write[1]))
        seen, start = Counter(), time.monotonic()
        for _ in range(count):
            code = reader.fastSyncRead() if fast else reader.txRxPacket()
            here = sum(_available(reader, servo_id, read[0], 1) is not None for servo_id in servo_ids)
            seen[f"read {code}, {here} available"] += 1
            seen[f"write {writer.txPacket()}"] += 1
        return [dict(seen), time.monotonic() - start]


def _bytes(value, size):
    return list(int(value).to_bytes(size, "little"))


def _available(group, servo_id, address, size):
    found = group.isAvailable(servo_id, address, min(size, 4))
    found = found[0] if isinstance(found, tuple) else found
    return group.getData(servo_id, address, size if size in (1, 2, 4) else 1) if found else None


def main(package, port, baud):
    """Serve until the input ends."""
    verbs = Verbs(package, port, int(baud))
    for line in sys.stdin:
        verb, *args = json.loads(line)
        print(json.dumps(getattr(verbs, verb)(*args)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
