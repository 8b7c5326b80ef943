"""Who runs next: the threads of a worker take turns on its CPU, and what waits is woken.

One task is on the CPU at a time. A task leaves it when its call must wait, when its time is up and another
could run, when it is stopped, or when it ends. With nobody to run the worker sleeps in one poll(2) over host
descriptors, rings and the doorbell.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from client_vm.errors import Errno, GuestExit, Replaced, ThreadExit
from client_vm.faults import fault
from client_vm.process import Process, Task
from client_vm.segments import fetch_again
from client_vm.signals import attend, interrupts, stop_waiting
from client_vm.stubs import CAUSE_PREEMPTED, CAUSE_TRAP
from client_vm.timers import NEVER, HostAlarm
from client_vm.trap import trap
from client_vm.waiting import Blocking, Interrupted, Wait
from ipc.seams import Clock

if TYPE_CHECKING:
    from client_vm.preemption import Ticks

_NAP_S: Final = 100_000.0
"""poll(2) takes no more than 2^31 ms; who sleeps longer is looked at in between."""
_STOPPED: Final = Wait()
"""Of a task whose process is stopped: SIGCONT wakes it, and it looks again at what it really waits for."""


class Idle(Protocol):
    """Where a worker sleeps."""

    def __call__(self, descriptors: list[tuple[int, int]], timeout_s: float | None) -> list[tuple[int, int]]:
        """Waits until a descriptor is ready, a ring has something, or the time is up; the ready descriptors."""
        ...


class Ends(Protocol):
    """What becomes of processes and threads that end (client_vm.lives)."""

    def thread_ended(self, task: Task, status: int) -> None: ...

    def process_ended(self, process: Process, ended: GuestExit) -> None: ...


class Hearing(Protocol):
    """Whom news are for (client_vm.link): there are some while more were told than heard."""

    told: memoryview
    heard: int


class _Deaf:
    def __init__(self) -> None:
        self.told = memoryview(bytes(8)).cast("Q")
        self.heard = 0


class Scheduler:
    """The tasks of one worker."""

    def __init__(self, clock: Clock, idle: Idle, ticks: "Ticks", ends: Ends) -> None:
        self._clock = clock
        self.idle = idle
        self._ticks = ticks
        self._ends = ends
        self.alarm = HostAlarm(clock)
        self._ready: deque[Task] = deque()
        self._sleeping: dict[Task, Wait] = {}
        self.loaded: Task | None = None
        """Whose registers are on the CPU."""
        self.news: Callable[[], None] = lambda: None
        """Takes what the kernel process has sent, if anything: signals, children."""
        self.hearing: Hearing = _Deaf()

    # -- who is there ---------------------------------------------------------------------------

    def add(self, task: Task) -> None:
        """A new task, to run when its turn comes, though the one that made it may never wait."""
        self._ready.append(task)
        self._ticks.want(True)

    def wake(self, task: Task) -> None:
        """Has a waiting task look again; a task that does not wait is left alone."""
        wait = self._sleeping.pop(task, None)
        if wait is not None:
            for event in wait.events:
                event.waiters.discard(task)
            self._ready.append(task)

    def remove(self, task: Task) -> None:
        """The task is gone, whatever it was doing."""
        wait = self._sleeping.pop(task, None)
        if wait is not None:
            for event in wait.events:
                event.waiters.discard(task)
        elif task in self._ready:
            self._ready.remove(task)
        if task.call is not None:
            task.call.close()
            task.call = None
        if self.loaded is task:
            self.loaded = None
        task.ended = True

    def keep_only(self, kept: Task) -> None:
        """After a fork: of all tasks only one came along; it goes on where it is."""
        for task in [*self._sleeping, *self._ready]:
            if task is not kept:
                self.remove(task)

    def processes(self) -> list[Process]:
        """Whose tasks are here, each once."""
        return list({task.process: None for task in [*self._ready, *self._sleeping, self.loaded] if task})

    @property
    def others_wait(self) -> bool:
        """Whether somebody besides the running task may want the CPU soon."""
        return bool(self._ready or self._sleeping)

    # -- running --------------------------------------------------------------------------------

    def run(self) -> None:
        """Runs until no task is left."""
        while True:
            if not self._ready and not self._sleeping:
                return
            task = self._next()
            if task.call is not None and task.attention:
                stop_waiting(task)
            if task.process.stopped:
                self._park(task, _STOPPED)
                continue
            try:
                if task.call is not None and not self._advance(task):
                    continue
                self._load(task)
                if self.hearing.told[0] > self.hearing.heard:
                    self.news()
                if task.attention or task.interrupted is not None:
                    attend(task)
                self._slice(task)
            except Replaced:
                if not task.ended:  # a vfork child has gone to a worker of its own
                    self._ready.appendleft(task)
            except ThreadExit as ended:
                self._ends.thread_ended(task, ended.status)
            except GuestExit as ended:
                self._ends.process_ended(task.process, ended)

    def _next(self) -> Task:
        """The next task to run; sleeps until there is one."""
        while not self._ready:
            self._sleep(None)
        return self._ready.popleft()

    def _sleep(self, timeout_s: float | None) -> None:
        """One look at everything that tasks wait for, for at most that long (None: until something comes)."""
        descriptors: dict[int, int] = {}
        deadline = self.alarm.deadline
        for wait in self._sleeping.values():
            for descriptor, events in wait.descriptors:
                descriptors[descriptor] = descriptors.get(descriptor, 0) | events
            if wait.deadline is not None and wait.deadline < deadline:
                deadline = wait.deadline
        if deadline < NEVER:
            left_s = max(0.0, deadline - self._clock.monotonic_s())
            timeout_s = min(left_s if timeout_s is None else min(timeout_s, left_s), _NAP_S)
        ready = dict(self.idle(list(descriptors.items()), timeout_s))
        self.news()
        now = self._clock.monotonic_s()
        if self.alarm.deadline <= now:
            self._fire(now)
        for task, wait in list(self._sleeping.items()):
            if (
                wait.rings
                or (wait.deadline is not None and wait.deadline <= now)
                or any(descriptor in ready for descriptor, _ in wait.descriptors)
            ):
                self.wake(task)

    def _fire(self, now: float) -> None:
        """The timers of real time that are due."""
        for process in self.processes():
            process.timers.fire(process, now)

    def _park(self, task: Task, wait: Wait) -> None:
        self._sleeping[task] = wait
        for event in wait.events:
            event.waiters.add(task)

    def _advance(self, task: Task) -> bool:
        """Goes on with a call that waits. True: it is over, and its result waits for the registers."""
        call = task.call
        assert call is not None
        try:
            began = task.wait is None
            if began:
                task.wait = next(call)  # a call's first look comes before signals, and tells how it restarts
            if task.attention and interrupts(task):
                wait = call.throw(Interrupted())
            else:
                wait = task.wait if began and task.wait is not None else next(call)
        except StopIteration as done:
            task.result = done.value
        except Interrupted:
            assert task.wait is not None
            task.interrupted = task.wait.restart
        except Errno as error:
            task.result = -error.errno
        else:
            task.wait = wait
            self._park(task, wait)
            return False
        task.call = task.wait = None
        return True

    def _load(self, task: Task) -> None:
        """Puts a task on the CPU, and writes the result of the call it comes from."""
        cpu = task.cpu
        if self.loaded is not task:
            before = self.loaded
            if before is not None:
                if before.context is None:
                    before.context = before.cpu.new_context()
                before.cpu.save(before.context)
            if task.context is not None:
                cpu.restore(task.context)
            for name, value in task.registers:
                cpu.write_register(name, value)
            task.registers = ()
            self.loaded = task
        if task.result is not None:
            cpu.set_result(task.result)
            task.result = None

    def _slice(self, task: Task) -> None:
        """The task runs until it must wait or others are due."""
        run, space = task.cpu.run, task.process.space
        self._ticks.want(self.others_wait or bool(space.shared_writable))
        while True:
            if space.changing:
                if space.stale:
                    fetch_again(task.process)
                space.notice_cuts()
            cause = run() if not space.shared_writable else self._run_alone(task)
            if cause == CAUSE_TRAP:
                call = trap(task)
                if call is not None and not self._begin(task, call):
                    return
                if self.hearing.told[0] > self.hearing.heard:
                    self.news()  # what the call saw may have come after a signal: that comes first
            elif cause == CAUSE_PREEMPTED:
                if self._preempted(task):
                    self._ready.append(task)
                    return
            else:
                fault(task)
            if task.attention:
                attend(task)
                if task.process.stopped:
                    self._ready.append(task)
                    return

    def _run_alone(self, task: Task) -> int:
        """As cpu.run, with the run lock: no other process that shares memory runs meanwhile, or the emulator's
        atomic operations would not be atomic between the two."""
        self._ticks.want(True)
        with task.kernel.house.run_lock():
            return task.cpu.run()

    def _begin(self, task: Task, call: Blocking) -> bool:
        """The first step of a call that waits. True: it is over already, result written."""
        cpu = task.cpu
        task.trapped = cpu.values[0] & 0xFFFFFFFF, cpu.values[1]
        cpu.finish_syscall(0)  # all but the result, while the trap's values are here
        task.call = call
        if not self._advance(task):
            return False
        if task.result is not None:
            cpu.set_result(task.result)
            task.result = None
        if task.interrupted is not None:
            attend(task)
        return True

    def _preempted(self, task: Task) -> bool:
        """After a stop between two blocks: has somebody else a right to the CPU now?"""
        self._ticks.check(task)
        task.cpu.clear_monitor()
        if self.others_wait or self.alarm.deadline < NEVER:
            self._sleep(0)
        else:
            self.news()
        return bool(self._ready) or task.process.stopped
