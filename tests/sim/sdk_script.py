"""Drives a bus with the feetech-servo-sdk and prints what it saw as JSON. Run: python sdk_script.py PORT."""

import json
import sys
import time

import scservo_sdk as sdk

IDS = range(1, 7)


def main(port_name: str) -> None:
    port, handler = sdk.PortHandler(port_name), sdk.PacketHandler(0)
    seen = {"opened": port.openPort()}
    seen["pings"] = [handler.ping(port, i) for i in IDS]
    seen["stranger"] = handler.ping(port, 77)[1]
    seen["voltage"] = handler.read1ByteTxRx(port, 2, 62)
    seen["position"] = handler.read2ByteTxRx(port, 2, 56)
    seen["past_the_end"] = handler.read4ByteTxRx(port, 2, 126)[1]
    seen["write"] = handler.write1ByteTxRx(port, 4, 41, 33)
    seen["written"] = handler.read1ByteTxRx(port, 4, 41)
    seen["reg_write"] = handler.regWriteTxRx(port, 5, 42, 2, [0x34, 0x08])
    seen["before_action"] = handler.read2ByteTxRx(port, 5, 42)
    handler.action(port, sdk.BROADCAST_ID)
    seen["after_action"] = handler.read2ByteTxRx(port, 5, 42)
    seen["torque_after_goal"] = handler.read1ByteTxRx(port, 5, 40)

    writer = sdk.GroupSyncWrite(port, handler, 42, 2)
    for i in IDS:
        start = handler.read2ByteTxRx(port, i, 56)[0]
        goal = start + 100 if i == 1 else start
        writer.addParam(i, [goal & 0xFF, goal >> 8])
    seen["goals"] = writer.txPacket()
    time.sleep(0.3)
    reader = sdk.GroupSyncRead(port, handler, 56, 15)
    for i in IDS:
        reader.addParam(i)
    results = [reader.txRxPacket() for _ in range(50)]
    seen["sync_reads"] = sorted(set(results))
    seen["moved"] = [reader.getData(i, 56, 2) for i in IDS]
    port.closePort()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
