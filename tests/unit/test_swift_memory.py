"""Tests of the object store's cache of accounts and containers: it returns copies, and its entries expire."""

from devstack.swift.memory import Memory


def test_what_was_set_is_there_for_its_time_alone() -> None:
    now = 0.0
    memory = Memory(monotonic=lambda: now)
    memory.set("container/a/b", {"status": 204}, time=60)
    memory.set("account/a", {"status": 404}, time=6)
    now = 59.9
    assert memory.get("container/a/b") == {"status": 204}
    assert memory.get("account/a") is None
    now = 60.0
    assert memory.get("container/a/b") is None
    assert memory.get("never") is None


def test_what_is_got_is_a_copy_and_what_was_deleted_is_gone() -> None:
    memory, value = Memory(), {"acl": ["reader"]}
    memory.set("container/a/b", value, time=60)
    value["acl"].append("everybody")
    memory.get("container/a/b")["acl"].append("everybody")
    assert memory.get("container/a/b") == {"acl": ["reader"]}
    memory.delete("container/a/b")
    memory.delete("container/a/b")
    assert memory.get("container/a/b") is None
