"""The emulated buses under the vendors' SDKs: cycles of sync read and sync write, the codes that came, and the rate.

Each SDK has a process of its own and a twin of its own.

    python bench/bus_grade.py
"""

import argparse
import importlib.metadata
import platform
from dataclasses import replace

from vendor_sdk import SDKS, VendorSdk, lacks

from mbrl_core.arm import ArmProfile, Bus, Servo, load_profile
from mbrl_sim import ASSETS
from mbrl_sim.emulated_bus import Twin

FEETECH = ([56, 15], [42, 2])  # address and size of the block that is read, and of the goal
DYNAMIXEL = ([126, 21], [116, 4])
MIDDLE = 2048


def profile_for(package: str) -> ArmProfile:
    """SO-101 on the bus that an SDK speaks."""
    so101 = load_profile(ASSETS / "so101.yaml")
    if package != "dynamixel-sdk":
        return so101
    servo = Servo(name="xl430", model_number=1060, min_voltage_v=9.5, max_voltage_v=13.0, stall_current_a=1.0)
    return replace(so101, bus=Bus(protocol="dynamixel_x"), servos=(servo,))


def grade(package: str, cycles: int, fast: bool) -> None:
    """Print one row: the rate and every outcome with its count."""
    profile = profile_for(package)
    servo_ids = [joint.servo_id for joint in profile.joints]
    read, write = DYNAMIXEL if package == "dynamixel-sdk" else FEETECH
    with Twin(profile) as twin, VendorSdk(package, twin.port) as sdk:
        if package == "dynamixel-sdk":
            for servo_id in servo_ids:
                sdk("write", servo_id, 9, 1, 0)  # return delay
        seen, took_s = sdk("cycles", cycles, read, write, servo_ids, MIDDLE, fast)
        alive = "" if not twin.failed.is_set() else f"; twin failed: {twin.error}"
    outcomes = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(seen.items()))
    title = package + (", fast sync read" if fast else "")
    print(f"{title:32} {cycles / took_s:6.0f} Hz   {outcomes}{alive}", flush=True)


def main() -> None:
    """Print the versions and a row per SDK."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=10_000, help="of read and write, for each SDK")
    cycles = parser.parse_args().cycles
    mujoco = importlib.metadata.version("mujoco")
    print(f"{platform.machine()}, Python {platform.python_version()}, mujoco {mujoco}")
    print(f"six servos at 1 Mbps, {cycles} cycles of read and write\n")
    for package in SDKS:
        if missing := lacks(package):
            print(f"{package:32} {missing}")
            continue
        for fast in (False, True) if package == "dynamixel-sdk" else (False,):
            grade(package, cycles, fast)


if __name__ == "__main__":
    main()
