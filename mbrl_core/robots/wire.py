"""What a line of servos has to know of their protocol: how requests are made and answers found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mbrl_core.robots.register import Register


class Packet(NamedTuple):
    """A whole packet; `code` is the instruction of a request and the error bits of a status."""

    servo_id: int
    code: int
    params: bytes


class Decoded(NamedTuple):
    """What a stretch of bytes holds.

    Attributes:
      packets: whole packets in order.
      rest: bytes at the end that may become a packet.
      damaged: packets whose checksum is wrong.
      noise: bytes that belong to nothing.
    """

    packets: list[Packet]
    rest: bytes
    damaged: int
    noise: int


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A protocol as functions from numbers to bytes and back.

    Attributes:
      overhead: bytes of a status packet beside its params.
      ping_size: params of the answer to a ping.
      fence: an address from which 5 to 9 bytes may be read.
      ping: servo id to a request that shows whether it is there, whose answer cannot be taken for the request.
      ping_all: a request that every servo answers.
      ping_all_size: params of each answer to it.
      ping_all_s: how long the last of them may take, s.
      read: servo id, address and size to a request.
      write: servo id, address and data to a request.
      sync_read: address, size and servo ids to a request that all of them answer in turn.
      sync_write: address and equally long data by servo id to a request that nobody answers.
      decode: bytes, params of the longest answer and how many servos answer at most, to what the bytes hold.
    """

    overhead: int
    ping_size: int
    fence: int
    ping: Callable[[int], bytes]
    ping_all: bytes
    ping_all_size: int
    ping_all_s: float
    read: Callable[[int, int, int], bytes]
    write: Callable[[int, int, bytes], bytes]
    sync_read: Callable[[int, int, Sequence[int]], bytes]
    sync_write: Callable[[int, Mapping[int, bytes]], bytes]
    decode: Callable[[bytes, int, int], Decoded]

    def sync_write_register(self, register: Register, values: Mapping[int, int]) -> bytes:
        """Return the request that writes one register of many servos at once; counts are by servo id.

        Raises:
          ValueError: a count that the register cannot hold.
        """
        return self.sync_write(register.address, {servo_id: register.pack(count) for servo_id, count in values.items()})
