"""siamkd_core.presence: the states and their hysteresis."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamkd_core.errors import ConfigError
from siamkd_core.presence import MAX_STEP, Presence, PresenceConfig, State

STEP = 0.1
CONFIG = PresenceConfig(
    uncertain_score=0.3, tracking_score=0.5, recover_score=0.7, lost_after=0.5, recover_after=0.2
)


def feed(presence: Presence, *scores: float, step: float = STEP) -> list[State]:
    return [presence.update(score, step) for score in scores]


def started() -> Presence:
    presence = Presence(CONFIG)
    presence.start()
    return presence


def test_idle_until_started_and_after_stop() -> None:
    presence = Presence(CONFIG)
    assert feed(presence, 0.9, 0.0) == [State.IDLE] * 2
    assert presence.start() is State.TRACKING
    assert presence.stop() is State.IDLE
    assert feed(presence, 0.9) == [State.IDLE]


def test_the_way_down_and_back_up() -> None:
    presence = started()
    assert feed(presence, 0.9, 0.4, 0.31) == [State.TRACKING] * 3
    assert feed(presence, 0.2) == [State.UNCERTAIN]
    # between the thresholds nothing changes, neither up nor down
    assert feed(presence, *[0.4] * 20) == [State.UNCERTAIN] * 20
    assert feed(presence, 0.1, 0.1, 0.1) == [State.UNCERTAIN] * 3
    assert feed(presence, 0.1) == [State.LOST]  # 0.5 s below 0.3, the first frame included
    assert feed(presence, 0.6, 0.6, 0.6) == [State.LOST] * 3  # would do for uncertain, not for lost
    assert feed(presence, 0.8, 0.8, 0.1, 0.8) == [State.LOST] * 4
    assert feed(presence, 0.8, 0.8) == [State.LOST, State.TRACKING]  # 0.2 s from the first of three


def test_seen_again_in_time_is_not_lost() -> None:
    presence = started()
    feed(presence, *[0.0] * 4)
    assert feed(presence, 0.5, 0.5, 0.5) == [State.UNCERTAIN, State.UNCERTAIN, State.TRACKING]
    assert feed(presence, *[0.0] * 4) == [State.UNCERTAIN] * 4  # the time below starts anew


def test_single_high_scores_among_low_ones_are_no_return() -> None:
    presence = started()
    # two of three are low: 0.5 s of them are over in the seventh frame
    flicker = [0.1, 0.1, 0.9] * 3
    assert feed(presence, *flicker) == [State.UNCERTAIN] * 6 + [State.LOST] * 3
    # the last of those above is the first of three
    assert feed(presence, 0.8, 0.8) == [State.LOST, State.TRACKING]


def test_a_return_must_last_between_the_thresholds_too() -> None:
    presence = started()
    assert feed(presence, 0.1, 0.5, 0.5, 0.4, 0.5, 0.5) == [State.UNCERTAIN] * 6
    assert feed(presence, 0.5) == [State.TRACKING]
    feed(presence, *[0.1] * 5)
    assert feed(presence, 0.8, 0.8, 0.6, 0.8, 0.8) == [State.LOST] * 5
    assert feed(presence, 0.8) == [State.TRACKING]


@pytest.mark.parametrize("step", [0.2, 0.25, 0.5, 60.0])
def test_one_frame_is_no_return_however_long_after_the_last(step: float) -> None:
    presence = Presence(PresenceConfig(lost_after=0.9, recover_after=0.2))
    presence.start()
    flicker = feed(presence, *[0.1, 0.9] * 6, step=step)
    assert State.TRACKING not in flicker and flicker[-1] is State.LOST
    assert feed(presence, 0.9, step=step) == [State.TRACKING]


@pytest.mark.parametrize("rate", [10, 20, 30, 50, 60, 100])
def test_times_are_whole_frames(rate: int) -> None:
    presence = Presence(PresenceConfig(lost_after=1.0, recover_after=0.2))
    presence.start()
    down = feed(presence, *[0.0] * rate, step=1 / rate)
    assert down == [State.UNCERTAIN] * (rate - 1) + [State.LOST]
    up = feed(presence, *[1.0] * (rate // 5 + 1), step=1 / rate)
    assert up == [State.LOST] * (rate // 5) + [State.TRACKING]


def test_without_recover_after_a_return_is_immediate() -> None:
    presence = Presence(replace(CONFIG, recover_after=0.0))
    presence.start()
    assert feed(presence, 0.1, 0.5, 0.1, 0.49) == [
        State.UNCERTAIN,
        State.TRACKING,
        State.UNCERTAIN,
        State.UNCERTAIN,
    ]


def test_unseen_counts_the_time_since_the_target_was_seen() -> None:
    presence = started()
    feed(presence, 0.9, 0.4, 0.4, 0.1)
    assert presence.unseen == pytest.approx(0.3)
    feed(presence, 0.9, 0.9)
    assert presence.unseen == pytest.approx(0.5)  # what scores high may still be anything
    feed(presence, 0.9)
    assert presence.unseen == 0.0


def test_a_gap_in_the_stream_is_not_evidence() -> None:
    presence = Presence(PresenceConfig(lost_after=2 * MAX_STEP))
    presence.start()
    assert feed(presence, 0.0, step=60.0) == [State.UNCERTAIN]
    assert feed(presence, 0.0, step=60.0) == [State.LOST]


def test_not_a_number_is_no_sighting() -> None:
    presence = started()
    assert feed(presence, math.nan) == [State.UNCERTAIN]
    assert feed(presence, *[math.nan] * 5)[-1] is State.LOST
    assert feed(presence, *[math.nan] * 5)[-1] is State.LOST


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1, 5))))
def test_lost_only_after_enough_time_and_back_only_on_a_high_score(
    samples: list[tuple[float, float]],
) -> None:
    presence = started()
    low = seen = 0.0
    was_seen = False
    for score, elapsed in samples:
        before = presence.state
        after = presence.update(score, elapsed)
        if before is State.TRACKING:
            low = 0.0
        step = min(max(elapsed, 0.0), MAX_STEP)
        low += step if score < CONFIG.uncertain_score else 0.0
        is_seen = score >= CONFIG.tracking_score
        seen = seen + step if is_seen and was_seen else 0.0
        was_seen = is_seen
        if after is State.LOST and before is not State.LOST:
            assert low >= CONFIG.lost_after - 1e-6
        if before is State.UNCERTAIN and after is State.TRACKING:
            assert seen >= CONFIG.recover_after - 1e-6
        if before is State.LOST and after is not State.LOST:
            assert after is State.TRACKING
            assert score >= CONFIG.recover_score


@pytest.mark.parametrize(
    "wrong",
    [
        {"uncertain_score": 0.75},
        {"recover_score": 0.4},
        {"recover_score": 1.1},
        {"uncertain_score": -0.1},
        {"tracking_score": math.nan},
        {"lost_after": -1.0},
        {"recover_after": math.nan},
    ],
)
def test_a_senseless_configuration_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        PresenceConfig(**wrong)
