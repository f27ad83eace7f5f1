"""`mbrl doctor` as a process on the emulated bus of each family: it names each injected fault and its remedy."""

import dataclasses
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fakes.adapting_bundle import adapting_bundle
from fakes.two_families import FAMILIES, load, write_profile

from mbrl_core.arm import load_profile
from mbrl_core.host_findings import port_findings
from mbrl_core.robots.bus_findings import SPOILT
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_core.robots.servo_bus import ServoBus
from mbrl_core.robots.servo_findings import REMEDIES
from mbrl_core.tasks.reach import ReachTask
from mbrl_sim import ASSETS
from mbrl_sim.bus_faults import LATENCY_TIMER_S
from mbrl_sim.emulated_bus import Twin

pytestmark = [pytest.mark.realtime]
WITHOUT = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "mujoco", "rclpy", "mbrl_msgs"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
import json, os
import mbrl_ros.doctor_command
from mbrl_ros.cli import run
for line in sys.stdin:
    out, *arguments = json.loads(line)
    child = os.fork()
    if not child:
        for stream in (1, 2):
            os.dup2(os.open(f"{out}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        status = run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module", autouse=True)
def doctors(tmp_path_factory):
    """A process that has loaded what the doctor needs, and forks one for each call."""
    global waiting, out
    out = tmp_path_factory.mktemp("doctor") / "out"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", WITHOUT], text=True, bufsize=1, **pipes) as waiting:
        yield
        waiting.stdin.close()


def doctor(*arguments):
    waiting.stdin.write(json.dumps([str(out), "doctor", "--json", *map(str, arguments)]) + "\n")
    status = int(waiting.stdout.readline())
    said, complained = (out.with_suffix(f".{stream}").read_text() for stream in (1, 2))
    assert status in (0, 1), complained
    return status, json.loads(said)


def kinds(found):
    """Kinds of trouble, but for what Dynamixels come out of the factory with."""
    return {one["kind"] for one in found} - {"return delay"}


def only(kind, found):
    """The one finding of a kind."""
    named = [one for one in found if one["kind"] == kind]
    assert len(named) == 1, found
    return named[0]


@pytest.fixture(params=FAMILIES)
def profile(request):
    return load(request.param)


@pytest.fixture
def twin(profile):
    with Twin(profile, seed=1) as twin:
        yield twin


def told(profile, twin):
    """Everything that the servos are set and told to do."""
    with ServoBus(twin.port, profile.bus.baud, profile.bus.protocol) as bus:
        ids = [joint.servo_id for joint in profile.joints]
        return [bus.blocks("all", block, ids) for block in (bus.family.identity, bus.family.command)]


def test_a_well_arm_has_no_problem_and_is_left_as_it_was(profile, twin):
    before = told(profile, twin)
    status, found = doctor("--profile", profile.name, "--port", twin.port)
    assert (status, kinds(found)) == (0, set())
    delays = [one for one in found if one["kind"] == "return delay"]
    assert len(delays) == (profile.bus.protocol == "dynamixel_x")
    assert told(profile, twin) == before


FAULTS = {
    "silent": (lambda faults: setattr(faults, "silent", frozenset({4})), "silent", "servo 4", "cable"),
    "all silent": (lambda faults: setattr(faults, "silent", frozenset(range(1, 7))), "nobody answers", "none", "power"),
    "duplicated": (lambda faults: setattr(faults, "duplicated", frozenset({3})), "collision", "servo 3", "setup-motor"),
    "twice": (lambda faults: setattr(faults, "twice", frozenset({2})), "duplicate id", "servo 2", "setup-motor"),
    "checksum": (lambda faults: setattr(faults, "bad_checksum", 0.1), "checksum", "wrong checksum", "ground wire"),
    "noise": (lambda faults: setattr(faults, "noise", 0.1), "noise", "belong to nothing", "ground wire"),
    "truncated": (lambda faults: setattr(faults, "truncated", 0.1), "cut short", "break off", "plug"),
    "wrong id": (lambda faults: setattr(faults, "wrong_id", 0.1), "wrong id", "another id", "setup-motor"),
    "latency": (lambda faults: setattr(faults, "latency_s", LATENCY_TIMER_S), "latency", "ms", "latency_timer"),
    "overload": (lambda faults: setattr(faults, "overloaded", frozenset({5})), "fault overload", "servo 5", "blocks"),
    "heat": (lambda faults: setattr(faults, "temperature_c", {6: 58.0}), "temperature", "servo 6", "cool"),
    "overheat": (lambda faults: setattr(faults, "temperature_c", {6: 90.0}), "fault temperature", "servo 6", "cool"),
    "brown supply": (lambda faults: setattr(faults, "supply", 0.7), "voltage", "V wanted", "supply"),
    "high supply": (lambda faults: setattr(faults, "supply", 1.3), "voltage", "V wanted", "supply"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_remedy(profile, twin, fault):
    inject, kind, text, remedy = FAULTS[fault]
    inject(twin.faults)
    time.sleep(0.2)  # servos look after themselves 50 times a second
    status, found = doctor("--profile", profile.name, "--port", twin.port, "--seconds", 0.7)
    named = [one for one in found if one["kind"] == kind]
    assert status == 1
    assert named, found
    assert text in named[0]["text"]
    assert remedy in named[0]["remedy"]


@pytest.mark.parametrize("fault", ["silent", "duplicated", "twice", "heat"])
def test_nothing_else_is_blamed(profile, twin, fault):
    inject, kind, _, _ = FAULTS[fault]
    inject(twin.faults)
    _, found = doctor("--profile", profile.name, "--port", twin.port, "--seconds", 0.7)
    assert kinds(found) == {kind}


def test_an_echo_is_a_note_and_no_problem(profile, twin):
    twin.faults.echo = True
    status, found = doctor("--profile", profile.name, "--port", twin.port)
    assert status == 0
    assert kinds(found) == {"echo"}
    assert all(one["note"] for one in found)


def watched(profile, twin, event, *arguments):
    """The doctor on a bus to which something happens a second and a half after it was opened."""

    def wait():
        while twin.wait_until_closed_by_client(0.0):
            time.sleep(0.05)
        time.sleep(1.5)
        event()

    happens = threading.Thread(target=wait, daemon=True)
    happens.start()
    try:
        return doctor("--profile", profile.name, "--port", twin.port, "--seconds", 3.5, *arguments)
    finally:
        happens.join(timeout=10)


def test_an_encoder_that_jumps_while_it_is_watched(profile, twin):
    _, found = watched(profile, twin, lambda: setattr(twin.faults, "encoder_jump", {2: 1500}))
    jump = only("encoder jump", found)
    assert "servo 2" in jump["text"]
    assert "replace the servo" in jump["remedy"]


def test_an_adapter_that_is_unplugged_while_it_is_watched(profile, twin):
    status, found = watched(profile, twin, twin.unplug)
    assert status == 1
    assert kinds(found) == {"unplugged"}
    assert "USB cable" in found[0]["remedy"]


@pytest.fixture
def holding(profile, twin):
    """An arm that holds, its port closed."""
    arm = ServoArm(profile, twin.port, deadline_s=0.2)
    arm.connect()
    arm.enable_torque()
    arm.close()
    return twin


def test_a_servo_that_lost_its_power_before(profile, holding):
    holding.power_cycle({3})
    status, found = doctor("--profile", profile.name, "--port", holding.port)
    assert status == 1
    lost = only("brown-out", found)
    assert "servo 3" in lost["text"]
    assert "supply" in lost["remedy"]


def test_a_servo_that_loses_its_power_while_it_is_watched(profile, holding):
    _, found = watched(profile, holding, lambda: holding.power_cycle({3}))
    lost = only("brown-out", found)
    assert "servo 3" in lost["text"]
    assert "torque_enable 1 -> 0" in lost["text"]


def test_a_dead_encoder_shows_when_the_joints_are_moved_by_hand(profile, twin):
    twin.faults.frozen = frozenset({4})
    stop = threading.Event()

    def lead():
        home = profile.vector("home_rad")
        for step in range(10_000):
            twin.push(home + 0.1 * np.sin(0.3 * step))
            if stop.wait(0.05):
                return

    hand = threading.Thread(target=lead)
    hand.start()
    status, found = doctor("--profile", profile.name, "--port", twin.port, "--by-hand", 3)
    stop.set()
    hand.join()
    assert status == 1
    assert kinds(found) == {"frozen"}
    assert any("servo 4" in one["text"] for one in found)


def test_an_arm_that_holds_is_not_let_go_for_the_hand(profile, holding):
    _, found = doctor("--profile", profile.name, "--port", holding.port, "--by-hand", 1)
    assert kinds(found) == {"torque on"}


# ---- profile against arm


def test_another_arm_than_the_profiles(profile, twin, tmp_path):
    wrong = tuple(dataclasses.replace(servo, model_number={777: 778, 1060: 1020}.get(servo.model_number, 1190))
                  for servo in profile.servos)  # fmt: skip
    path = write_profile(tmp_path / "other.yaml", dataclasses.replace(profile, servos=wrong))
    _, found = doctor("--profile", path, "--port", twin.port)
    assert "model" in kinds(found)


def test_a_baud_rate_that_is_not_the_profiles(profile, twin, tmp_path):
    bus = dataclasses.replace(profile.bus, baud=57_600)
    path = write_profile(tmp_path / "slow.yaml", dataclasses.replace(profile, bus=bus))
    _, found = doctor("--profile", path, "--port", twin.port)
    assert kinds(found) == {"nobody answers", "baud rate"}
    assert any("1000000" in one["text"] for one in found)


def test_soft_limits_beyond_the_encoders_end(profile, twin, tmp_path):
    first, *others = profile.joints
    joints = (dataclasses.replace(first, zero_count=3900), *others)
    path = write_profile(tmp_path / "wrapped.yaml", dataclasses.replace(profile, joints=joints))
    _, found = doctor("--profile", path, "--port", twin.port)
    wrap = only("wrap", found)
    assert "shoulder_pan" in wrap["text"]
    assert "mbrl calibrate" in wrap["remedy"]


def test_a_joint_outside_its_limits(profile, twin, tmp_path):
    first, *others = profile.joints
    joints = (dataclasses.replace(first, zero_count=first.zero_count - 600, lower_rad=-0.5, upper_rad=0.5), *others)
    path = write_profile(tmp_path / "shifted.yaml", dataclasses.replace(profile, joints=joints))
    status, found = doctor("--profile", path, "--port", twin.port, "--seconds", 0.5)
    assert status == 1
    assert "servo 1 (shoulder_pan) stands at" in only("outside", found)["text"]
    assert "mbrl calibrate" in only("outside", found)["remedy"]


def test_a_read_that_takes_too_much_of_a_cycle(profile, twin, tmp_path):
    path = write_profile(tmp_path / "fast.yaml", dataclasses.replace(profile, bus_hz=1000.0))
    status, found = doctor("--profile", path, "--port", twin.port, "--seconds", 0.5)
    assert status == 1
    assert "ms at best, of 0.8 at 1000 Hz" in only("slow bus", found)["text"]
    assert "lower bus_hz" in only("slow bus", found)["remedy"]


def test_a_servo_that_the_profile_does_not_know(profile, twin, tmp_path):
    path = write_profile(tmp_path / "fewer.yaml", dataclasses.replace(profile, joints=profile.joints[:5]))
    status, found = doctor("--profile", path, "--port", twin.port)
    assert "stranger" in kinds(found)
    assert status == 0


def test_a_bundle_that_is_none(profile, twin, tmp_path):
    (tmp_path / "policy.mbrl").write_bytes(b"nothing")
    status, found = doctor("--profile", profile.name, "--port", twin.port, "--bundle", tmp_path / "policy.mbrl")
    assert status == 1
    assert kinds(found) == {"bundle"}


def test_a_bundle_for_another_arm(profile, twin, tmp_path):
    other = load_profile(ASSETS / "so101.yaml" if profile.name == "koch" else ASSETS / "koch.yaml")
    adapting_bundle(ReachTask(other)).save(tmp_path / "policy.mbrl")
    status, found = doctor("--profile", profile.name, "--port", twin.port, "--bundle", tmp_path / "policy.mbrl")
    assert status == 1
    assert kinds(found) == {"bundle"}
    assert other.name in only("bundle", found)["text"]
    assert "mbrl inspect" in only("bundle", found)["remedy"]


@pytest.mark.parametrize(
    ("register", "count", "kind"),
    [
        ("operating_mode", 1, "operating mode"),
        ("drive_mode", 1, "drive mode"),
        ("min_position", 1500, "position range"),
        ("torque_limit", 0, "torque limit"),
    ],
)
def test_a_setting_that_will_not_do(profile, twin, register, count, kind):
    if register == "drive_mode" and profile.bus.protocol == "feetech_sts":
        pytest.skip("a Feetech has none")
    with ServoBus(twin.port, profile.bus.baud, profile.bus.protocol) as bus:
        bus.write(1, register, count)
    status, found = doctor("--profile", profile.name, "--port", twin.port, "--seconds", 0.5)
    assert status == 1
    assert kinds(found) == {kind}
    assert "servo 1 (shoulder_pan)" in only(kind, found)["text"]


def test_every_kind_of_trouble_stands_in_the_guide():
    root = Path(__file__).parents[2]
    sources = [*root.glob("mbrl_core/**/*.py"), root / "ros2_ws/src/mbrl_ros/doctor_command.py"]
    text = "".join(path.read_text() for path in sources)
    made = {*re.findall(r'kind="([a-z -]+)"', text), *(kind for kind, _, _ in SPOILT.values())}
    made |= {f"fault {str(fault.name).lower()}" for fault in REMEDIES}
    table = (root / "docs/arms.md").read_text().partition("| It says")[2]
    listed = {kind.replace("(note)", "").strip() for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
              for kind in row.split(",")}  # fmt: skip
    assert made
    assert made == listed - {"---"}


# ---- ports


def test_a_port_that_is_not_there_or_in_use(profile, twin, tmp_path):
    assert kinds(doctor("--profile", profile.name, "--port", tmp_path / "ttyUSB9")[1]) == {"no port"}
    arm = ServoArm(profile, twin.port, deadline_s=0.2)
    arm.connect()
    assert kinds(doctor("--profile", profile.name, "--port", twin.port)[1]) == {"port in use"}
    arm.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_port_that_belongs_to_others(tmp_path):
    _, slave = pty.openpty()
    os.chmod(os.ttyname(slave), 0)
    (found,) = port_findings(os.ttyname(slave))
    assert found.kind == "permission"
    assert "usermod -aG" in found.remedy


def test_a_latency_timer_that_is_long(tmp_path):
    _, slave = pty.openpty()
    folder = tmp_path / os.path.basename(os.ttyname(slave))
    folder.mkdir()
    (folder / "latency_timer").write_text("16\n")
    (found,) = port_findings(os.ttyname(slave), tmp_path)
    assert (found.kind, "16 ms" in found.text) == ("latency timer", True)
    (folder / "latency_timer").write_text("1\n")
    assert not list(port_findings(os.ttyname(slave), tmp_path))


def test_what_a_person_reads(profile, twin):
    twin.set_silent({4})
    command = [sys.executable, "-m", "mbrl_ros.cli", "doctor", "--profile", profile.name, "--port", twin.port]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert "1 problem:\n  silent: servo 4 (wrist_flex) does not answer\n    remedy: check its cable" in run.stdout
    assert "shoulder_pan   id   1  model" in run.stdout
