"""Learning rates against values worked out by hand."""

import pytest

from siamkd_core.errors import ConfigError
from siamkd_core.schedule import ScheduleConfig, learning_rate


def by_epoch(config, epochs, lr=1e-2, lr_end=1e-5, per_epoch=3):
    rates = [learning_rate(config, lr, lr_end, epochs, s, per_epoch) for s in range(epochs * 3)]
    return rates[::3], rates


def test_exponential_golden():
    assert by_epoch(ScheduleConfig(), 4)[0] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5])


def test_cosine_golden():
    rates, _ = by_epoch(ScheduleConfig("cosine"), 5, 1.0, 0.2)
    assert rates == pytest.approx([1.0, 0.8828427, 0.6, 0.3171573, 0.2])


def test_step_golden():
    rates, _ = by_epoch(ScheduleConfig("step", milestones=(1, 4)), 5, 1.0, 0.01)
    assert rates == pytest.approx([1.0, 0.1, 0.1, 0.1, 0.01])


def test_the_warm_up_rises_step_by_step_and_the_decay_takes_the_rest():
    _, rates = by_epoch(ScheduleConfig(warmup_epochs=2), 5, 1.0, 0.01)
    assert rates[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0])
    assert rates[6:] == pytest.approx([1.0] * 3 + [0.1] * 3 + [0.01] * 3)


def test_one_epoch_has_the_first_rate():
    for kind in ("exponential", "cosine"):
        assert by_epoch(ScheduleConfig(kind), 1)[0] == [1e-2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "linear"}, "exponential, cosine, step"),
        ({"kind": "step"}, "needs some"),
        ({"milestones": (3,)}, "belong to the kind step"),
        ({"kind": "step", "milestones": (3, 2)}, "rise"),
        ({"warmup_epochs": 8}, "below epochs"),
        ({"kind": "step", "milestones": (8,)}, "below epochs"),
        ({"kind": "step", "milestones": (2,), "warmup_epochs": 2}, "after the warm-up"),
    ],
)
def test_what_does_not_fit_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        ScheduleConfig(**values).check(8)
