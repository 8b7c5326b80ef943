/* The frame that a handler gets: alternate stack, registers and floating point kept, changed, jumped out of. */
#include "children.h"
#include <fenv.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

static char alternate[65536];
static volatile int on_alternate, handled, nested;
static sigjmp_buf env;
static stack_t inside;

static void where(int number) {
    char here;
    handled = number;
    on_alternate = &here >= alternate && &here < alternate + sizeof alternate;
    sigaltstack(NULL, &inside);
    if (nested-- > 0)
        raise(number == SIGUSR1 ? SIGUSR2 : SIGUSR1);
}

static void set(int number, void *handler, int flags) {
    struct sigaction action = {.sa_flags = flags};
    action.sa_handler = handler;
    EQUAL(sigaction(number, &action, NULL), 0);
}

static void test_alternate_stack(void) {
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate}, old;
    EQUAL(sigaltstack(NULL, &old), 0);
    EQUAL(old.ss_flags, SS_DISABLE);
    EQUAL(sigaltstack(&stack, NULL), 0);
    set(SIGUSR1, where, SA_ONSTACK);
    set(SIGUSR2, where, 0);
    raise(SIGUSR1);
    EQUAL(on_alternate, 1);
    EQUAL(inside.ss_flags, SS_ONSTACK);
    raise(SIGUSR2);
    EQUAL(on_alternate, 0);
    nested = 1;
    raise(SIGUSR1); /* the second handler, without the flag, stays on the stack it is on */
    EQUAL(handled, SIGUSR2);
    EQUAL(on_alternate, 1);
    stack.ss_size = 100;
    FAILS(sigaltstack(&stack, NULL), ENOMEM);
    stack.ss_size = sizeof alternate;
    stack.ss_flags = 77;
    FAILS(sigaltstack(&stack, NULL), EINVAL);
    FAILS(syscall(SYS_sigaltstack, 8, NULL), EFAULT);
    EQUAL(sigaltstack(NULL, &old), 0);
    CHECK(old.ss_sp == alternate && old.ss_flags == 0 && old.ss_size == sizeof alternate);
}

static void jump(int number) {
    siglongjmp(env, number);
}

static void test_jumps(void) {
    set(SIGUSR1, jump, SA_ONSTACK);
    for (volatile int n = 0; n < 100; n++) {
        volatile int before = n;
        if (sigsetjmp(env, 1) == 0) {
            raise(SIGUSR1);
            CHECK(0);
        }
        EQUAL(before, n);
    }
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    CHECK(!sigismember(&mask, SIGUSR1));
    stack_t stack;
    sigaltstack(NULL, &stack);
    EQUAL(stack.ss_flags, 0);
}

static int depth(int n) {
    volatile char room[4096];
    if (n < 0)
        return 0;
    room[0] = (char)n;
    return depth(n + 1) + room[0];
}

/* A handler for the overflow of the stack runs on another one. */
static void test_overflow(void) {
    set(SIGSEGV, jump, SA_ONSTACK);
    for (volatile int n = 0; n < 2; n++)
        if (sigsetjmp(env, 1) == 0)
            CHECK(depth(0) == 0);
    signal(SIGSEGV, SIG_DFL);
}

static volatile double spoiled;

static void computes(int number) {
    double a = number, b = 3;
    for (int n = 0; n < 100; n++)
        a = a / b + n;
    spoiled = a;
    fesetround(FE_UPWARD);
    handled++;
}

/* Floating point registers and rounding are the interrupted program's again, whenever it was interrupted. */
static void test_floating_point(void) {
    struct itimerval_ {
        struct timeval interval, value;
    } timer = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
    set(SIGALRM, computes, SA_RESTART);
    handled = 0;
    EQUAL(syscall(SYS_setitimer, 0, &timer, NULL), 0);
    int wrong = 0;
    for (int round = 0; handled < 20 && round < 2000000; round++) {
        double a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8;
        for (int n = 0; n < 50; n++) {
            a += b * 0.5;
            b += c * 0.25;
            c += d * 0.5;
            d += e * 0.25;
            e += f * 0.5;
            f += g * 0.25;
            g += h * 0.5;
            h += 1;
        }
        static double first;
        double sum = a + b + c + d + e + f + g + h;
        if (first == 0)
            first = sum;
        wrong += sum != first || fegetround() != FE_TONEAREST;
    }
    EQUAL(syscall(SYS_setitimer, 0, &none, NULL), 0);
    EQUAL(wrong, 0);
    CHECK(handled >= 20);
    alarm(60);
    signal(SIGALRM, SIG_DFL);
}

static volatile int faulted;

/* Steps over the faulting instruction by changing the saved program counter, and gives it a result. */
static void skip(int number, siginfo_t *info, void *pointer) {
    ucontext_t *context = pointer;
    faulted++;
    CHECK(number == SIGSEGV && info->si_addr == (void *)16);
#ifdef __aarch64__
    context->uc_mcontext.pc += 4;
    context->uc_mcontext.regs[0] = 77;
#else
    context->uc_mcontext.gregs[REG_RIP] += 3;
    context->uc_mcontext.gregs[REG_RAX] = 77;
#endif
}

static void test_changed_registers(void) {
    struct sigaction action = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO};
    EQUAL(sigaction(SIGSEGV, &action, NULL), 0);
    for (int n = 0; n < 100; n++) {
#ifdef __aarch64__
        register long value __asm__("x0") = 0, address __asm__("x1") = 16;
        __asm__ volatile("ldr x0, [x1]" : "+r"(value) : "r"(address) : "memory");
#else
        register long value __asm__("rax") = 0, address __asm__("rcx") = 16;
        __asm__ volatile("movq (%%rcx), %%rax" : "+r"(value) : "r"(address) : "memory");
#endif
        long result = value;
        EQUAL(result, 77);
    }
    EQUAL(faulted, 100);
    signal(SIGSEGV, SIG_DFL);
}

/* The mask in the frame is the one that comes back. */
static void block_more(int number, siginfo_t *info, void *pointer) {
    (void)number, (void)info;
    ucontext_t *context = pointer;
    sigaddset((sigset_t *)&context->uc_sigmask, SIGUSR2);
}

static void test_changed_mask(void) {
    struct sigaction action = {.sa_sigaction = block_more, .sa_flags = SA_SIGINFO};
    EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    raise(SIGUSR1);
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    CHECK(sigismember(&mask, SIGUSR2) && !sigismember(&mask, SIGUSR1));
    sigemptyset(&mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
}

/* A frame that cannot be written, and a return without a frame, end the process. */
static int no_room(void) {
    stack_t stack = {.ss_sp = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    set(SIGUSR1, where, SA_ONSTACK);
    raise(SIGUSR1);
    return 1;
}

int main(void) {
    limit(60);
    test_alternate_stack();
    test_jumps();
    test_overflow();
    test_floating_point();
    test_changed_registers();
    test_changed_mask();
    EQUAL(run(no_room), 128 + SIGSEGV);
    return finish("signal_frames");
}
