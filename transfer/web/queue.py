"""Decides which requests are let in, and whose turn it is: a thread does one piece of work at a
time, with a bounded queue before it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio.to_thread


class Busy(Exception):
    """The queue is full; `seconds` says when to come again."""

    def __init__(self, seconds: int):
        super().__init__(f"too many requests are waiting; try again in {seconds} s")
        self.seconds = seconds


class Queue:
    """At most `longest` requests and `room` bytes of uploads are held at once; work is done first
    come, first served."""

    def __init__(self, longest: int, room: int):
        self.longest, self.room = longest, room
        self.waiting = self.held = 0
        self.seconds = 0.5  # a running mean of what a piece of work takes
        self.turn = asyncio.Lock()

    @contextmanager
    def place(self, size: int) -> Iterator[None]:
        """A place in the queue for an upload of at most `size` bytes. Raises Busy."""
        if self.waiting >= self.longest or (self.waiting and self.held + size > self.room):
            raise Busy(max(1, math.ceil(self.waiting * self.seconds / 2)))
        self.waiting += 1
        self.held += size
        try:
            yield
        finally:
            self.waiting -= 1
            self.held -= size

    async def work(self, function: Callable, gone: Callable):
        """What function() returns, or None if `await gone()` says that nobody waits for it any
        more."""
        async with self.turn:
            if await gone():
                return None
            start = time.monotonic()
            # Not abandoned when the request is cancelled: the thread goes on, and two at a time
            # would break the promise.
            done = await anyio.to_thread.run_sync(function, abandon_on_cancel=False)
            self.seconds += 0.2 * (time.monotonic() - start - self.seconds)
            return done
