"""Frames: judged by their header, before their body is waited for."""

from __future__ import annotations

import pytest

from sandbox import wire
from sandbox.wire import FrameError, Kind


def test_a_frame_is_cut_off_when_it_is_complete_and_not_before():
    whole = wire.frame(Kind.LOG, b"row", 7, 5) + wire.frame(Kind.PROGRESS, b"1")
    buffer = bytearray()
    taken = []
    for byte in whole:
        buffer.append(byte)
        if (found := wire.take_frame(buffer, wire.FROM_RUNNER)) is not None:
            taken.append(found)

    assert taken == [(Kind.LOG, b"row", 7, 5), (Kind.PROGRESS, b"1", 0, 0)]
    assert not buffer


def test_an_oversized_frame_is_refused_before_its_body():
    """I7."""
    header = bytearray(wire.HEADER.pack(Kind.COMPLETED, 7, 1001, 0))

    with pytest.raises(FrameError, match="frame of kind 21 with 1001 bytes"):
        wire.take_frame(header, wire.FROM_RUNNER, max_body=1000)


@pytest.mark.parametrize("kind", [0, 9, 255, Kind.GO, Kind.START])
def test_a_kind_that_a_runner_may_not_send_is_refused(kind):
    """I7."""
    with pytest.raises(FrameError):
        wire.take_frame(bytearray(wire.HEADER.pack(kind, 0, 0, 0)), wire.FROM_RUNNER)
