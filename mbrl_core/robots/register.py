"""One entry of a servo's control table: where a number stands, how it is packed and what it means in SI."""

from dataclasses import dataclass

from mbrl_core.config import refuse


@dataclass(frozen=True, kw_only=True)
class Register:
    """One entry of the control table, or a block of entries side by side.

    Attributes:
      address: of the first byte.
      size: bytes, little endian.
      sign_bit: bit that holds the sign of a sign-and-magnitude number.
      signed: two's complement; without it and without a `sign_bit` the number is unsigned.
      unit: SI unit of value * scale; angles count from the encoder's zero.
      scale: SI per count.
      eeprom: kept when the power goes.
      read_only: writes have no effect.
    """

    address: int
    size: int = 1
    sign_bit: int | None = None
    signed: bool = False
    unit: str = ""
    scale: float = 1.0
    eeprom: bool = False
    read_only: bool = False

    def pack(self, value: int) -> bytes:
        """Return the register's bytes for a count.

        Raises:
          ValueError: the count does not fit.
        """
        low, high = 0, (1 << 8 * self.size) - 1
        if self.sign_bit is not None:
            high = (1 << self.sign_bit) - 1
            low = -high
        elif self.signed:
            high >>= 1
            low = -high - 1
        if not low <= value <= high:
            raise refuse(f"register {self.address}", f"{low} to {high}", value)
        if self.signed:
            return value.to_bytes(self.size, "little", signed=True)
        raw = value if value >= 0 else -value | 1 << (self.sign_bit or 0)
        return raw.to_bytes(self.size, "little")

    def unpack(self, data: bytes) -> int:
        """Return the count in the register's bytes."""
        raw = int.from_bytes(data, "little", signed=self.signed)
        if self.sign_bit is None:
            return raw
        magnitude = raw & (1 << self.sign_bit) - 1
        return -magnitude if raw >> self.sign_bit & 1 else magnitude

    def within(self, block: bytes, start: int) -> int:
        """Return the count in a block of the table that begins at an address."""
        place = self.address - start
        return self.unpack(block[place : place + self.size])
