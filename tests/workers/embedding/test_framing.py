"""Answers as bytes."""

import json

import numpy as np
import pytest

from inglenook.workers.embedding.framing import frame, total


@pytest.mark.parametrize("word", ["", "a", "ab", "abc"])
def test_a_frame_is_a_length_a_head_and_aligned_floats(word: str) -> None:
    """Whatever the head's length, floats begin at a multiple of four."""
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    more = np.arange(3, dtype=np.float32)
    parts = frame({"word": word}, [vectors, more])
    data = b"".join(parts)
    assert total(parts) == len(data)
    size = int.from_bytes(data[:4], "little")
    assert size % 4 == 0
    assert json.loads(data[4 : 4 + size]) == {"word": word}
    assert np.frombuffer(data, "<f4", offset=4 + size).tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]


def test_nothing_and_rows_of_larger_arrays_have_their_bytes() -> None:
    """Empty arrays have none; an array that is no block of memory is copied into one."""
    empty = np.empty((0, 3), np.float32)
    columns = np.arange(6, dtype=np.float32).reshape(2, 3)[:, :2]
    parts = frame({}, [empty, columns])
    assert [len(part) for part in parts] == [8, 0, 16]
    assert np.frombuffer(parts[2], "<f4").tolist() == [0, 1, 3, 4]
