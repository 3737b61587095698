"""The tracker as a managed node, driven as nav2's lifecycle manager drives one: by its services."""

from __future__ import annotations

import gc
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from ros_support import (
    PATIENCE,
    NodeProcess,
    Observer,
    box_message,
    image_message,
    place,
    rclpy,
    scene,
    tiny_model,
    values,
)
from std_srvs.srv import Trigger

from siamkd_core.tracker import load_tracker
from siamkd_ros.lifecycle import ManagedNode
from siamkd_ros.qos import latched
from siamkd_ros.tracker_node import TrackerNode

CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
UNCONFIGURED, INACTIVE = State.PRIMARY_STATE_UNCONFIGURED, State.PRIMARY_STATE_INACTIVE
ACTIVE, FINALIZED = State.PRIMARY_STATE_ACTIVE, State.PRIMARY_STATE_FINALIZED


class Manager(Observer):
    """An observer that changes states and reads them, and nothing else of the node's."""

    def __init__(self, managed: str = "tracker") -> None:
        super().__init__("managed", name="manager")
        self.managed = managed
        self.changes = self.create_client(ChangeState, f"{managed}/change_state")
        self.states = self.create_client(GetState, f"{managed}/get_state")
        self.events: list[str] = []
        self.create_subscription(
            TransitionEvent,
            "tracker/transition_event",
            lambda event: self.events.append(event.goal_state.label),
            10,
        )

    def meet(self) -> None:
        self.wait_for(self.changes.service_is_ready, "the node", 2 * PATIENCE)
        self.wait_for(self.states.service_is_ready, "the node", 2 * PATIENCE)
        self.be_known(self.managed)

    def change(self, number: int = 0, label: str = "") -> bool:
        request = ChangeState.Request()
        request.transition.id, request.transition.label = number, label
        return bool(self.call(self.changes, request).success)

    @property
    def node_state(self) -> int:
        return int(self.call(self.states, GetState.Request(), resend=True).current_state.id)


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeProcess, Manager]]:
    folder = tmp_path_factory.mktemp("managed")
    rclpy.init()
    process = NodeProcess(
        "tracker",
        folder / "log",
        *("-r", "__ns:=/managed"),
        model=tiny_model(folder),
        device="cpu",
        threads=1,
        autostart=False,
    )
    manager = Manager()
    manager.meet()
    yield process, manager
    manager.close()
    rclpy.shutdown()
    assert process.stop(times=2) == 0, process.log
    assert "Traceback" not in process.log


def to_active(manager: Manager) -> None:
    if manager.node_state == UNCONFIGURED:
        assert manager.change(CONFIGURE)
    if manager.node_state == INACTIVE:
        assert manager.change(ACTIVATE)
    manager.connect()


def test_the_whole_way_twice(managed: tuple[NodeProcess, Manager]) -> None:
    process, manager = managed
    assert manager.node_state == UNCONFIGURED
    manager.wait_for(lambda: "no model is loaded" in manager.state, "the status before all")
    for _ in range(2):
        assert manager.change(CONFIGURE)
        assert manager.node_state == INACTIVE
        assert "warmed up in" in process.log
        assert manager.images.get_subscription_count() == 0
        assert manager.change(ACTIVATE)
        assert manager.node_state == ACTIVE
        manager.connect()
        manager.send(scene(0))
        assert manager.give(place(0)).startswith("tracking")
        assert manager.change(DEACTIVATE)
        assert manager.node_state == INACTIVE
        manager.wait_for(lambda: "not active" in manager.state, "the status when inactive")
        manager.wait_for(
            lambda: manager.images.get_subscription_count() == 0, "the subscription's end"
        )
        assert manager.change(CLEANUP)
        assert manager.node_state == UNCONFIGURED
        manager.wait_for(lambda: "no model is loaded" in manager.state, "the status after all")
    manager.wait_for(lambda: manager.events.count("unconfigured") == 2, "transition events")
    assert manager.events.count("active") == 2


def test_a_target_does_not_outlive_deactivation(managed: tuple[NodeProcess, Manager]) -> None:
    _, manager = managed
    to_active(manager)
    manager.send(scene(0))
    manager.give(place(0))
    assert manager.change(DEACTIVATE)
    assert manager.change(ACTIVATE)
    manager.connect()
    manager.send(scene(1))
    assert not manager.targets[-1].detections


@pytest.mark.parametrize(
    ("number", "label"),
    [
        (CONFIGURE, ""),
        (ACTIVATE, ""),
        (CLEANUP, ""),
        (Transition.TRANSITION_CREATE, ""),
        (Transition.TRANSITION_INACTIVE_SHUTDOWN, ""),
        (Transition.TRANSITION_CALLBACK_SUCCESS, ""),
        (255, ""),
        (0, "no_such_label"),
        (DEACTIVATE, "configure"),
    ],
)
def test_an_invalid_transition_is_refused_and_the_target_kept(
    managed: tuple[NodeProcess, Manager], number: int, label: str
) -> None:
    process, manager = managed
    to_active(manager)
    manager.send(scene(0))
    manager.give(place(0))
    assert not manager.change(number, label)
    assert manager.node_state == ACTIVE
    manager.send(scene(1))
    assert manager.targets[-1].detections
    assert process.process.poll() is None
    assert "refused or failed: active" in process.log


def test_what_is_asked_of_an_inactive_node_is_answered(
    managed: tuple[NodeProcess, Manager],
) -> None:
    _, manager = managed
    to_active(manager)
    assert manager.change(DEACTIVATE)
    answer = manager.call(manager.reset_client, Trigger.Request())
    assert not answer.success
    assert "not active" in answer.message
    tasks = manager.fresh_diagnostics()
    assert values(tasks["tracker"])["lifecycle"] == "inactive"
    assert tasks["camera"].level == b"\x00"  # no image is no fault of an inactive node
    assert manager.change(CLEANUP)
    assert manager.fresh_diagnostics()["device"].message == "no model is loaded"


def test_by_labels_as_ros2_lifecycle_set_sends_them(managed: tuple[NodeProcess, Manager]) -> None:
    _, manager = managed
    if manager.node_state != UNCONFIGURED:
        to_active(manager)
        assert manager.change(DEACTIVATE)
        assert manager.change(CLEANUP)
    for label, state in (("configure", INACTIVE), ("activate", ACTIVE), ("deactivate", INACTIVE)):
        assert manager.change(label=label)
        assert manager.node_state == state


def test_shutdown_is_for_good_and_the_process_ends_politely(tmp_path: Path) -> None:
    rclpy.init() if not rclpy.ok() else None
    process = NodeProcess(
        "tracker",
        tmp_path / "log",
        *("-r", "__ns:=/managed", "-r", "__node:=other"),
        model=tiny_model(tmp_path),
        device="cpu",
        threads=1,
    )
    manager = Manager("other")
    manager.meet()
    manager.wait_for(lambda: manager.node_state == ACTIVE, "autostart")
    assert manager.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert manager.node_state == FINALIZED
    statuses: list[DiagnosticStatus] = []
    manager.create_subscription(DiagnosticStatus, "other/status", statuses.append, latched())
    manager.wait_for(lambda: statuses and "for good" in statuses[-1].message, "the last status")
    assert not manager.change(CONFIGURE)
    assert manager.node_state == FINALIZED
    manager.close()
    assert process.stop(signal.SIGTERM) == 0, process.log
    assert "Traceback" not in process.log


def test_a_model_that_is_not_there_leaves_the_node_unconfigured(
    managed: tuple[NodeProcess, Manager], tmp_path: Path
) -> None:
    process = NodeProcess(
        "tracker",
        tmp_path / "log",
        *("-r", "__ns:=/managed", "-r", "__node:=third"),
        model=str(tmp_path / "later/tiny.safetensors"),
        device="cpu",
        autostart=False,
    )
    manager = Manager("third")
    manager.meet()
    assert not manager.change(CONFIGURE)
    assert manager.node_state == UNCONFIGURED
    assert "tiny.safetensors" in process.log
    tiny_model(tmp_path / "later")
    assert manager.change(CONFIGURE)  # and mended, it works
    assert manager.node_state == INACTIVE
    manager.close()
    assert process.stop() == 0, process.log


# In this process, to look inside


@pytest.fixture
def executor(managed: Any) -> Iterator[SingleThreadedExecutor]:
    made = SingleThreadedExecutor()
    yield made
    made.shutdown()


def test_cleaning_up_frees_the_model_and_the_images(tmp_path: Path, executor: Any) -> None:
    parameters = {"model": str(tiny_model(tmp_path)), "device": "cpu", "threads": 1}
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    node = TrackerNode(parameter_overrides=overrides, namespace="/inside")
    assert node.model and node.session
    node.session.on_image(image_message(scene(0), node.now()))
    ring = node.session.intake.ring
    kept = [weakref.ref(one) for one in (node.model.tracker, node.session, ring)]
    del ring
    node.trigger_deactivate()
    node.trigger_cleanup()
    gc.collect()
    assert [ref() for ref in kept] == [None, None, None]
    assert (node.state, node.model, node.session) == ("unconfigured", None, None)
    node.close()
    node.destroy_node()


def test_an_error_in_a_transition_recovers_to_unconfigured(
    tmp_path: Path, executor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = load_tracker(tiny_model(tmp_path), device="cpu", threads=1)
    node = TrackerNode(
        tracker,
        namespace="/inside",
        parameter_overrides=[Parameter("autostart", value=False)],
    )
    node.trigger_configure()

    activate = node.activate

    def broken() -> None:
        activate()
        raise MemoryError("no more memory")

    monkeypatch.setattr(node, "activate", broken)
    node.trigger_activate()
    assert (node.state, node.model, node.session) == ("unconfigured", None, None)
    monkeypatch.undo()
    node.start()
    assert node.state == "active"
    node.close()
    node.destroy_node()


def test_what_cannot_even_be_cleaned_up_is_finalized(
    executor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = ManagedNode("broken", namespace="/inside")

    class Big:
        """Stands for what an error's traceback would keep from being freed."""

    kept: list[weakref.ref[Big]] = []

    def broken() -> None:
        big = Big()
        kept.append(weakref.ref(big))
        raise MemoryError("no more memory")

    monkeypatch.setattr(node, "activate", broken)
    node.trigger_configure()
    node.trigger_activate()
    assert node.state == "unconfigured"
    gc.collect()
    assert kept[0]() is None
    monkeypatch.setattr(node, "clean_up", broken)
    node.trigger_configure()
    node.trigger_activate()
    assert node.state == "finalized" == node._state_machine.current_state[1]
    node.destroy_node()


class Stuck:
    """A tracker whose device does not come back from a new target."""

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker
        self.entered, self.released = threading.Event(), threading.Event()
        self.released.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracker, name)

    def init(self, image: Any, box: Any) -> None:
        self.entered.set()
        self.released.wait(PATIENCE)
        self._tracker.init(image, box)


@pytest.fixture
def stuck_node(tmp_path: Path, executor: Any) -> Iterator[tuple[TrackerNode, Stuck]]:
    """A node whose inference thread is busy with a new target."""
    stuck = Stuck(load_tracker(tiny_model(tmp_path), device="cpu", threads=1))
    node = TrackerNode(stuck, namespace="/inside")  # type: ignore[arg-type]
    assert node.session
    stuck.entered.clear()
    stuck.released.clear()
    node.session.on_image(image_message(scene(0), node.now()))
    node.session.on_init(box_message(place(0)))
    assert stuck.entered.wait(PATIENCE)
    thread = node.session._thread
    yield node, stuck
    stuck.released.set()
    node.close()
    thread.join(PATIENCE)
    node.destroy_node()


def test_a_thread_that_does_not_end_keeps_its_tracker_from_the_next_session(
    stuck_node: tuple[TrackerNode, Stuck], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siamkd_ros.session.JOIN_TIMEOUT", 0.1)
    node, stuck = stuck_node
    assert node.session
    thread = node.session._thread
    node.trigger_deactivate()
    assert (node.state, node.model, node.session) == ("unconfigured", None, None)
    stuck.released.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_box_that_gives_way_before_it_is_taken_is_refused(
    stuck_node: tuple[TrackerNode, Stuck],
) -> None:
    node, stuck = stuck_node
    assert node.session
    for number in (1, 1, 2):  # sent again, it is the same box
        node.session.on_init(box_message(place(number)))
    stuck.entered.clear()
    stuck.released.set()
    assert stuck.entered.wait(PATIENCE)  # with the newest
    assert node.statistics.snapshot(0.0).rejects == {"box_replaced": 1}


def test_rclpy_still_has_what_the_guard_holds_on_to(managed: Any) -> None:
    """The guard replaces a callback of rclpy's; should rclpy move it, this says so first."""
    node = ManagedNode("guarded", namespace="/inside")
    guarded = [one for one in node.services if one.srv_name.endswith("/change_state")]
    assert len(guarded) == 1
    request = ChangeState.Request()
    request.transition.id = DEACTIVATE
    assert not guarded[0].callback(request, ChangeState.Response()).success
    node.destroy_node()
