"""What the box picker's user sees: the picture on its plane, where that stands, and the words."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from visualization_msgs.msg import MarkerArray

from siamkd_core.box import Box
from siamkd_ros.any_image import decode_image
from siamkd_ros.camera_model import Camera, Uncalibrated, camera_from_info, nominal_camera
from siamkd_ros.parameters import PickerParameters
from siamkd_ros.picker_markers import PlaneMarkers, encode_picture
from siamkd_ros.picking import Picking, Picture
from siamkd_ros.picture_plane import Plane
from siamkd_ros.qos import latched
from siamkd_ros.rejected import Rejected


class PickerView:
    """Draws on `~/markers`.

    Args:
        warn: told of a camera_info that cannot be used.
    """

    def __init__(
        self,
        node: Node,
        parameters: Callable[[], PickerParameters],
        warn: Callable[[Rejected], None],
    ) -> None:
        self._parameters = parameters
        self._warn = warn
        self._publisher = node.create_publisher(MarkerArray, "~/markers", latched())
        self._markers = PlaneMarkers()
        self._jpeg: tuple[Picture, bytes] | None = None
        self._info: CameraInfo | None = None

    @property
    def watched(self) -> bool:
        return bool(self._publisher.get_subscription_count())

    def on_info(self, message: CameraInfo) -> None:
        self._info = message

    def frame(self, picture: Picture) -> str:
        """The frame that the plane is in, and clicks must be in."""
        return self._parameters().frame_id or picture.frame_id or "camera"

    def plane(self, picture: Picture) -> Plane:
        return Plane(self._camera(picture.width, picture.height), self._parameters().distance)

    def draw(self, picking: Picking, tracked: Box | None, status: str) -> None:
        """Publish everything as it is now; nothing before the first picture.

        Args:
            tracked: the tracker's box, shown on the live picture only.
            status: what the tracker says.

        Raises:
            Rejected: the picture cannot be decoded.
        """
        picture = picking.picture
        if picture is None:
            return
        array = self._markers.array(
            self.frame(picture),
            self.plane(picture),
            self._encoded(picture),
            first=picking.first,
            given=picking.box,
            tracked=None if picking.frozen else tracked,
            text="\n".join(filter(None, (picking.note or _what_to_do(picking), status))),
        )
        self._publisher.publish(array)

    def _encoded(self, picture: Picture) -> bytes:
        if self._jpeg is None or self._jpeg[0] is not picture:
            values = self._parameters()
            image = decode_image(picture.message)
            self._jpeg = (picture, encode_picture(image, values.max_width, values.jpeg_quality))
        return self._jpeg[1]

    def _camera(self, width: int, height: int) -> Camera:
        """By camera_info, or a nominal one: plane and clicks agree with either."""
        if self._info is None:
            return nominal_camera(width, height)
        try:
            camera = camera_from_info(self._info, self._parameters().rectified)
            return camera.scaled(width, height)
        except Uncalibrated as error:
            self._warn(Rejected("camera_info", f"{error}; the plane is drawn for a nominal camera"))
            return nominal_camera(width, height)


def _what_to_do(picking: Picking) -> str:
    if picking.box is not None:
        return "box sent"
    if picking.first is not None:
        return "click the opposite corner"
    return "Publish Point: click two opposite corners of the target"
