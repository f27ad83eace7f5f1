"""The ROS 2 package `mbrl`: three Python packages, the nodes, the launch files.

ROS 2 itself is not a requirement here: it comes from an installation or from wheels (requirements-ros.txt).
"""

from glob import glob

from setuptools import find_packages, setup

NAME = "mbrl"
MOVED = {"mbrl_sim": "sim", "mbrl_ros": "ros2_ws/src/mbrl_ros"}


def moved_packages() -> list[str]:
    """Return mbrl_sim and mbrl_ros with what lies below them."""
    return [name for top, folder in MOVED.items() for name in (top, *(f"{top}.{sub}" for sub in find_packages(folder)))]


setup(
    name=NAME,
    version="0.1.0",
    description="Trains a real robot arm from minutes of its own data, inside an ensemble of learned models.",
    license="Apache-2.0",
    maintainer="mbrl maintainers",
    maintainer_email="maintainers@mbrl.invalid",
    python_requires=">=3.10",
    packages=[*find_packages(include=["mbrl_core", "mbrl_core.*"]), *moved_packages()],
    package_dir=MOVED,
    package_data={"mbrl_core": ["py.typed"], "mbrl_sim": ["assets/*", "assets/**/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", sorted(glob("launch/*.launch.py"))),
        (f"share/{NAME}/launch/config", sorted(glob("launch/config/*.yaml"))),
    ],
    zip_safe=False,
    # What the robot needs: no torch; mujoco measures self-collision.
    install_requires=["array-api-compat", "mujoco", "numpy", "onnxruntime", "pyserial", "pyyaml", "safetensors"],
    extras_require={
        "learn": ["onnx", "onnxscript", "tensorboard", "torch"],
        "sim": ["gymnasium[mujoco]"],
        "cli": ["matplotlib", "rich", "tyro"],
        "dynamixel": ["dynamixel-sdk"],  # for its control tables
        "dev": [
            "dynamixel-sdk",
            "hypothesis",
            "mypy",
            "pre-commit",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "types-PyYAML",
            "types-pyserial",
        ],
    },
    entry_points={
        "console_scripts": [
            "mbrl = mbrl_ros.cli:main",
            "robot_interface = mbrl_ros.robot_interface:main",
            "policy = mbrl_ros.policy:main",
            "model_learning = mbrl_ros.model_learning:main",
            "twin = mbrl_ros.twin:main",
            "lifecycle_manager = mbrl_ros.lifecycle_manager:main",
        ],
    },
)
