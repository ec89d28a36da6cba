"""Trial i is a pure function of seed and i; ranges are drawn from as they say."""

import hashlib
import json
import math
import os
import subprocess
import sys
from collections import Counter

import pytest

from qa_accel.experiments.random_sampler import RandomSampler, uniform
from qa_accel.experiments.space import Parameter

SPACE = (
    Parameter("learning_rate", "float", 1e-5, 1e-3, log=True),
    Parameter("batch", "choice", choices=(8, 16, 32)),
    Parameter("steps", "int", 1, 1000, log=True),
)
DRAWS = 10_000


def drawn(parameter: Parameter, count: int = DRAWS) -> list:
    sampler = RandomSampler((parameter,), seed=7)
    return [sampler.params(number)[parameter.name] for number in range(count)]


def test_a_draw_is_the_hash_of_seed_number_and_name():
    """By hand, from SHA-2's sister that hashlib has: breaks if anything else goes in."""
    digest = hashlib.blake2b(b'[3, 5, "learning_rate"]', digest_size=8).digest()
    share = (int.from_bytes(digest, "big") // 2048) / 2**53
    assert uniform(3, 5, "learning_rate") == share
    expected = float(f"{10 ** (-5 + 2 * share):.6g}")
    assert RandomSampler(SPACE, 3).params(5)["learning_rate"] == pytest.approx(expected, rel=1e-6)


def test_neither_order_nor_other_parameters_nor_pythons_hash_seed_change_a_trial():
    """Breaks if a generator is shared between trials or parameters, or a set's order goes in."""
    forwards = [RandomSampler(SPACE, 0).params(number) for number in range(8)]
    sampler = RandomSampler(SPACE[::-1], 0)
    backwards = [sampler.params(number) for number in reversed(range(8))]
    assert backwards[::-1] == forwards
    alone = RandomSampler(SPACE[:1], 0)
    assert [alone.params(number)["learning_rate"] for number in range(8)] == [one["learning_rate"] for one in forwards]
    program = (
        "import json; from qa_accel.experiments.random_sampler import RandomSampler; "
        "from qa_accel.experiments.space import Parameter; "
        f"space = tuple(map(Parameter.from_dict, {[one.as_dict() for one in SPACE]})); "
        "print(json.dumps([RandomSampler(space, 0).params(number) for number in (7, 2)]))"
    )
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        said = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert json.loads(said.stdout) == [forwards[7], forwards[2]]


def test_seeds_and_trials_differ():
    """Breaks if every trial or every seed draws the same."""
    values = {RandomSampler(SPACE, seed).params(number)["learning_rate"] for seed in range(10) for number in range(100)}
    assert len(values) == 1000


@pytest.mark.parametrize("log", [False, True], ids=["linear", "log"])
def test_numbers_of_a_range_are_uniform_in_it(log):
    """Against the distribution's own function, by Kolmogorov and Smirnov. Breaks if `log` is ignored or a base is wrong."""
    stats = pytest.importorskip("scipy.stats")
    values = drawn(Parameter("x", "float", 1e-5, 1e-2, log=log))
    expected = stats.loguniform(1e-5, 1e-2) if log else stats.uniform(1e-5, 1e-2 - 1e-5)
    assert min(values) >= 1e-5 and max(values) <= 1e-2
    assert stats.kstest(values, expected.cdf).pvalue > 0.001


def alike(counts: Counter, number: int) -> bool:
    """Each of so many values within five standard deviations of its share."""
    expected = DRAWS / number
    deviation = math.sqrt(expected * (1 - 1 / number))
    return len(counts) == number and all(abs(count - expected) < 5 * deviation for count in counts.values())


def test_integers_steps_and_choices_are_all_as_likely():
    """Breaks if the last value of a range is never drawn, or the first twice as seldom as the others."""
    assert alike(Counter(drawn(Parameter("x", "int", 3, 9))), 7)
    assert set(drawn(Parameter("x", "int", 3, 9))) == {3, 4, 5, 6, 7, 8, 9}
    assert alike(Counter(drawn(Parameter("x", "int", 0, 100, step=25))), 5)
    stepped = Counter(drawn(Parameter("x", "float", 0.0, 0.3, step=0.1)))
    assert alike(stepped, 4) and set(stepped) == {0.0, 0.1, 0.2, 0.3}
    assert set(drawn(Parameter("x", "float", 0.0, 1.0, step=0.4))) == {0.0, 0.4, 0.8}
    assert alike(Counter(drawn(Parameter("x", "choice", choices=("a", None, True)))), 3)


def test_integers_on_a_log_scale():
    """1, 2 and 3 have the shares log(1.5/0.5), log(2.5/1.5) and log(3.5/2.5) of log(3.5/0.5). Breaks if 1 and 3 get half."""
    counts = Counter(drawn(Parameter("x", "int", 1, 3, log=True)))
    assert all(type(value) is int for value in counts)
    for value, share in {1: math.log(3), 2: math.log(5 / 3), 3: math.log(7 / 5)}.items():
        assert counts[value] / DRAWS == pytest.approx(share / math.log(7), abs=0.025)
