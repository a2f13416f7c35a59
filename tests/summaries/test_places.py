"""Folders and their files, here and elsewhere; and what is read ahead."""
import threading

import fsspec
import pytest

from beam_coresets.summaries.places import AHEAD, LocalPlace, ahead, places_of


def test_both_kinds_of_folder_are_alike(tmp_path):
    files = fsspec.filesystem("memory")
    for name in ("a.txt", "deep/b.txt", "deep/er/c.txt", ".hidden/d.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        files.pipe(f"/places/{name}", name.encode())
    for place in (*places_of(str(tmp_path)), *places_of(f"file://{tmp_path}"), *places_of("memory://places")):
        assert place.names_in("deep") == ["b.txt"]
        assert place.names_in("nothing") == place.files_under("nothing") == []
        assert place.files_under("deep") == ["b.txt", "er/c.txt"]
        assert place.names_in(".hidden") == ["d.txt"]
        assert place.read("deep/er/c.txt") == b"deep/er/c.txt"
        with pytest.raises(FileNotFoundError):
            place.read("deep/nothing")
    files.rm("/places", recursive=True)


def test_a_folder_may_be_called_like_a_glob(tmp_path):
    (tmp_path / "a[1]").mkdir()
    assert [place.name for place in places_of(str(tmp_path / "a[1]"))] == [str(tmp_path / "a[1]")]
    assert isinstance(places_of(str(tmp_path / "a*"))[0], LocalPlace)


@pytest.mark.parametrize("readers", [1, 5])
def test_things_come_in_their_order_and_few_are_made_ahead(readers):
    made, lock = [], threading.Lock()

    def do(i):
        with lock:
            made.append(i)
        if i == 3:
            raise ValueError("three")
        return i * i

    seen = []
    for i, future in ahead(range(100), do, readers):
        assert max(made, default=0) <= i + AHEAD * readers + 1
        if i == 3:
            with pytest.raises(ValueError, match="three"):
                future.result()
        else:
            assert future.result() == i * i
        seen.append(i)
    assert seen == list(range(100))
    for i, _ in ahead(range(1000), do, readers):  # who stops early leaves the rest undone
        if i == 5:
            break
    assert len(made) < 100 + 20 + 3 * AHEAD * readers
