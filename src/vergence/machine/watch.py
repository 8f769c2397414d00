"""The signs of life of the processes that train one run: each beats, and notices who does not."""

import json
import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any, NoReturn

from torch.distributed import Store

from vergence.errors import MachineError

BEAT = 0.5
"""Seconds between two signs of life."""
MISSED = 30
"""Beats that a rank may miss: then it hangs, for the others."""
MISSED_AFTER_FAULT = 5
"""Beats that may be missed where the connection to some rank broke, and only the question is which."""


class Lost(MachineError):
    """Another rank is gone: the message names it, or is empty where it has said why itself, or another has named it."""

    def __init__(self, message: str, exit_code: int = MachineError.exit_code):
        super().__init__(message)
        self.exit_code = exit_code


class Watch(threading.Thread):
    """Beats, looks whether the others do, and ends this process where one does not.

    Args:
        store: of its own: the main thread may be waiting in another.
        rank: of this process.
        size: of the group.
        launched: whether the launcher keeps the store; else rank 0 does.
    """

    def __init__(self, store: Store, rank: int, size: int, launched: bool):
        super().__init__(name="watch", daemon=True)
        self.store, self.rank, self.size, self.keeps = store, rank, size, rank == 0 and not launched
        who = "the launcher, which keeps the meeting," if launched else "rank 0"
        self.no_answer = f"{who} was killed, or hangs; what was saved stands: start all again with --resume"
        self.closing, self.departing = threading.Event(), False
        self.beats = dict.fromkeys((other for other in range(size) if other != rank), 0)
        self.missed = dict.fromkeys(self.beats, 0)
        self.looks = 0
        self.patience = 4  # beats that the main thread has to leave by itself, once another rank has failed
        self.beating = threading.Thread(target=self._beat, name="beat", daemon=True)

    def start(self) -> None:
        """Start both threads: the one that beats and the one that watches."""
        self.beating.start()
        super().start()

    def run(self) -> None:
        """See that the looks go on: a store whose process hangs answers neither with an error nor in time."""
        before, still = 0, 0
        while not self.closing.wait(BEAT):
            still = still + 1 if self.looks == before else 0
            before = self.looks
            if still >= MISSED:
                self._end(Lost(self.no_answer))

    def _beat(self) -> None:
        while not self.closing.wait(BEAT):
            try:
                self._look()
            except RuntimeError:
                if not self.closing.wait(BEAT):
                    self._end(Lost(self.no_answer))
                return
            self.looks += 1
            if self.departing:
                continue
            if self.failed() is not None:
                self.patience -= 1
            if max(self.missed.values()) >= MISSED or self.patience < 0:
                lost = self.lost("no answer")
                self.shutdown()
                self._end(lost)

    def _look(self) -> None:
        """Missed beats are counted in beats of our own, so that a machine that slept as a whole misses none."""
        self.store.add(f"beat/{self.rank}", 1)
        for other, before in self.beats.items():
            self.beats[other] = self.store.add(f"beat/{other}", 0)
            self.missed[other] = self.missed[other] + 1 if self.beats[other] == before else 0

    def failed(self) -> dict[str, Any] | None:
        """What the first rank that failed said."""
        return json.loads(self.store.get("failed")) if self.store.check(["failed"]) else None

    def fail(self, message: str, exit_code: int) -> dict[str, Any]:
        """Tell the others that this rank leaves, and why; returns what the first that did so said."""
        mine = json.dumps({"rank": self.rank, "message": message, "exit_code": exit_code})
        return json.loads(self.store.compare_set("failed", "", mine))

    def lost(self, reason: str) -> Lost:
        """Return the error that names the lost rank: one that said so, or else one whose beats stop now."""
        until = time.monotonic() + 3 * MISSED_AFTER_FAULT * BEAT
        with suppress(RuntimeError):
            while self.failed() is None:
                silent = [rank for rank, missed in self.missed.items() if missed >= MISSED_AFTER_FAULT]
                if silent or time.monotonic() > until:
                    who = " and ".join(f"rank {rank}" for rank in silent) or "the connection to another rank"
                    what = "was killed, or hangs" if silent else f"broke ({reason})"
                    message = f"{who} {what}; what was saved stands: start all again with --resume"
                    first = self.fail(message, Lost("").exit_code)
                    return Lost(message if first["rank"] == self.rank else "", first["exit_code"])
                time.sleep(BEAT / 2)
            said = self.failed()
            assert said is not None
            return Lost("", said["exit_code"])
        return Lost(self.no_answer)

    def stop(self) -> None:
        """Beat no longer. A thread that Python ends in the middle of a call of torch takes the whole process with it
        (SIGABRT, after all is done), so the one that asks the store is waited for, unless it hangs there.
        """
        self.closing.set()
        for thread in (self, self.beating):
            if thread is not threading.current_thread():
                thread.join(MISSED_AFTER_FAULT * BEAT)

    def shutdown(self) -> None:
        """Leave with an error. The process with the store stays until the others have gone: they ask there why."""
        self.departing = True
        if not self.keeps:
            self.closing.set()
        with suppress(RuntimeError):
            self.store.add("departed", 1)
            until = time.monotonic() + MISSED_AFTER_FAULT * 4 * BEAT
            while self.keeps and self.store.add("departed", 0) < self.size and time.monotonic() < until:
                if min(self.missed.values()) >= MISSED_AFTER_FAULT:
                    break
                time.sleep(BEAT / 5)
        self.stop()

    def _end(self, error: Lost) -> NoReturn:
        """From a thread of the watch: the main one may be where no exception reaches it."""
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
