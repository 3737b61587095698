"""A managed node (rclpy.lifecycle) that no transition can kill.

Two things are added to rclpy's own. An invalid transition is refused: on Humble and Jazzy rclpy
lets its exception out of the service's callback, which ends the process (rclpy issue 1209). And an
error in a transition is logged: rclpy swallows it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from siamkd_core.errors import SiamkdError


class ManagedNode(LifecycleNode):  # type: ignore[misc]
    """Subclasses give `configure`, `activate`, `deactivate` and `clean_up`.

    Each may raise: a SiamkdError is the user's to mend and the state stays what it was; anything
    else is an error, after which everything was ended and dropped: the node is unconfigured.

    Attributes:
        state: unconfigured, inactive, active or finalized.
    """

    def __init__(self, name: str, **node_options: Any) -> None:
        self.state = "unconfigured"
        self._failure: Exception | None = None
        self._starting = False
        super().__init__(name, **node_options)
        for service in self.services:
            if service.srv_name.endswith("/change_state"):
                service.callback = self._refusing(service.callback)

    def configure(self) -> None:
        """Make what takes long."""

    def activate(self) -> None:
        """Begin the work."""

    def deactivate(self) -> None:
        """End the work, if it began; works in every state."""

    def clean_up(self) -> None:
        """Drop what `configure` made; works in every state."""

    def entered(self) -> None:
        """The node is in `state` now, and stays there for a while."""

    def start(self) -> None:
        """Configure and activate, for a node that nobody manages.

        Raises:
            SiamkdError: what the user must change.
        """
        self._starting = True
        try:
            for trigger in (self.trigger_configure, self.trigger_activate):
                if trigger() != TransitionCallbackReturn.SUCCESS:
                    assert self._failure is not None
                    raise self._failure
        finally:
            self._starting = False

    def on_configure(self, _: LifecycleState) -> TransitionCallbackReturn:
        return self._go(self.configure, "inactive")

    def on_activate(self, _: LifecycleState) -> TransitionCallbackReturn:
        return self._go(self.activate, "active")

    def on_deactivate(self, _: LifecycleState) -> TransitionCallbackReturn:
        return self._go(self.deactivate, "inactive")

    def on_cleanup(self, _: LifecycleState) -> TransitionCallbackReturn:
        return self._go(self.clean_up, "unconfigured")

    def on_shutdown(self, _: LifecycleState) -> TransitionCallbackReturn:
        return self._go(self._end, "finalized")

    def on_error(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Recover: drop everything. If not even that works, the node is finalized."""
        done = self._go(self._end, "unconfigured")
        if done != TransitionCallbackReturn.SUCCESS:
            self.state = "finalized"
            self.entered()
        return done

    def _end(self) -> None:
        self.deactivate()
        self.clean_up()

    def _go(self, act: Callable[[], None], goal: str) -> TransitionCallbackReturn:
        try:
            act()
        except SiamkdError as error:
            self._keep(error)
            self.get_logger().error(f"stays {self.state}: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self._keep(error)
            if self.context.ok():  # otherwise a signal came, and that is all the error says
                trace = "".join(traceback.format_exception(error))
                self.get_logger().error(f"the way to {goal} failed in {self.state}:\n{trace}")
            return TransitionCallbackReturn.ERROR
        self.state = goal
        if not (self._starting and goal == "inactive"):
            self.get_logger().info(f"lifecycle: {goal}")
            self.entered()
        return TransitionCallbackReturn.SUCCESS

    def _keep(self, error: Exception) -> None:
        # only for `start`: an error's traceback holds on to the model, and a GPU's memory with it
        self._failure = error if self._starting else None

    def _refusing(self, change: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def callback(request: Any, response: Any) -> Any:
            before = self.state
            try:
                change(request, response)
            except Exception as error:  # whatever a request holds, the node lives
                self.get_logger().debug(str(error))
                response.success = False
            if not response.success:
                wanted = request.transition.label or request.transition.id
                self.get_logger().warning(f"transition {wanted} refused or failed: {before}")
            return response

        return callback
