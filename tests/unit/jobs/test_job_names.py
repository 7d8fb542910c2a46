"""Keys of sounds: names that every system takes, and never the same for two ids."""

from hypothesis import given
from hypothesis import strategies as st

from cosy_sync.jobs.names import key_of


def test_a_plain_id_is_the_files_name_in_one_of_256_folders() -> None:
    key = key_of("a1", "wav")
    assert key.endswith("/a1.wav") and len(key) == len("00/a1.wav")
    assert len({key_of(str(number), "wav")[:2] for number in range(5_000)}) == 256


def test_an_id_with_slashes_makes_its_own_folders() -> None:
    assert key_of("book/chapter 1/三", "mp3") == "book/chapter 1/三.mp3"


def test_nothing_leaves_the_folder_or_hides_in_it() -> None:
    assert key_of("../../etc/passwd", "wav") == "%2E%2E/%2E%2E/etc/passwd.wav"
    assert key_of("/etc", "wav") == "%/etc.wav"
    assert key_of("x/.cosy-job", "wav") == "x/%2Ecosy-job.wav"


def test_a_folders_name_ends_with_no_dot_or_space_that_a_windows_share_would_forget() -> None:
    assert key_of("book. /x. /a.", "wav") == "book.%20/x.%20/a..wav"
    assert key_of("v1./a", "wav") == "v1%2E/a.wav" != key_of("v1/a", "wav")


def test_a_folder_of_an_id_is_neither_one_of_the_256_nor_called_as_a_sound_is() -> None:
    plain = key_of("a1", "wav")
    assert key_of(plain.removesuffix(".wav"), "wav") == f"%{ord(plain[0]):02X}{plain[1:]}"
    assert key_of("x/a", "wav") == "x/a.wav"
    assert key_of("x/a.wav/b", "wav") == "x/a%2Ewav/b.wav"


@given(st.lists(st.text(min_size=1, max_size=300), min_size=2, max_size=2, unique=True))
def test_two_ids_never_get_the_same_key(ids: list[str]) -> None:
    first, second = (key_of(id, "wav") for id in ids)
    assert first != second
    for key in (first, second):
        for part in key.split("/"):
            assert part not in ("", ".", "..") and len(part.encode()) <= 255
            assert not set(part) & set('\0\n"*:<>?\\|')
