"""What the kernel process keeps of a remote file server's answers is never stale: two kernel processes write and
read by turns, in virtual time, while links break, are cut for longer than leases, and the server dies; and each
rule of the protocol is needed, for without it stale answers are seen."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from client_vm import answers, consulting
from ipc.seams import Clock
from servers import leases
from servers.file import consults, tree
from servers.file.inodes import Inode
from servers.service import NotYetError
from tests.contract.kept_registers import Run
from tests.contract.kept_world import Report

SECONDS = 120.0
SEEDS = range(6)
MUTANT_SEEDS = range(40)
"""What a rule is for happens in every third run or more."""


@pytest.fixture(autouse=True)
def one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio takes its tasks in an order by chance, of a generator of its own: `run` seeds it."""
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)


def run(directory: Path, seed: int, seconds: float = SECONDS, faults: bool = True) -> Report:
    directory.mkdir()
    trio._core._run._r.seed(seed)
    return trio.run(Run(directory, seed, faults=faults).main, seconds, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_stale_is_read(tmp_path: Path, seed: int) -> None:
    report = run(tmp_path / "world", seed)
    assert report.stale == []
    assert report.slow == []
    assert report.reads > 100 and report.writes > 10


def test_answers_are_kept_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody writes, most is answered without the server."""
    asked, kept = [0], [0]
    get = answers.Answers.get

    def counting(self: answers.Answers, key: object, now_s: float) -> answers.Kept | None:
        found = get(self, key, now_s)
        asked[0] += 1
        kept[0] += found is not None
        return found

    monkeypatch.setattr(answers.Answers, "get", counting)
    assert run(tmp_path / "world", 1, faults=False).stale == []
    assert kept[0] > asked[0] / 4


def nobody_waits(patch: pytest.MonkeyPatch) -> None:
    """The change happens at once, the recalls go out."""
    check = leases.Leases.check

    def hasty(self: leases.Leases, changed: set[int]) -> None:
        try:
            check(self, changed)
        except NotYetError:
            return

    patch.setattr(leases.Leases, "check", hasty)


def recalls_are_not_heeded(patch: pytest.MonkeyPatch) -> None:
    recalled = answers.Answers.recalled
    patch.setattr(
        answers.Answers, "recalled", lambda self, grant, number, _inodes: recalled(self, grant, number, ())
    )


def recalls_are_told_once(patch: pytest.MonkeyPatch) -> None:
    """Who was told counts as having heard."""
    news = leases.Leases._news

    def once(holder: leases.Holder) -> object:
        answer = news(holder)
        holder.unheard.clear()
        return answer

    patch.setattr(leases.Leases, "_news", staticmethod(once))


def the_client_believes_for_longer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(answers, "LEASE_SHARE", 20.0)
    patch.setattr(answers, "ANSWER_S", 60.0)


def a_lapsed_lease_goes_on(patch: pytest.MonkeyPatch) -> None:
    """The holder does not hear that its lease was over for a while."""
    restart = leases.Leases._restart

    def silent(self: leases.Leases, holder: leases.Holder) -> None:
        grant = holder.grant
        restart(self, holder)
        holder.grant = grant or holder.grant

    patch.setattr(leases.Leases, "_restart", silent)
    patch.setattr(answers, "ANSWER_S", 60.0)


def no_grace_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    init = leases.Leases.__init__

    def forgetful(self: leases.Leases, clock: Clock, boot_epoch: int, before: object = ()) -> None:
        del before
        init(self, clock, boot_epoch)

    patch.setattr(leases.Leases, "__init__", forgetful)


def late_answers_are_kept(patch: pytest.MonkeyPatch) -> None:
    """Though what they depend upon was recalled since."""
    heard = answers.Answers.heard
    patch.setattr(
        answers.Answers,
        "heard",
        lambda self, grant, _number, lease_ms, at: heard(self, grant, 1 << 60, lease_ms, at),
    )


def bytes_depend_on_nothing(patch: pytest.MonkeyPatch) -> None:
    """PRead in Consult names another inode."""
    patch.setattr(consults.Consults, "_read", _read_unseen(consults.Consults._read))


def _read_unseen(read: Callable[..., object]) -> Callable[..., object]:
    def unseen(self: consults.Consults, session: object, body: bytes) -> object:
        see = self._tree.see
        self._tree.see = lambda _ino: see(1 << 50)
        return read(self, session, body)

    return unseen


def names_depend_on_the_root_alone(patch: pytest.MonkeyPatch) -> None:
    child = tree.Tree.child

    def unseen(self: tree.Tree, directory: Inode, name: bytes) -> object:
        see, self.see = self.see, tree.unheeded
        try:
            return child(self, directory, name)
        finally:
            self.see = see

    patch.setattr(tree.Tree, "child", unseen)


def who_waited_gets_that_answer(patch: pytest.MonkeyPatch) -> None:
    """Though it may be older than their question."""
    taken = consulting.Consulting._taken

    def always(self: consulting.Consulting, reply: object, count: int, sent_s: float) -> object:
        answered, _ = taken(self, reply, count, sent_s)  # type: ignore[arg-type]
        for each in answered if isinstance(answered, list) else ():
            each.inodes.append(1 << 50)
        return answered, isinstance(answered, list)

    patch.setattr(consulting.Consulting, "_taken", always)


MUTANTS = [
    nobody_waits,
    recalls_are_not_heeded,
    recalls_are_told_once,
    the_client_believes_for_longer,
    a_lapsed_lease_goes_on,
    no_grace_after_a_restart,
    late_answers_are_kept,
    bytes_depend_on_nothing,
    names_depend_on_the_root_alone,
    who_waited_gets_that_answer,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_each_rule_is_needed(tmp_path: Path, mutant: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        for seed in MUTANT_SEEDS:
            if run(tmp_path / f"world{seed}", seed).stale:
                return
    pytest.fail("nobody noticed")
