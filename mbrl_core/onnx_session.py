"""ONNX Runtime on one thread: what runs on the robot must not compete with the control loop for cores."""

import onnxruntime

from mbrl_core.config import refuse


def load_session(graph: bytes, name: str) -> onnxruntime.InferenceSession:
    """Load a graph.

    Args:
      graph: its bytes.
      name: of the bundle's member, for the refusal.

    Raises:
      ValueError: it is none that ONNX Runtime loads.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        raise refuse(f"bundle.{name}", "a graph that ONNX Runtime loads", str(error)) from error
