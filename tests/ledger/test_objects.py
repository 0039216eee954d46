"""Objects are whole or absent, stay inside their folder, and come back as they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vivavoce.ledger.errors import ObjectMissing, ObjectStoreUnavailable
from vivavoce.ledger.objects import ObjectStore


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return ObjectStore("memory://" if request.param == "memory" else f"file://{tmp_path}/a folder/objects")


def test_put_get_list_delete(store: ObjectStore) -> None:
    data = os.urandom(3_000_000)
    store.put("outputs/b", data)
    store.put("outputs/a", b"")
    store.put("requests/c", b"c")
    assert store.get("outputs/b") == data
    assert store.get("outputs/a") == b""
    assert store.list() == ["outputs/a", "outputs/b", "requests/c"]
    assert store.list("outputs") == ["outputs/a", "outputs/b"]
    store.put("outputs/a", b"new")
    assert store.get("outputs/a") == b"new"
    store.delete("outputs/a")
    store.delete("outputs/a")
    assert store.list("outputs") == ["outputs/b"]
    with pytest.raises(ObjectMissing):
        store.get("outputs/a")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "a//b", "../secret", "a/../../secret", ".", "a/", "a/./b", "a b", "é", "a\n", "a" * 201]
)
def test_no_key_leads_out_of_the_store(store: ObjectStore, key: str) -> None:
    for attempt in (lambda: store.put(key, b"x"), lambda: store.get(key), lambda: store.delete(key)):
        with pytest.raises(ValueError, match="not an object key"):
            attempt()


def test_objects_outlive_the_process_that_put_them(tmp_path: Path) -> None:
    ObjectStore(f"file://{tmp_path}/o").put("a/b", b"x")
    assert ObjectStore(f"file://{tmp_path}/o").get("a/b") == b"x"


def test_a_broken_store_says_so(tmp_path: Path) -> None:
    store = ObjectStore(f"file://{tmp_path}/o")
    store.put("a", b"x")
    with pytest.raises(ObjectStoreUnavailable):
        store.put("a/b", b"a file stands where a folder is needed")


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(ValueError, match="not an object store"):
        ObjectStore("ftp://host/x")
