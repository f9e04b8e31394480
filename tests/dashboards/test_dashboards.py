"""The dashboards of the Node world show a queue of ours and act on it.

Both are what the npm registry has (package.json); pages are read and clicked in headless Chromium. bull-board
works as it comes. Arena 4.10 does not work with bullmq 6 by itself, on any queue: it asks for `queue.client`,
which went away, and its server ends with "Cannot read properties of undefined (reading 'info')". board.mjs
hands it a Queue with that one property; everything else is Arena's own.
"""

from __future__ import annotations

import pytest
from conftest import STATES
from running import until

QUEUE = "work"
NAMES = {
    "active": "novel",
    "waiting": "letter",
    "prioritized": "telegram",
    "delayed": "birthday card",
    "waiting-children": "book",
    "completed": "letter",
    "failed": "letter",
}


class Pages:
    """The pages of one dashboard, each read when all of `has` is on it."""

    def __init__(self, board, dashboard, paths):
        self._board = board
        self._paths = paths
        self._root = board.ask("serve", dashboard=dashboard, queue=QUEUE)

    def read(self, page, *has, **names):
        self._board.ask("open", url=self._root + self._paths[page].format(**names))
        return self._board.ask("text", has=list(has))

    def click(self, selector, **tip):
        self._board.ask("click", selector=selector, **tip)

    def click_for(self, selector, *has, **tip):
        self.click(selector, **tip)
        return self._board.ask("text", has=list(has))


@pytest.fixture
def bull_board(board):
    state = "/queue/work?status={state}"
    return Pages(
        board, "bull-board", {"state": state, "job": f"/queue/{QUEUE}/{{id}}", "queue": f"/queue/{QUEUE}"}
    )


@pytest.fixture
def arena(board):
    home = f"/oxherd/{QUEUE}"
    paths = {"state": f"{home}/{{state}}", "job": f"{home}/{{id}}", "queue": home}
    return Pages(board, "arena", paths)


def test_bull_board_lists_jobs_in_every_state_and_acts_on_them(letters, bull_board, picture):
    for state, job_id in letters.jobs.items():
        bull_board.read("state", f"#{job_id}" if job_id.isdigit() else job_id, NAMES[state], state=state)
    bull_board.read("state", "birthday card", "Will run at", state="delayed")
    picture("bull-board-delayed")
    bull_board.click_for("[title='Queue info']", "Workers\n1\n")

    bull_board.read("job", "novel", "60%", id=letters.jobs["active"])
    bull_board.click_for("role=tab[name=Logs]", "page 1 is written", "page 2 is written")
    picture("bull-board-active")

    failed = letters.jobs["failed"]
    bull_board.read(
        "job", "Traceback", "ValueError: no stamp on the letter to Ada", 'letters.py", line', id=failed
    )
    picture("bull-board-failed")
    bull_board.read("state", f"#{failed}", state="failed")
    bull_board.click("[class*=jobActions] button", tip="Retry")
    bull_board.click("role=button[name=Confirm]")
    until(lambda: letters.state(failed) == "waiting", "bull-board retries the failed job")

    delayed = letters.jobs["delayed"]
    bull_board.read("state", "birthday card", state="delayed")
    bull_board.click(f"[class*=card]:has-text('#{delayed}') [class*=jobActions] button", tip="Promote")
    bull_board.click("role=button[name=Confirm]")
    until(lambda: letters.state(delayed) == "waiting", "bull-board promotes the delayed job")
    letters.release()
    for job_id in (failed, delayed):
        until(lambda job_id=job_id: letters.state(job_id) == "completed", "the master runs what was put back")


def test_arena_lists_jobs_in_every_state_and_acts_on_them(letters, arena, picture):
    arena.read("queue", *(f"{2 if state == 'delayed' else 1}\n{state.title()}" for state in STATES))
    picture("arena-queue")
    for state in STATES:
        arena.read("state", f"{letters.jobs[state]} {NAMES[state]}", state=state)

    arena.read("job", "novel", "60%", "page 1 is written", "page 2 is written", id=letters.jobs["active"])
    picture("arena-active")

    failed = letters.jobs["failed"]
    arena.read("job", "Stacktraces", "Traceback", "ValueError: no stamp on the letter to Ada", id=failed)
    picture("arena-failed")
    arena.click_for("text=/^\\s*Retry\\s*$/", "Waiting")  # asked by the browser, and confirmed there
    until(lambda: letters.state(failed) == "waiting", "Arena retries the failed job")

    delayed = letters.jobs["delayed"]
    arena.read("job", "birthday card", "Promote", id=delayed)
    arena.click_for("text=/^\\s*Promote\\s*$/", "Waiting")
    until(lambda: letters.state(delayed) == "waiting", "Arena promotes the delayed job")
    letters.release()
    for job_id in (failed, delayed):
        until(lambda job_id=job_id: letters.state(job_id) == "completed", "the master runs what was put back")
