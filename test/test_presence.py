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
    assert feed(presence, 0.8, 0.1, 0.8, 0.8) == [State.LOST] * 3 + [State.TRACKING]


def test_seen_again_in_time_is_not_lost() -> None:
    presence = started()
    feed(presence, *[0.0] * 4)
    assert feed(presence, 0.5, 0.5) == [State.UNCERTAIN, State.TRACKING]
    assert feed(presence, *[0.0] * 4) == [State.UNCERTAIN] * 4  # the time below starts anew


def test_single_high_scores_among_low_ones_are_no_return() -> None:
    presence = started()
    # two of three are low: 0.5 s of them are over in the seventh frame
    flicker = [0.1, 0.1, 0.9] * 3
    assert feed(presence, *flicker) == [State.UNCERTAIN] * 6 + [State.LOST] * 3
    # a lost target is back after 0.2 s of high scores, the last of those above among them
    assert feed(presence, 0.8, 0.8) == [State.TRACKING] * 2


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
    low = 0.0
    for score, elapsed in samples:
        before = presence.state
        after = presence.update(score, elapsed)
        if before is State.TRACKING:
            low = 0.0
        low += max(elapsed, 0.0) if score < CONFIG.uncertain_score else 0.0
        if after is State.LOST and before is not State.LOST:
            assert low >= CONFIG.lost_after
        if before is State.LOST and after is not State.LOST:
            assert after is State.TRACKING
            assert score >= CONFIG.recover_score


@pytest.mark.parametrize(
    "wrong",
    [
        {"uncertain_score": 0.6},
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
