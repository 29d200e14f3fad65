"""What was asked for last."""

from __future__ import annotations

from pytest_k8snet.record.latest import Latest


def test_what_was_asked_for_last_is_held() -> None:
    made: list[str] = []
    latest: Latest[str] = Latest(2)

    def ask(key: str) -> str | None:
        def make() -> str:
            made.append(key)
            return key.upper()

        return latest.get(key, make)

    assert [ask(key) for key in "ababcab"] == list("ABABCAB")
    assert made == ["a", "b", "c", "a", "b"], "a was the one asked for longest ago, then b"
    assert "a" in latest
    assert "c" not in latest


def test_nothing_is_not_held() -> None:
    latest: Latest[str] = Latest(2)
    assert latest.get("a", lambda: None) is None
    assert latest.get("a", lambda: "A") == "A"
    assert latest.get("a", lambda: None) == "A"


def test_two_who_make_it_at_the_same_time_get_the_same() -> None:
    latest: Latest[list[int]] = Latest(2)
    first = latest.get("a", lambda: latest.get("a", lambda: [1]) and [2])
    assert first == [1]
    assert latest.get("a", list) is first
