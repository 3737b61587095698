"""Every parameter of the nodes, declared once: default, description, unit, range, read-only.

python -m siamkd_ros.parameters     prints the README's tables
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from siamkd_core.errors import ConfigError
from siamkd_core.presence import PresenceConfig
from siamkd_ros.parameter_spec import ParameterSet, markdown_table, parameter

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
TRANSPORTS = ("raw", "compressed")
PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class TrackerParameters(ParameterSet):
    """Parameters of the node `tracker`."""

    model: str = parameter(
        "siamfc",
        "Shipped model name, or path of a .safetensors file with its .json card beside it",
        read_only=True,
    )
    backend: str = parameter(
        "auto",
        "What runs the model: torch (PyTorch), onnxruntime or openvino (CPU); auto is onnxruntime "
        "on a CPU where it is installed, else torch",
        choices=("auto", "torch", "onnxruntime", "openvino"),
        read_only=True,
    )
    device: str = parameter(
        "auto",
        "Where the model runs: auto (CUDA if there is one), cpu, cuda or cuda:N",
        read_only=True,
    )
    precision: str = parameter(
        "auto",
        "Number format of the model",
        choices=("auto", *PRECISIONS, *PRECISIONS.values()),
        read_only=True,
    )
    threads: int = parameter(
        0,
        "CPU threads of the model; 0: as many as PyTorch would take",
        low=0,
        high=256,
        read_only=True,
    )
    image_transport: str = parameter(
        "raw",
        "raw subscribes to image, compressed to <image>/compressed (JPEG or PNG)",
        choices=TRANSPORTS,
        read_only=True,
    )
    autostart: bool = parameter(
        True,
        "Configure and activate at start-up; false leaves that to a lifecycle manager",
        read_only=True,
    )
    bearing: bool = parameter(
        False,
        "Publish ~/bearing, the direction of the target by camera_info",
        read_only=True,
    )
    rectified: bool = parameter(
        False,
        "Whether the images are rectified: then camera_info's P holds, otherwise its K and D",
        read_only=True,
    )
    uncertain_score: float = parameter(
        PresenceConfig.uncertain_score,
        "Below this score the target is uncertain, and after lost_after lost",
        low=0.0,
        high=1.0,
    )
    tracking_score: float = parameter(
        PresenceConfig.tracking_score,
        "From this score on, for recover_after, an uncertain target is tracked again",
        low=0.0,
        high=1.0,
    )
    recover_score: float = parameter(
        PresenceConfig.recover_score,
        "From this score on, for recover_after, a lost target is taken back",
        low=0.0,
        high=1.0,
    )
    lost_after: float = parameter(
        PresenceConfig.lost_after,
        "Video time below uncertain_score, in all since it was tracked, until the target is lost",
        unit="s",
        low=0.0,
        high=60.0,
    )
    recover_after: float = parameter(
        PresenceConfig.recover_after,
        "How long the score must stay at tracking_score (of a lost target: recover_score) or above",
        unit="s",
        low=0.0,
        high=60.0,
    )
    ring_seconds: float = parameter(
        5.0,
        "How long frames are kept, so that a box can be given for the frame it was drawn on",
        unit="s",
        low=0.0,
        high=30.0,
    )
    ring_megabytes: int = parameter(
        512,
        "Memory limit of the kept frames; the newest is always kept",
        unit="MB",
        low=0,
        high=8192,
    )
    overlay_rate: float = parameter(
        10.0,
        "How often ~/overlay shows a picture, at most, while somebody looks",
        unit="Hz",
        low=0.1,
        high=120.0,
    )
    overlay_width: int = parameter(
        640, "Larger pictures are shrunk to this width on ~/overlay", unit="px", low=64, high=4096
    )
    image_timeout: float = parameter(
        1.0,
        "Without a new picture for this long, /diagnostics says so and what the publishers offer",
        unit="s",
        low=0.1,
        high=60.0,
    )
    latency_deadline: float = parameter(
        0.1,
        "Latency from image stamp to published box above which a frame counts as a deadline miss",
        unit="s",
        low=0.001,
        high=10.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not DEVICE.fullmatch(self.device):
            raise ConfigError(f"device is {self.device!r}; use auto, cpu, cuda or cuda:N")
        _ = self.presence

    @property
    def presence(self) -> PresenceConfig:
        return PresenceConfig(
            uncertain_score=self.uncertain_score,
            tracking_score=self.tracking_score,
            recover_score=self.recover_score,
            lost_after=self.lost_after,
            recover_after=self.recover_after,
        )


@dataclass(frozen=True)
class PickerParameters(ParameterSet):
    """Parameters of the node `box_picker`."""

    image_transport: str = parameter(
        "raw",
        "raw subscribes to image, compressed to <image>/compressed (JPEG or PNG)",
        choices=TRANSPORTS,
        read_only=True,
    )
    frame_id: str = parameter(
        "", "Frame of the plane and of RViz's clicks; empty: that of the images", read_only=True
    )
    rectified: bool = parameter(
        False,
        "Whether the images are rectified: then camera_info's P holds, otherwise its K",
        read_only=True,
    )
    rate: float = parameter(
        5.0,
        "How often the plane shows a new picture",
        unit="Hz",
        low=0.1,
        high=60.0,
        read_only=True,
    )
    distance: float = parameter(
        1.0, "How far before the camera the plane stands", unit="m", low=0.01, high=1000.0
    )
    max_width: int = parameter(
        640, "Larger pictures are shrunk to this width on the plane", unit="px", low=64, high=4096
    )
    jpeg_quality: int = parameter(80, "JPEG quality of the plane's picture", low=1, high=100)
    hold: float = parameter(
        1.5, "How long a finished box is shown on the still picture", unit="s", low=0.0, high=60.0
    )
    patience: float = parameter(
        4.0,
        "The second corner must be clicked within this time after the first",
        unit="s",
        low=1.0,
        high=600.0,
    )


@dataclass(frozen=True)
class SelectParameters(ParameterSet):
    """Parameters of the command `select_box`."""

    image_transport: str = parameter(
        "raw",
        "raw subscribes to image, compressed to <image>/compressed (JPEG or PNG)",
        choices=TRANSPORTS,
        read_only=True,
    )
    timeout: float = parameter(
        10.0,
        "How long to wait for an image and the tracker",
        unit="s",
        low=0.1,
        high=3600.0,
        read_only=True,
    )


@dataclass(frozen=True)
class CameraParameters(ParameterSet):
    """Parameters of the node `camera`."""

    source: str = parameter(
        "", "Video file, folder of images, /dev/videoN or a webcam's number", read_only=True
    )
    rate: float = parameter(
        0.0,
        "Images per second; 0 is the source's own rate, or 30 where it states none",
        unit="Hz",
        low=0.0,
        high=1000.0,
        read_only=True,
    )
    loop: bool = parameter(
        False, "Start again at the end; otherwise the node exits with code 0", read_only=True
    )
    wait_for_subscribers: int = parameter(
        0,
        "Hold the first image back until this many subscribe; 0 does not wait",
        low=0,
        high=100,
        read_only=True,
    )
    frame_id: str = parameter("camera", "Header frame_id of the images", read_only=True)
    width: int = parameter(
        0,
        "Resize to this width; 0 keeps the source's",
        unit="px",
        low=0,
        high=16384,
        read_only=True,
    )
    height: int = parameter(
        0,
        "Resize to this height; 0 keeps the source's",
        unit="px",
        low=0,
        high=16384,
        read_only=True,
    )
    reliability: str = parameter(
        "reliable",
        "QoS reliability of the image publisher",
        choices=("reliable", "best_effort"),
        read_only=True,
    )
    depth: int = parameter(
        5, "QoS history depth of the image publisher", low=1, high=1000, read_only=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.width == 0) != (self.height == 0):
            raise ConfigError("width and height go together: give both, or 0 for both")


NODES: dict[str, type[ParameterSet]] = {
    "tracker": TrackerParameters,
    "box_picker": PickerParameters,
    "select_box": SelectParameters,
    "camera": CameraParameters,
}


def main() -> None:
    for name, kind in NODES.items():
        print(f"### `{name}`\n\n{markdown_table(kind)}\n")


if __name__ == "__main__":
    main()
