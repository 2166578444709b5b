"""Tests of the embedded object store's cache of accounts and containers: the cache returns copies of its values,
and its entries expire.
"""

from devstack.swift.memory import Memory


def test_cached_value_exists_only_until_it_expires() -> None:
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


def test_cache_returns_copies_and_deletes_values() -> None:
    memory, value = Memory(), {"acl": ["reader"]}
    memory.set("container/a/b", value, time=60)
    value["acl"].append("everybody")
    memory.get("container/a/b")["acl"].append("everybody")
    assert memory.get("container/a/b") == {"acl": ["reader"]}
    memory.delete("container/a/b")
    memory.delete("container/a/b")
    assert memory.get("container/a/b") is None
