"""The node `tracker`: images and a box in, the target out. The contract is in the README.

`ros2 run siamkd_ros tracker --ros-args -r image:=/camera/image_raw`

A managed node: *configure* loads the model, *activate* subscribes, *deactivate* drops the target,
*cleanup* frees the model. By itself it goes to active at once (`autostart`).

Two threads. The executor's runs the callbacks, which check a message's fields and leave it in the
inbox. The inference thread owns the tracker and publishes. They share what locks itself: inbox,
ring, statistics, and the parameters, which are frozen and swapped in one piece.
"""

from __future__ import annotations

import gc
import time
from typing import Any

from rclpy.clock import Clock, ClockType
from std_srvs.srv import SetBool, Trigger

from siamkd_core.presence import State
from siamkd_core.tracker import Track, Tracker
from siamkd_ros import diagnostics
from siamkd_ros.diagnostics import Level, Report
from siamkd_ros.frame import SECOND, Frame
from siamkd_ros.image_topic import image_topic
from siamkd_ros.inbox import Drop, Enable
from siamkd_ros.lifecycle import ManagedNode
from siamkd_ros.loaded import LoadedModel, load
from siamkd_ros.parameter_spec import declare, watch
from siamkd_ros.parameters import TrackerParameters
from siamkd_ros.rejected import Rejected
from siamkd_ros.reporter import Reporter
from siamkd_ros.results import Results
from siamkd_ros.runtime import main_exit, return_memory
from siamkd_ros.session import Session
from siamkd_ros.statistics import Statistics

ADVISE_EVERY = 60.0
DIAGNOSTICS_PERIOD = 1.0
WAITING = {
    "unconfigured": "no model is loaded: configure and activate the node",
    "inactive": "not active: activate the node",
    "active": "starting",
    "finalized": "shut down for good: restart the node",
}


class TrackerNode(ManagedNode):
    """The node; `tracker` replaces the one that the parameters would load (for tests).

    Attributes:
        session: what runs while the node is active; None otherwise.
    """

    def __init__(self, tracker: Tracker | None = None, **node_options: Any) -> None:
        super().__init__("tracker", **node_options)
        self.parameters = declare(self, TrackerParameters)
        self.statistics = Statistics()
        self.session: Session | None = None
        self.model: LoadedModel | None = None
        self._given = tracker
        self._results: Results | None = None
        topic = image_topic(self, self.parameters.image_transport)
        self._reporter = Reporter(self, topic)
        watch(self, lambda: self.parameters, self._set_parameters)
        self.create_service(Trigger, "~/reset", self.on_reset)
        self.create_service(SetBool, "~/enable", self.on_enable)
        # on the steady clock: a simulation that stands still is worth reporting
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD, self.on_diagnostics, clock=steady)
        if self.parameters.autostart:
            self.start()
        else:
            self.entered()

    def close(self) -> None:
        """Stop the inference thread. The node can be destroyed after that."""
        if self.session is not None:
            self.session.stop()

    # Transitions

    def configure(self) -> None:
        """Load the model and warm it up.

        Raises:
            SiamkdError: no such model, device or precision.
        """
        self.model = model = load(self.parameters, self._fell_back, self._given)
        described, log = model.described, self.get_logger()
        log.info(
            f"model {model.name} on {described['device']}, {described['precision']}: {model.took}"
        )
        if model.warning:
            log.warning(model.warning)
        if not model.calibrated:
            log.warning(
                f"the model {model.name} is not calibrated: its score is not the probability that "
                "the target is there, and the thresholds mean little; see siamkd calibrate --help"
            )
        self._results = Results(self, lambda: self.parameters)

    def activate(self) -> None:
        """Subscribe, and start the inference thread."""
        assert self.model is not None
        assert self._results is not None
        self.session = Session(
            self, self.model.tracker, self._results, self.statistics, self, self.parameters
        )

    def deactivate(self) -> None:
        """Unsubscribe, stop the thread, drop the target."""
        if self.session is not None:
            session, self.session = self.session, None
            session.close()

    def clean_up(self) -> None:
        """Free the model and everything that was kept."""
        if self._results is not None:
            self._results.destroy()
        self._results, self.model = None, None
        gc.collect()
        return_memory()

    def entered(self) -> None:
        """Say what a node that does not track waits for."""
        if self.session is None:
            self.status(Report(State.IDLE, WAITING[self.state], self.now() / SECOND))

    # Callbacks of the executor's thread

    def on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._order(Drop("reset by ~/reset"), response, "the target is dropped")

    def on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        done = "images are processed" if request.data else "images are left alone"
        return self._order(Enable(request.data), response, done)

    def on_diagnostics(self) -> None:
        """Publish /diagnostics; warn of images that do not arrive."""
        values, session = self.parameters, self.session
        snapshot = self.statistics.snapshot(time.monotonic())
        silent = session.silent_for(snapshot.last_arrival) if session else 0.0
        offers = session.silence(snapshot) if session and silent > values.image_timeout else ""
        camera = diagnostics.camera_task(snapshot, silent, values.image_timeout, offers)
        tracking = diagnostics.tracker_task(
            self._report(),
            snapshot,
            lifecycle=self.state,
            enabled=session is None or session.follower.enabled,
            bearing=self._results.bearing_note if self._results else None,
        )
        timing = diagnostics.timing_task(snapshot, values.latency_deadline)
        device = diagnostics.device_task(self.model.describe() if self.model else None)
        self._reporter.diagnostics((camera, tracking, timing, device))
        if camera.level is Level.ERROR:
            self._reporter.warn(f"silence: {offers}", camera.message, ADVISE_EVERY)
        elif snapshot.frozen > values.image_timeout:
            self._reporter.warn("frozen", camera.message, ADVISE_EVERY)
        advice = session.loss_advice(snapshot) if session else ""
        if advice:
            self._reporter.warn("loss", advice, ADVISE_EVERY)

    # What the follower calls, from the inference thread

    def target(self, frame: Frame, track: Track | None, target: str, label: str) -> None:
        """Publish one processed image's result."""
        assert self._results is not None
        self._results.publish(frame, track, target, label)

    def picture(self, frame: Frame, track: Track | None) -> None:
        """Draw the overlay, if anybody looks."""
        assert self._results is not None
        self._results.draw(frame, track, self._report().state)

    def status(self, report: Report) -> None:
        self._reporter.status(report, self.model.name if self.model else "")

    def rejected(self, error: Rejected) -> None:
        self._reporter.rejected(error)

    def failed(self, error: Exception) -> None:
        self._reporter.failed(error)

    def now(self) -> int:
        """The ROS clock, nanoseconds."""
        return int(self.get_clock().now().nanoseconds)

    def _order(self, order: Drop | Enable, response: Any, done: str) -> Any:
        response.success = self.session is not None
        response.message = done if self.session else WAITING[self.state]
        if self.session is not None:
            self.session.intake.inbox.put_order(order)
        return response

    def _report(self) -> Report:
        """The state now, of tracking or else of the node."""
        session = self.session
        if session is not None:
            return session.follower.report()
        return Report(State.IDLE, WAITING[self.state])

    def _fell_back(self, warning: str) -> None:
        self._reporter.warn("device", warning)

    def _set_parameters(self, values: TrackerParameters) -> None:
        self.parameters = values
        if self.session is not None:
            self.session.use(values)


def main() -> None:
    main_exit(TrackerNode)


if __name__ == "__main__":
    main()
