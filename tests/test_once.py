"""The runs of one process share what the first of them has loaded."""

from __future__ import annotations

import gc
import weakref

import pytest

from frostline.once import Once


class Thing:
    pass


def test_an_equal_key_gets_the_same_thing() -> None:
    once, made = Once(), []

    def make() -> Thing:
        made.append(Thing())
        return made[-1]

    assert once("encoder", ("minilm", [1]), make) is once("encoder", ("minilm", [1]), make) is made[0]
    assert once("encoder", ("minilm", [2]), make) is made[1]
    assert once("data", ("minilm", [2]), make) is made[2]
    assert once("encoder", ("minilm", [2]), make) is made[1], "kinds do not displace one another"
    assert len(made) == 3


def test_nothing_is_a_thing_too() -> None:
    once, made = Once(), []
    for _ in range(2):
        assert once("kind", None, lambda: made.append(1)) is None
    assert made == [1]


def test_only_the_last_of_a_kind_is_kept_and_gone_before_the_next_is_made() -> None:
    once = Once()
    first = weakref.ref(once("encoder", 1, Thing))

    def make() -> Thing:
        gc.collect()
        assert first() is None
        return Thing()

    once("encoder", 2, make)
    assert once("encoder", 1, Thing) is not None


def test_what_could_not_be_made_is_tried_again() -> None:
    once = Once()
    once("encoder", 1, Thing)
    with pytest.raises(ZeroDivisionError):
        once("encoder", 2, lambda: 1 / 0)
    assert once("encoder", 2, lambda: "now") == "now"


def test_what_is_forgotten_is_made_anew() -> None:
    once = Once()
    first = once("encoder", 1, Thing)
    once.forget()
    assert once("encoder", 1, Thing) is not first
