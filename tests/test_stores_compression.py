from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_defer.errors import InvalidBundle
from ci_defer.stores.compression import BLOCK, compressed, decompressed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MB = 1024 * 1024


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The bytes in chunks of these sizes, and the rest in one."""
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


SIZES = st.lists(st.integers(0, 3000), max_size=20)
TEXT = st.builds(lambda piece, times: piece * times, st.binary(max_size=300), st.integers(0, 50))


@settings(deadline=None)
@given(TEXT, SIZES, SIZES)
def test_decompressed__gives_back_what_was_compressed_however_it_is_cut(
    data: bytes, before: list[int], after: list[int]
) -> None:
    packed = b"".join(compressed(cut(data, before)))
    assert b"".join(decompressed(cut(packed, after), len(data))) == data


@pytest.mark.parametrize("data", [os.urandom(3 * MB + 1), b"\0" * 20 * MB], ids=["noise", "zeros"])
@pytest.mark.parametrize("size", [1, 70, 65_536, 100 * MB])
def test_decompressed__of_large_data_is_in_small_blocks(data: bytes, size: int) -> None:
    packed = b"".join(compressed(cut(data, [MB] * 20)))
    if size == 1:
        packed, data = b"".join(compressed([data[:3000]])), data[:3000]
    chunks = (packed[start : start + size] for start in range(0, len(packed), size))
    blocks = list(decompressed(chunks, len(data)))
    assert b"".join(blocks) == data
    assert 0 < max(map(len, blocks)) <= BLOCK


def test_compressed__is_one_frame_that_any_zstd_reads() -> None:
    packed = b"".join(compressed([b"one", b"", b"two"]))
    assert zstd.decompress(packed) == b"onetwo"
    assert zstd.decompress(b"".join(compressed([]))) == b""


def test_compressed__is_the_same_for_the_same_blocks() -> None:
    blocks = [b"a" * MB, os.urandom(1000), b"b" * MB]
    assert b"".join(compressed(blocks)) == b"".join(compressed(blocks))


def test_both__take_no_more_memory_for_more_data() -> None:
    block = os.urandom(MB)

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            packed = compressed(block for _ in range(count))
            moved = sum(len(part) for part in decompressed(packed, count * MB))
            assert moved == count * MB
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)
    assert peak(60) < peak(3) + 2 * MB


WHOLE = b"".join(compressed([b"hello " * 1000]))
SIZE = 6000


def refused(data: bytes, size: int = SIZE, *, at: int = 0) -> str:
    """Why these bytes are refused, in one chunk or in two that are cut at `at`."""
    with pytest.raises(InvalidBundle) as caught:
        list(decompressed(cut(data, [at] if at else []), size))
    return caught.value.message


@pytest.mark.parametrize("left", range(len(WHOLE)))
def test_decompressed__of_what_is_cut_short_is_refused(left: int) -> None:
    assert refused(WHOLE[:left]) == "It is cut short."
    with pytest.raises(InvalidBundle, match="cut short"):
        list(decompressed([], SIZE))


@pytest.mark.parametrize(
    ("size", "expected"), [(5999, "more than 5,999 bytes"), (0, "more than 0")]
)
def test_decompressed__of_more_than_was_said_is_refused(size: int, expected: str) -> None:
    assert expected in refused(WHOLE, size)


def test_decompressed__of_less_than_was_said_is_refused() -> None:
    assert refused(WHOLE, SIZE + 1) == "It is cut short."


@pytest.mark.parametrize("data", [b"\0" * 100, b"{" * 100, b"\x1f\x8b\x08" + b"\0" * 100])
def test_decompressed__of_no_frame_is_refused(data: bytes) -> None:
    assert refused(data).startswith("It is damaged: ")


def test_decompressed__of_a_flipped_bit_is_refused_or_of_the_same_size() -> None:
    # There is no checksum in it: that is the work of the SHA-256.
    for index in range(len(WHOLE)):
        data = WHOLE[:index] + bytes([WHOLE[index] ^ 0x10]) + WHOLE[index + 1 :]
        try:
            assert len(b"".join(decompressed([data], SIZE))) == SIZE
        except InvalidBundle:
            continue


TRAILING = {"a zero": b"\0", "a frame": WHOLE, "a frame to skip": b"\x50\x2a\x4d\x18\x01\0\0\0x"}


@pytest.mark.parametrize("trailing", TRAILING.values(), ids=TRAILING)
@pytest.mark.parametrize("at", [0, 5, len(WHOLE)], ids=["one chunk", "two", "a chunk of its own"])
def test_decompressed__with_something_behind_the_frame_is_refused(trailing: bytes, at: int) -> None:
    assert refused(WHOLE + trailing, at=at)


def test_decompressed__of_a_frame_that_wants_too_much_memory_is_refused() -> None:
    data = os.urandom(1000) * 40_000
    packed = zstd.compress(data, options={int(zstd.CompressionParameter.window_log): 27})
    assert "damaged" in refused(packed, len(data))


def test_decompressed__of_a_bomb_stops_at_the_size_that_was_said() -> None:
    bomb = zstd.compress(b"\0" * 100 * MB)
    blocks: list[int] = []
    with pytest.raises(InvalidBundle, match="more than 5,000,000 bytes"):
        blocks.extend(map(len, decompressed([bomb], 5_000_000)))
    assert sum(blocks) <= 5_000_000


def test_decompressed__of_a_bomb_takes_little_memory() -> None:
    bomb = zstd.compress(b"\0" * 200 * MB)
    tracemalloc.start()
    try:
        assert "more than" in refused(bomb, 0)
        assert tracemalloc.get_traced_memory()[1] < 10 * MB
    finally:
        tracemalloc.stop()
