"""A servo's own complaints, the same bits for every family; ArmReading.status holds them."""

from enum import IntFlag


class ServoFault(IntFlag):
    """What a servo says is wrong with it. Order and bits of the Feetech STS's status register, then what others add."""

    NONE = 0
    VOLTAGE = 1
    ENCODER = 2
    TEMPERATURE = 4
    CURRENT = 8
    ANGLE = 16
    OVERLOAD = 32
    SHOCK = 64  # Dynamixel: electrical shock, or too little power
    UNKNOWN = 128  # Dynamixel: it raised its alert and did not say why


def fault_names(status: int) -> str:
    """The names of the faults in a status, in words; empty where there are none."""
    return ", ".join(str(fault.name).lower() for fault in ServoFault if fault & status)
