"""What a robot's process does not have: put before the code of a process of its own."""

WITHOUT_LEARNING = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "onnxscript", "mujoco", "rclpy", "gymnasium"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
"""
