"""The model of guest processes: what fork, exit, wait, kill, groups and sessions do, and who is told."""

from collections.abc import Iterable

import pytest

from client_vm.abi import common
from client_vm.errors import Errno
from client_vm.process_table import (
    CLD_CONTINUED,
    CLD_EXITED,
    CLD_KILLED,
    CLD_STOPPED,
    FIRST_PID,
    INIT_PID,
    P_ALL,
    P_PGID,
    P_PID,
    SI_KERNEL,
    Delivery,
    Ended,
    News,
    ProcessTable,
    Signal,
    State,
    Uids,
)
from client_vm.terminals import CALLERS, Control

ROOT = Uids(0, 0, 0)
USER = Uids(1000, 1000, 1000)
OTHER = Uids(2000, 2000, 2000)
DONE = Ended(CLD_EXITED, 7, 11, 22)
EXITED = common.WEXITED


@pytest.fixture
def table() -> ProcessTable:
    return ProcessTable(USER)


def born(table: ProcessTable, *pids: int, parent: int = FIRST_PID) -> None:
    for pid in pids:
        table.fork(parent, pid, common.SIGCHLD)


def signals(told: Iterable[Delivery]) -> list[tuple[int, int]]:
    """(pid, signal) of each delivery but orphans' new parents; signal 0: children have changed."""
    heard = [each for each in told if not each.new_parent]
    return [(each.pid, each.signal.signal if each.signal else 0) for each in heard]


def adopted(told: Iterable[Delivery]) -> list[tuple[int, int]]:
    """(pid, its new parent)."""
    return [(each.pid, each.new_parent) for each in told if each.new_parent]


def errno_of(call: object, *arguments: object) -> int:
    assert callable(call)
    with pytest.raises(Errno) as raised:
        call(*arguments)
    return raised.value.errno


def wait(table: ProcessTable, options: int = EXITED, *, pid: int = FIRST_PID) -> News | None:
    return table.wait(pid, P_ALL, 0, options)


# Birth and death.


def test_child_inherits(table: ProcessTable) -> None:
    first = table.get(FIRST_PID)
    first.no_zombies = first.subreaper = True
    first.name = b"sh"
    born(table, 3)
    child = table.get(3)
    assert (child.parent, child.group, child.session, child.uids) == (FIRST_PID, FIRST_PID, FIRST_PID, USER)
    assert (child.no_zombies, child.name) == (True, b"sh")
    assert (child.subreaper, child.executed, child.leads_session, child.children) == (False, False, False, {})


def test_fork_is_checked(table: ProcessTable) -> None:
    assert errno_of(table.fork, FIRST_PID, 3, 65) == common.EINVAL
    assert errno_of(table.fork, 9, 3, 17) == common.ESRCH
    born(table, 3)
    table.exit(3, DONE)
    assert errno_of(table.fork, 3, 4, 17) == common.ESRCH
    assert 4 not in table


def test_exit_makes_a_zombie_and_tells_the_parent(table: ProcessTable) -> None:
    born(table, 3)
    told = table.exit(3, DONE)
    assert told == [Delivery(2, None), Delivery(2, Signal(common.SIGCHLD, CLD_EXITED, 3, 1000, 7))]
    assert table.get(3).state == State.ZOMBIE
    assert wait(table) == News(3, 1000, CLD_EXITED, 7, 11, 22)
    assert 3 not in table
    assert errno_of(wait, table) == common.ECHILD


def test_exit_twice(table: ProcessTable) -> None:
    born(table, 3)
    table.exit(3, DONE)
    assert errno_of(table.exit, 3, DONE) == common.ESRCH


def test_other_exit_signals(table: ProcessTable) -> None:
    table.fork(FIRST_PID, 3, 0)
    table.fork(FIRST_PID, 4, common.SIGHUP)
    assert signals(table.exit(3, DONE)) == [(2, 0)]
    assert signals(table.exit(4, DONE)) == [(2, 0), (2, common.SIGHUP)]


def test_no_zombies(table: ProcessTable) -> None:
    """SIGCHLD ignored or SA_NOCLDWAIT: the signal goes out all the same, the worker knows what to do with it."""
    table.get(FIRST_PID).no_zombies = True
    born(table, 3, 4)
    assert signals(table.exit(3, DONE)) == [(2, 0), (2, common.SIGCHLD)]
    assert 3 not in table
    assert wait(table) is None
    table.exit(4, DONE)
    assert errno_of(wait, table) == common.ECHILD
    table.fork(FIRST_PID, 5, common.SIGHUP)
    table.exit(5, DONE)
    assert table.get(5).state == State.ZOMBIE  # only SIGCHLD's disposition counts


def test_orphans_go_to_init_which_reaps(table: ProcessTable) -> None:
    born(table, 3)
    born(table, 4, 5, parent=3)
    table.exit(5, DONE)
    told = table.exit(3, DONE)
    assert {pid for pid, _ in signals(told)} == {2}
    assert adopted(told) == [(4, INIT_PID)]  # the one that lives
    assert table.get(4).parent == INIT_PID
    assert 5 not in table
    assert table.exit(4, DONE) == []
    assert 4 not in table


def test_orphans_go_to_the_nearest_living_subreaper(table: ProcessTable) -> None:
    table.get(FIRST_PID).subreaper = True
    born(table, 3)
    table.get(3).subreaper = True
    born(table, 4, parent=3)
    table.fork(4, 5, common.SIGHUP)
    born(table, 6, parent=4)
    table.exit(6, DONE)
    told = table.exit(4, DONE)
    assert (table.get(5).parent, table.get(5).exit_signal, table.get(6).parent) == (3, common.SIGCHLD, 3)
    assert signals(told) == [(3, 0), (3, common.SIGCHLD), (3, 0), (3, common.SIGCHLD)]
    assert adopted(told) == [(5, 3)]
    assert [wait(table, pid=3), wait(table, pid=3)] == [News(4, 1000, 1, 7, 11, 22), News(6, 1000, 1, 7, 11, 22)]
    table.exit(3, DONE)
    assert table.get(5).parent == FIRST_PID


# Waiting.


def test_wait_takes_the_oldest_child_with_news(table: ProcessTable) -> None:
    born(table, 3, 4, 5)
    for pid in (5, 4):
        table.exit(pid, DONE)
    found = [wait(table), wait(table), wait(table)]
    assert [news.pid if news else 0 for news in found] == [4, 5, 0]


def test_wait_by_pid_and_group(table: ProcessTable) -> None:
    born(table, 3, 4)
    table.set_group(FIRST_PID, 4, 0)
    for pid in (3, 4):
        table.exit(pid, DONE)
    keep = EXITED | common.WNOWAIT
    found = [table.wait(2, *which, keep) for which in ((P_PID, 4), (P_PGID, 4), (P_PGID, 2), (P_PGID, 0))]
    assert [news.pid if news else 0 for news in found] == [4, 4, 3, 3]
    assert errno_of(table.wait, 2, P_PID, 9, keep) == common.ECHILD
    assert errno_of(table.wait, 2, P_PGID, 9, keep) == common.ECHILD
    assert errno_of(table.wait, 2, P_PID, FIRST_PID, keep) == common.ECHILD


@pytest.mark.parametrize(
    ("id_type", "number", "options"),
    [(3, 3, EXITED), (P_PID, 0, EXITED), (P_ALL, 0, 0), (P_ALL, 0, common.WNOHANG), (P_ALL, 0, EXITED | 0x10)],
)
def test_wait_is_checked(table: ProcessTable, id_type: int, number: int, options: int) -> None:
    born(table, 3)
    assert errno_of(table.wait, FIRST_PID, id_type, number, options) == common.EINVAL


def test_wait_for_clones(table: ProcessTable) -> None:
    born(table, 3)
    assert errno_of(wait, table, EXITED | common.WCLONE) == common.ECHILD
    table.fork(FIRST_PID, 4, 0)
    table.exit(4, DONE)
    assert wait(table) is None
    keep = common.WNOWAIT
    for options in (EXITED | common.WALL | keep, EXITED | common.WCLONE | keep, EXITED | common.WALL):
        news = wait(table, options)
        assert news and news.pid == 4
    assert errno_of(wait, table, EXITED | common.WCLONE) == common.ECHILD


def test_stops_and_goes_on(table: ProcessTable) -> None:
    born(table, 3)
    told = table.stop(3, common.SIGTSTP)
    assert told == [
        Delivery(2, None),
        Delivery(2, Signal(common.SIGCHLD, CLD_STOPPED, 3, 1000, common.SIGTSTP)),
    ]
    assert table.stop(3, common.SIGSTOP) == []
    assert wait(table, EXITED | common.WCONTINUED) is None
    assert wait(table, common.WSTOPPED | common.WNOWAIT) == News(3, 1000, CLD_STOPPED, common.SIGTSTP)
    assert wait(table, common.WSTOPPED) == News(3, 1000, CLD_STOPPED, common.SIGTSTP)
    assert wait(table, common.WSTOPPED) is None
    assert signals(table.go_on(3)) == [(2, 0), (2, common.SIGCHLD)]
    assert table.go_on(3) == []
    assert wait(table, common.WSTOPPED) is None
    assert wait(table, common.WCONTINUED) == News(3, 1000, CLD_CONTINUED, common.SIGCONT)
    assert wait(table, common.WCONTINUED) is None


def test_zombies_are_nothing_to_wait_for_without_wexited(table: ProcessTable) -> None:
    born(table, 3)
    table.stop(3, common.SIGSTOP)
    table.exit(3, Ended(CLD_KILLED, 9))
    assert errno_of(wait, table, common.WSTOPPED) == common.ECHILD
    assert wait(table) == News(3, 1000, CLD_KILLED, 9)


def test_no_stops(table: ProcessTable) -> None:
    table.get(FIRST_PID).no_stops = True
    born(table, 3)
    assert signals(table.stop(3, common.SIGSTOP)) == [(2, 0)]
    assert signals(table.go_on(3)) == [(2, 0)]


def test_stop_is_checked(table: ProcessTable) -> None:
    born(table, 3)
    assert errno_of(table.stop, 3, common.SIGTERM) == common.EINVAL
    table.set_session(3)
    assert errno_of(table.stop, 3, common.SIGTSTP) == common.EPERM  # orphaned: nobody could continue it
    assert table.get(3).state == State.RUNNING
    table.stop(3, common.SIGSTOP)
    assert table.get(3).state == State.STOPPED


def test_first_process_may_be_stopped_from_the_terminal(table: ProcessTable) -> None:
    born(table, 3)
    assert table.stop(FIRST_PID, common.SIGTSTP) == []  # its parent is init
    assert not table.is_stopped(FIRST_PID)
    table.stop(3, common.SIGTSTP)
    assert table.is_stopped(FIRST_PID)
    assert not table.is_stopped(99)


# Groups and sessions.


def test_set_group(table: ProcessTable) -> None:
    born(table, 3, 4)
    table.set_group(3, 0, 0)
    assert table.get(3).group == 3
    table.set_group(FIRST_PID, 4, 3)
    assert table.get(4).group == 3
    table.exit(3, DONE)
    wait(table)
    table.set_group(4, 0, FIRST_PID)
    assert errno_of(table.set_group, 4, 0, 3) == common.EPERM  # no such group any more


def test_set_group_is_checked(table: ProcessTable) -> None:
    born(table, 3, 4, 5)
    born(table, 6, parent=3)
    assert errno_of(table.set_group, 2, 99, 0) == common.ESRCH
    assert errno_of(table.set_group, 2, 6, 0) == common.ESRCH  # a grandchild
    assert errno_of(table.set_group, 3, 4, 0) == common.ESRCH  # a sister
    assert errno_of(table.set_group, 2, 0, 0) == common.EPERM  # leads a session
    assert errno_of(table.set_group, 3, 0, 1 << 31) == common.EINVAL
    table.get(3).executed = True
    assert errno_of(table.set_group, 2, 3, 0) == common.EACCES
    table.set_group(3, 0, 0)  # itself it may
    table.set_session(4)
    assert errno_of(table.set_group, 2, 4, 0) == common.EPERM  # another session's
    assert errno_of(table.set_group, 5, 0, 4) == common.EPERM


def test_set_session(table: ProcessTable) -> None:
    born(table, 3, 4)
    assert errno_of(table.set_session, FIRST_PID) == common.EPERM
    table.set_session(3)
    process = table.get(3)
    assert (process.group, process.session, process.leads_session) == (3, 3, True)
    table.set_group(4, 0, 0)
    assert errno_of(table.set_session, 4) == common.EPERM
    born(table, 5, parent=4)
    table.set_group(4, 0, FIRST_PID)
    assert errno_of(table.set_session, 4) == common.EPERM  # a child is still in its group


def test_foreground(table: ProcessTable) -> None:
    born(table, 3, 4)
    table.set_group(3, 0, 0)
    assert table.get_foreground(3) == FIRST_PID
    table.set_foreground(FIRST_PID, 3)
    assert table.get_foreground(FIRST_PID) == table.foreground == 3
    assert errno_of(table.set_foreground, 2, 99) == common.ESRCH
    assert errno_of(table.set_foreground, 2, 1 << 31) == common.EINVAL
    table.set_session(4)
    assert errno_of(table.set_foreground, 2, 4) == common.EPERM
    assert errno_of(table.set_foreground, 4, 4) == common.ENOTTY
    assert errno_of(table.get_foreground, 4) == common.ENOTTY
    assert table.foreground == 3


def test_session_leader_takes_the_terminal_along(table: ProcessTable) -> None:
    born(table, 3)
    table.set_group(3, 0, 0)
    table.set_foreground(2, 3)
    told = table.exit(FIRST_PID, DONE)
    assert Delivery(3, Signal(common.SIGHUP, SI_KERNEL)) in told
    assert errno_of(table.get_foreground, 3) == common.ENOTTY


def test_other_terminals(table: ProcessTable) -> None:
    """TIOCSCTTY, TIOCNOTTY, keys and hangup of a pseudo-terminal; the caller's is another one."""
    born(table, 3, 4)
    assert errno_of(table.take_terminal, 3, 5) == common.EPERM  # it leads no session
    assert errno_of(table.take_terminal, FIRST_PID, 5) == common.EPERM  # it has another one
    table.set_session(3)
    assert errno_of(table.find_terminal, 3) == common.ENXIO
    table.take_terminal(3, 5)
    table.take_terminal(3, 5)
    assert (table.find_terminal(3), table.find_terminal(4)) == (5, CALLERS)
    table.set_session(4)
    assert errno_of(table.take_terminal, 4, 5) == common.EPERM  # it has another session
    assert errno_of(table.control_of, FIRST_PID, 5, False) == common.ENOTTY
    assert table.control_of(FIRST_PID, 5, by_master=True) == Control(3, 3)
    assert table.signal_foreground(5, common.SIGINT) == [Delivery(3, Signal(common.SIGINT, SI_KERNEL))]
    assert table.signal_foreground(6, common.SIGINT) == []
    assert errno_of(table.signal_foreground, 5, common.SIGKILL) == common.EINVAL
    assert errno_of(table.leave_terminal, 4, 5) == common.ENOTTY
    assert errno_of(table.leave_terminal, FIRST_PID, CALLERS) == common.EPERM
    told = [Delivery(3, Signal(number, SI_KERNEL)) for number in (common.SIGHUP, common.SIGCONT)]
    assert table.leave_terminal(3, 5) == told
    table.take_terminal(3, 5)
    assert table.hang_up(5) == told
    assert table.hang_up(5) == []
    assert errno_of(table.find_terminal, 3) == common.ENXIO
    assert table.foreground == FIRST_PID


def test_orphaned_group_with_stopped_members(table: ProcessTable) -> None:
    """The last parent in another group of the session ends: SIGHUP, SIGCONT (setpgid(2), exit(3))."""
    born(table, 3)
    born(table, 4, 5, parent=3)
    table.set_group(3, 4, 0)
    table.set_group(3, 5, 4)
    table.stop(4, common.SIGSTOP)
    assert not table.is_orphaned(4)
    told = table.exit(3, DONE)
    assert signals(told)[:4] == [
        (4, common.SIGHUP), (5, common.SIGHUP), (4, common.SIGCONT), (5, common.SIGCONT)
    ]  # fmt: skip
    assert signals(told).count((4, common.SIGHUP)) == 1
    assert table.get(4).state == State.RUNNING


def test_orphaned_group_without_stopped_members(table: ProcessTable) -> None:
    born(table, 3)
    born(table, 4, parent=3)
    table.set_group(3, 4, 0)
    assert {pid for pid, _ in signals(table.exit(3, DONE))} == {FIRST_PID}


def test_a_tie_of_another_member_keeps_a_group(table: ProcessTable) -> None:
    born(table, 3, 4)
    table.set_group(3, 0, 0)
    table.set_group(2, 4, 3)
    born(table, 5, parent=3)
    table.stop(5, common.SIGSTOP)
    assert {pid for pid, _ in signals(table.exit(3, DONE))} == {FIRST_PID}
    assert (common.SIGHUP in [number for _, number in signals(table.exit(4, DONE))]) is True


# Signals.


def test_kill_targets(table: ProcessTable) -> None:
    born(table, 3, 4, 5)
    table.set_group(3, 0, 0)
    table.set_group(2, 4, 3)
    sent = Signal(common.SIGTERM)
    assert table.kill(5, 4, sent) == [Delivery(4, Signal(common.SIGTERM, 0, 5, 1000))]
    assert signals(table.kill(3, 0, sent)) == [(3, 15), (4, 15)]
    assert signals(table.kill(2, -3, sent)) == [(3, 15), (4, 15)]
    assert signals(table.kill(4, -1, sent)) == [(2, 15), (3, 15), (5, 15)]
    assert table.kill(3, 4, Signal(0)) == []
    assert table.kill(3, INIT_PID, sent) == []  # init has no handlers
    for target in (99, -99, -(1 << 31)):
        assert errno_of(table.kill, 3, target, sent) == common.ESRCH
    assert errno_of(table.kill, 3, 4, Signal(65)) == common.EINVAL
    assert errno_of(table.kill, 3, 99, Signal(65)) == common.ESRCH


def test_kill_everybody_when_alone(table: ProcessTable) -> None:
    assert errno_of(table.kill, FIRST_PID, -1, Signal(15)) == common.ESRCH


def test_kill_zombies(table: ProcessTable) -> None:
    born(table, 3)
    table.set_group(3, 0, 0)
    table.exit(3, DONE)
    assert table.kill(2, 3, Signal(9)) == []
    assert table.kill(2, -3, Signal(9)) == []


@pytest.mark.parametrize(
    ("mine", "theirs", "may"),
    [
        (ROOT, OTHER, True),
        (USER, OTHER, False),
        (USER, ROOT, False),
        (Uids(1000, 2000, 1000), OTHER, True),
        (Uids(2000, 1000, 1000), OTHER, True),
        (Uids(1000, 1000, 2000), OTHER, False),
        (USER, Uids(2000, 2000, 1000), True),
        (USER, Uids(2000, 1000, 2000), False),
    ],
)
def test_kill_permission(table: ProcessTable, mine: Uids, theirs: Uids, may: bool) -> None:
    born(table, 3, 4)
    table.set_session(4)
    table.get(3).uids, table.get(4).uids = mine, theirs
    for number in (0, common.SIGTERM, common.SIGCONT):
        if may:
            table.kill(3, 4, Signal(number))
        else:
            assert errno_of(table.kill, 3, 4, Signal(number)) == common.EPERM


def test_kill_leaves_out_whom_it_may_not(table: ProcessTable) -> None:
    born(table, 3, 4)
    table.get(4).uids = OTHER
    assert signals(table.kill(3, 0, Signal(15))) == [(2, 15), (3, 15)]
    assert signals(table.kill(3, 4, Signal(common.SIGCONT))) == [(4, common.SIGCONT)]  # the same session
    assert errno_of(table.kill, 4, -1, Signal(15)) == common.EPERM


def test_continue_by_kill(table: ProcessTable) -> None:
    born(table, 3)
    table.stop(3, common.SIGSTOP)
    wait(table, common.WSTOPPED)
    told = table.kill(2, 3, Signal(common.SIGCONT))
    assert signals(told) == [(2, 0), (2, common.SIGCHLD), (3, common.SIGCONT)]
    assert wait(table, common.WCONTINUED) == News(3, 1000, CLD_CONTINUED, common.SIGCONT)


def test_the_kernels_own_signals(table: ProcessTable) -> None:
    born(table, 3)
    sent = Signal(common.SIGINT, SI_KERNEL)
    assert table.post(3, sent) == [Delivery(3, sent)]
    assert table.post(99, sent) == []
    assert signals(table.post_group(2, sent)) == [(2, 2), (3, 2)]
    assert [process.pid for process in table] == [1, 2, 3]
