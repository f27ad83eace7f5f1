"""Two lifecycle nodes that note what they do: `python -m fakes.lifecycle_pair EVENTS [NODE:TRANSITION to fail]`.

In place of the last, `first answers`: the first answer of each of their services is lost on its way; `goes`: the
two are gone when the policy was configured; `comes back`: and a second later they are there again.
"""

import gc
import os
import sys
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.service import Service
from std_srvs.srv import Trigger


class Noting(LifecycleNode):
    def __init__(self, name, events, fails):
        super().__init__(name)
        self._events, self._fails, self.noted = events, fails, False

    def note(self, transition):
        self.noted = True
        with open(self._events, "a") as events:
            events.write(f"{self.get_name()} {transition}\n")
        failed = f"{self.get_name()}:{transition}" == self._fails
        return TransitionCallbackReturn.FAILURE if failed else TransitionCallbackReturn.SUCCESS

    def on_configure(self, state):
        return self.note("configure")

    def on_activate(self, state):
        return self.note("activate")

    def on_deactivate(self, state):
        return self.note("deactivate")


def lose_first_answers():
    send, lost = Service.send_response, set()

    def send_from_the_second_on(service, response, header):
        if service.service_name in lost:
            send(service, response, header)
        lost.add(service.service_name)

    Service.send_response = send_from_the_second_on


def main():
    events, fails = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    if fails in ("first answers", "goes", "comes back"):
        lose_first_answers()
    rclpy.init()
    executor = SingleThreadedExecutor()
    arm, policy = Noting("robot_interface", events, fails), Noting("policy", events, fails)

    def start(_, answer):
        arm.note("start")
        answer.success, answer.message = fails != "robot_interface:start", "not today"
        return answer

    arm.create_service(Trigger, "start", start)
    for node in (arm, policy):
        executor.add_node(node)
    if fails in ("goes", "comes back"):
        while not policy.noted:
            executor.spin_once()
        return
    executor.spin()


main()
if sys.argv[-1] == "comes back":
    rclpy.shutdown()
    gc.collect()  # the services of a lifecycle node go with its memory
    time.sleep(1.0)
    os.execv(sys.executable, [sys.executable, "-m", "fakes.lifecycle_pair", sys.argv[1]])
