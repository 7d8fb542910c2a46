"""Keys that were accepted, by endpoint."""

from cosy_sync.policies import AcceptedKeys


def test_a_key_is_known_where_it_was_accepted() -> None:
    keys = AcceptedKeys()
    keys.add("http://a", 1)
    assert ("http://a", 1) in keys
    assert ("http://a", 2) not in keys and ("http://b", 1) not in keys


def test_a_program_with_a_key_for_each_user_does_not_grow_for_ever() -> None:
    keys = AcceptedKeys()
    for key in range(10_000):
        keys.add("http://a", key)
    assert ("http://a", 9_999) in keys
    assert sum(("http://a", key) in keys for key in range(10_000)) <= 4_096
