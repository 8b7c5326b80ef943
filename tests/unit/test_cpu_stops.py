"""How a guest is taken from the CPU: between two blocks, by signals at any time; all effects happen once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from client_vm import host
from client_vm.architecture import ARM64, X86_64, Architecture
from client_vm.stubs import CAUSE_PREEMPTED, CAUSE_TRAP
from tests.unit.machine import CODE, DATA, FIRST, LOAD, NUMBER, SECOND, SPIN, TRAP, Machine, arm

COUNT = {
    X86_64: bytes.fromhex("48ff07 4883ee01 75f7") + TRAP[X86_64],
    ARM64: arm(0xF9400002, 0x91000442, 0xF9000002, 0xF1000421, 0x54FFFF81) + TRAP[ARM64],
}
"""Counts in memory, at the address in the first argument register, as often as the second says."""
ROUNDS = 200_000
STOPS = 500
STORM = "import os, sys, time\nwhile True: os.kill(int(sys.argv[1]), int(sys.argv[2])); time.sleep(0.0002)"
TICK_S = 0.002
LIMIT_S = 20.0


@pytest.fixture(params=["by signal", "by every block"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The second is for another build of Unicorn, in which its word is not found."""
    if request.param == "by every block":
        monkeypatch.setattr("client_vm.cpu.no_exit_request", lambda _engine, _context_bytes: None)
    return str(request.param)


def attach(machine: Machine) -> None:
    for number, handler in zip((signal.SIGVTALRM, signal.SIGPROF), machine.cpu.alarms, strict=True):
        host.native_signal_handler(number, handler)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    yield
    for timer in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
    for number in (signal.SIGVTALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_IGN)


def test_the_word_is_found(arch: Architecture, way: str) -> None:
    assert Machine(arch, SPIN[arch]).cpu.words.stoppable == (way == "by signal")


def test_what_is_to_be_preempted_does_not_run(arch: Architecture) -> None:
    cpu = Machine(arch, TRAP[arch]).cpu
    assert cpu.run() == CAUSE_TRAP
    cpu.finish_syscall(0)
    cpu.words.preempt, pc = 1, cpu.pc
    assert (cpu.run(), cpu.words.preempt, cpu.pc) == (CAUSE_PREEMPTED, 0, pc)
    assert cpu.run() == CAUSE_TRAP and cpu.values[0] == NUMBER


def test_a_tick_stops_a_spinning_guest(arch: Architecture) -> None:
    machine = Machine(arch, SPIN[arch])
    attach(machine)
    for _ in range(10):
        signal.setitimer(signal.ITIMER_VIRTUAL, TICK_S)
        assert machine.cpu.run() == CAUSE_PREEMPTED and machine.cpu.pc == CODE


def test_who_asked_while_the_emulator_began_is_heard_later(arch: Architecture, way: str) -> None:
    """The request was lost, the word stands, and the second signal comes: as if the first had set its timer."""
    machine = Machine(arch, LOAD[arch] + SPIN[arch])
    cpu = machine.cpu
    attach(machine)

    def translate(address: int, access: int) -> tuple[int, int] | None:
        cpu.words.preempt = 1
        signal.setitimer(signal.ITIMER_PROF, TICK_S)
        return machine.translate(address, access)

    cpu._translate = translate
    cpu.write_register(FIRST[arch], DATA)
    assert cpu.run() == CAUSE_PREEMPTED
    assert way != "by signal" or cpu.pc == CODE + len(LOAD[arch])


def test_a_storm_of_signals_repeats_no_instruction(arch: Architecture) -> None:
    """Unicorn by itself would leave after a load or store, and do that instruction once more."""
    machine = Machine(arch, COUNT[arch])
    cpu = machine.cpu
    attach(machine)
    stops = counted = 0
    with subprocess.Popen([sys.executable, "-c", STORM, str(os.getpid()), str(int(signal.SIGVTALRM))]) as storm:
        try:
            while stops < STOPS:
                cpu.pc = CODE
                cpu.write_register(FIRST[arch], DATA)
                cpu.write_register(SECOND[arch], ROUNDS)
                while cpu.run() == CAUSE_PREEMPTED:
                    stops += 1
                counted += ROUNDS
                assert int.from_bytes(machine.load(DATA, 8), "little") == counted
        finally:
            storm.kill()
            storm.wait(LIMIT_S)
