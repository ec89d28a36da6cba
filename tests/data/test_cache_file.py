"""Hashes of large files: a start reads samples, whoever asks for more reads all."""

import pytest

from qa_accel.data import cache_file


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A sealed file of 1,003 bytes, of which 8 pieces of 10 are samples."""
    monkeypatch.setattr(cache_file, "PIECE", 10)
    monkeypatch.setattr(cache_file, "SAMPLED", 8)
    path = tmp_path / "windows-1.arrow"
    path.write_bytes(bytes(place % 251 for place in range(1003)))
    cache_file.seal(path, path.name)
    return path


def with_byte(path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_samples_are_the_first_piece_the_last_and_some_between(large):
    """993 * n // 7 for n from 0 to 7. Breaks if the end of a file, which a full disk cuts, is not among them."""
    assert list(cache_file._samples(1003)) == [0, 141, 283, 425, 567, 709, 851, 993]
    assert cache_file.content(large).to_pybytes() == bytes(place % 251 for place in range(1003))
    for place in (0, 9, 141, 150, 859, 1002):
        with_byte(large, place)
        assert cache_file.damage_of(large, whole=False) is not None and cache_file.damage_of(large) is not None
        with_byte(large, place)
    assert cache_file.damage_of(large) is None and cache_file.damage_of(large, whole=False) is None


def test_a_start_reads_no_more_than_the_samples(large, monkeypatch):
    """Byte 10 is in no sample. Breaks if the time of a start grows with its windows, or if the whole hash does not see it."""
    with_byte(large, 10)
    assert cache_file.is_usable(large, check=True)
    assert cache_file.damage_of(large) == "its hash differs from the one that it was written with"


@pytest.mark.parametrize("cut", [1, 30, 500])
def test_a_file_that_is_cut_off_or_longer_is_damaged_without_its_whole_hash(large, cut):
    written = large.read_bytes()
    for content in (written[:-cut], written + b"x" * cut, written[cut:], b"x" * cut + written):
        large.write_bytes(content)
        assert cache_file.damage_of(large, whole=False) is not None


def test_files_up_to_the_samples_are_read_whole(tmp_path):
    """Of the toy, and of a hundred thousand questions, each byte counts at every start."""
    path = tmp_path / "questions-1.arrow"
    path.write_bytes(b"x" * 50_000)
    cache_file.seal(path, path.name)
    for place in (0, 25_000, 49_999):
        with_byte(path, place)
        assert cache_file.damage_of(path, whole=False) is not None
        with_byte(path, place)
    assert cache_file.damage_of(path, whole=False) is None
