"""The node `box_picker`: a box for the tracker, drawn in RViz 2 without a plugin.

`ros2 run siamkd_ros box_picker --ros-args -r image:=/camera/image_raw`

Shows the live picture as a plane in the camera's optical frame. Two clicks on it with RViz's
*Publish Point* are opposite corners of the box; after the first the picture stands still. The box
goes out on `tracker/init` with the stamp of the picture it was drawn on.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Point, PointStamped, PolygonStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray

from siamkd_core.box import Box
from siamkd_ros.any_image import image_size
from siamkd_ros.boxes import box_from_detection, write_box
from siamkd_ros.frame import SECOND
from siamkd_ros.image_topic import image_topic, subscribe_image
from siamkd_ros.intake import nanoseconds
from siamkd_ros.parameter_spec import declare, watch
from siamkd_ros.parameters import TRANSPORTS, PickerParameters
from siamkd_ros.picker_view import PickerView
from siamkd_ros.picking import Picking, Picture
from siamkd_ros.picture_plane import Pixel
from siamkd_ros.qos import latched
from siamkd_ros.rejected import Rejected
from siamkd_ros.runtime import main_exit

HOUSEKEEPING = 0.1
"""Seconds between looks at what has taken too long."""
WARN_EVERY = 5.0


class BoxPickerNode(Node):
    """Topics are in the README. One thread: nothing here takes long."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("box_picker", **node_options)
        self.parameters = declare(self, PickerParameters)
        watch(self, lambda: self.parameters, self._set_parameters)
        self.picking = Picking()
        self._newest: Any = None
        self._tracked: Box | None = None
        self._status = ""
        self._warned: dict[str, float] = {}
        self._view = PickerView(self, lambda: self.parameters, self._warn)
        self._connect()

    def close(self) -> None:
        """Nothing runs beside the callbacks."""

    def on_image(self, message: Any) -> None:
        """Keep the newest image; it is looked at when the plane is drawn."""
        self._newest = message

    def on_rate(self) -> None:
        """Show the newest picture, and draw it if anybody looks."""
        try:
            fresh = self._show_newest()
        except Exception as error:
            self._failed(error)
            return
        if fresh and self._view.watched:
            self._draw()

    def on_housekeeping(self) -> None:
        values = self.parameters
        if self.picking.expire(time.monotonic(), values.hold, values.patience):
            if self.picking.note:
                self.get_logger().warning(self.picking.note)
            self._draw()

    def on_point(self, message: PointStamped) -> None:
        """RViz's Publish Point: a corner, as a point in RViz's fixed frame."""

        def pixel() -> Pixel:
            picture = self._picture()
            frame, ours = message.header.frame_id.lstrip("/"), self._view.frame(picture)
            if frame != ours.lstrip("/"):
                raise Rejected(
                    "frame",
                    f"the clicked point is in frame {frame!r}, but the picture is in {ours!r}: "
                    f"set RViz's Fixed Frame to {ours!r}",
                )
            point = message.point
            return self._view.plane(picture).pixel((point.x, point.y, point.z))

        self._attempt(lambda: self.picking.click(pixel(), time.monotonic()))

    def on_mouse(self, message: Point) -> None:
        """rqt_image_view's click: a corner, as a pixel of the picture it shows, the newest."""
        self._attempt(lambda: self._newest_click((message.x, message.y)))

    def on_polygon(self, message: PolygonStamped) -> None:
        """A shape drawn in pixels: its upright bounding box. Its stamp, if any, names the image."""
        points = [(float(point.x), float(point.y)) for point in message.polygon.points]

        def take() -> Box:
            if len(points) < 2 or not all(math.isfinite(value) for one in points for value in one):
                raise Rejected("box_size", f"a polygon of {len(points)} points holds no box")
            (left, top), (right, bottom) = (
                tuple(choose(axis) for axis in zip(*points, strict=True)) for choose in (min, max)
            )
            return self._take(Box(left, top, right - left, bottom - top))

        self._attempt(take, message.header.stamp)

    def on_region(self, message: RegionOfInterest) -> None:
        """A box in whole pixels of the newest picture."""
        box = Box(*map(float, (message.x_offset, message.y_offset, message.width, message.height)))
        self._attempt(lambda: self._take(box))

    def on_cancel(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self.picking.cancel()
        response.message = "given up" if response.success else "there was nothing to give up"
        self._draw()
        return response

    def on_target(self, message: Detection2DArray) -> None:
        """The tracker's box, drawn on the live picture."""
        self._tracked = None
        if message.detections:
            try:
                self._tracked = box_from_detection(message.detections[0])
            except Rejected as error:
                self._warn(error)

    def on_status(self, message: DiagnosticStatus) -> None:
        self._status = message.message
        self._draw()

    def _connect(self) -> None:
        transport = self.parameters.image_transport
        self._boxes = self.create_publisher(Detection2D, "tracker/init", 10)
        subscribe_image(self, transport, self.on_image)
        self.create_subscription(
            CameraInfo, "camera_info", self._view.on_info, qos_profile_sensor_data
        )
        self.create_subscription(PointStamped, "/clicked_point", self.on_point, 10)
        for shown in TRANSPORTS:  # rqt names its clicks after what it shows, which need not be ours
            clicks = f"{image_topic(self, shown)}_mouse_left"
            self.create_subscription(Point, clicks, self.on_mouse, 10)
        self.create_subscription(PolygonStamped, "~/polygon", self.on_polygon, 10)
        self.create_subscription(RegionOfInterest, "~/region", self.on_region, 10)
        self.create_subscription(Detection2DArray, "tracker/target", self.on_target, 10)
        self.create_subscription(DiagnosticStatus, "tracker/status", self.on_status, latched())
        self.create_service(Trigger, "~/cancel", self.on_cancel)
        # on the steady clock: a simulation that stands still must not stop the user
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1 / self.parameters.rate, self.on_rate, clock=steady)
        self.create_timer(HOUSEKEEPING, self.on_housekeeping, clock=steady)
        self.get_logger().info(
            f"pictures of {image_topic(self, transport)} on "
            f"{self.resolve_topic_name('~/markers')}, boxes to {self._boxes.topic_name}"
        )

    def _set_parameters(self, values: PickerParameters) -> None:
        self.parameters = values

    def _newest_picture(self) -> Picture | None:
        """The newest image as a picture; None before the first.

        Raises:
            Rejected: it is unusable.
        """
        message, shown = self._newest, self.picking.picture
        if message is None or (shown is not None and message is shown.message):
            return shown
        header = message.header
        return Picture(nanoseconds(header.stamp), header.frame_id, *image_size(message), message)

    def _show_newest(self) -> bool:
        """Put the newest image before the user; False if it is there, or the picture stands.

        Raises:
            Rejected: it is unusable.
        """
        if self.picking.frozen:
            return False
        picture = self._newest_picture()
        return (
            picture is not None
            and picture is not self.picking.picture
            and self.picking.show(picture)
        )

    def _newest_click(self, pixel: Pixel) -> Box | None:
        if self.picking.first is None:
            self.picking.cancel()  # the plane may still show a finished box; rqt never stands still
        self._show_newest()
        return self.picking.click(pixel, time.monotonic())

    def _take(self, box: Box) -> Box:
        """A box from elsewhere is on the newest image, even while the plane's stands still."""
        return self.picking.take(box, self._newest_picture(), time.monotonic())

    def _attempt(self, act: Callable[[], Box | None], stamp: Any = None) -> None:
        """Carry a click out, send the box that it completes, and show what came of it."""
        try:
            box = act()
            if box is not None:
                self._send(box, stamp)
        except Rejected as error:
            self.picking.note = str(error)
            self.get_logger().warning(f"refused: {error}")
        except Exception as error:
            self._failed(error)
        self._draw()

    def _send(self, box: Box, stamp: Any) -> None:
        """`stamp` names the image; None or zero: the picture's.

        Raises:
            Rejected: nobody would get it.
        """
        if not self._boxes.get_subscription_count():
            raise Rejected(
                "no_tracker",
                f"no tracker listens on {self._boxes.topic_name}: is it active, in this namespace?",
            )
        picture = self._picture()
        if stamp is None or not nanoseconds(stamp):
            stamp = picture.message.header.stamp
        message = Detection2D()
        message.header.stamp, message.header.frame_id = stamp, picture.frame_id
        write_box(message.bbox, box)
        self._boxes.publish(message)
        self.get_logger().info(
            f"box {box.x:.1f},{box.y:.1f},{box.w:.1f},{box.h:.1f} on the image stamped "
            f"{nanoseconds(stamp) / SECOND:.3f} sent to {self._boxes.topic_name}"
        )

    def _draw(self) -> None:
        """Publish the markers, whoever looks: the last ones are latched."""
        try:
            self._view.draw(self.picking, self._tracked, self._status)
        except Exception as error:
            self._failed(error)

    def _picture(self) -> Picture:
        if self.picking.picture is None:
            raise Rejected("no_picture", "there is no picture yet to draw a box on")
        return self.picking.picture

    def _failed(self, error: Exception) -> None:
        """Say what is wrong, and go on: no message may end the node."""
        if isinstance(error, Rejected):
            self._warn(error)
        elif self.context.ok():  # otherwise a signal came, and nothing can be published any more
            trace = "".join(traceback.format_exception(error))
            self._warn(Rejected(type(error).__name__, f"unexpected error, going on:\n{trace}"))

    def _warn(self, error: Rejected) -> None:
        """Log a warning, each kind at most once in WARN_EVERY seconds."""
        now = time.monotonic()
        if now - self._warned.get(error.reason, -WARN_EVERY) >= WARN_EVERY:
            self._warned[error.reason] = now
            self.get_logger().warning(str(error))


def main() -> None:
    main_exit(BoxPickerNode)


if __name__ == "__main__":
    main()
