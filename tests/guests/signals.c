/* sigaction, masks, pending and queued signals, what a handler is told, default actions. */
#include "children.h"
#include <ucontext.h>

static volatile int seen[65], order[64], count, nested_max, depth;
static siginfo_t last;
static sigset_t within;

static void note(int number) {
    seen[number]++;
    if (count < 64)
        order[count++] = number;
}

static void tell(int number, siginfo_t *info, void *context) {
    note(number);
    last = *info;
    sigprocmask(SIG_SETMASK, NULL, &within);
    CHECK(context != NULL);
}

static void nest(int number) {
    depth++;
    nested_max = depth > nested_max ? depth : nested_max;
    if (seen[number]++ < 3)
        raise(number);
    depth--;
}

static void forget(void) {
    memset((void *)seen, 0, sizeof seen);
    count = nested_max = depth = 0;
}

static void set(int number, void *handler, int flags) {
    struct sigaction action = {.sa_flags = flags};
    action.sa_handler = handler;
    sigemptyset(&action.sa_mask);
    EQUAL(sigaction(number, &action, NULL), 0);
}

static void test_sigaction(void) {
    struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO}, old;
    sigfillset(&action.sa_mask);
    EQUAL(sigaction(SIGUSR1, &action, &old), 0);
    CHECK(old.sa_handler == SIG_DFL && !(old.sa_flags & SA_SIGINFO));
    EQUAL(sigaction(SIGUSR1, NULL, &old), 0);
    CHECK(old.sa_sigaction == tell && (old.sa_flags & SA_SIGINFO) && sigismember(&old.sa_mask, SIGUSR2));
    EQUAL(kill(getpid(), SIGUSR1), 0);
    EQUAL(seen[SIGUSR1], 1);
    CHECK(last.si_signo == SIGUSR1 && last.si_code == SI_USER && last.si_pid == getpid() && last.si_uid == getuid());
    CHECK(sigismember(&within, SIGUSR1) && sigismember(&within, SIGUSR2) && sigismember(&within, SIGHUP));
    CHECK(!sigismember(&within, SIGKILL) && !sigismember(&within, SIGSTOP));
    sigprocmask(SIG_SETMASK, NULL, &within);
    CHECK(!sigismember(&within, SIGUSR1));
    EQUAL(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1), 0);
    CHECK(last.si_code == SI_TKILL && last.si_pid == getpid());
    FAILS(sigaction(SIGKILL, &action, NULL), EINVAL);
    FAILS(sigaction(SIGSTOP, &action, NULL), EINVAL);
    EQUAL(sigaction(SIGKILL, NULL, &old), 0);
    FAILS(sigaction(65, &action, NULL), EINVAL);
    FAILS(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4), EINVAL);
    FAILS(syscall(SYS_rt_sigaction, SIGUSR1, 8, NULL, 8), EFAULT);
}

static void test_masks(void) {
    sigset_t set, old, pending;
    forget();
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGKILL);
    EQUAL(sigprocmask(SIG_BLOCK, &set, &old), 0);
    for (int n = 0; n < 3; n++)
        raise(SIGUSR1);
    EQUAL(seen[SIGUSR1], 0);
    EQUAL(sigpending(&pending), 0);
    CHECK(sigismember(&pending, SIGUSR1) && !sigismember(&pending, SIGUSR2));
    EQUAL(sigprocmask(SIG_SETMASK, &old, &set), 0);
    EQUAL(seen[SIGUSR1], 1); /* a plain signal is pending once */
    CHECK(!sigismember(&set, SIGKILL));
    FAILS(sigprocmask(99, &set, NULL), EINVAL);
    FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, 8, NULL, 8), EFAULT);
    FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, NULL, 16), EINVAL);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_IGN); /* which discards it */
    EQUAL(sigpending(&pending), 0);
    CHECK(!sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, NULL);
}

/* Real-time signals queue, with their values, lowest number first. */
static void test_queue(void) {
    int low = SIGRTMIN + 1, high = SIGRTMIN + 2;
    sigset_t set, old;
    siginfo_t info;
    struct timespec none = {0, 0};
    forget();
    sigemptyset(&set);
    sigaddset(&set, low);
    sigaddset(&set, high);
    sigprocmask(SIG_BLOCK, &set, &old);
    for (int n = 1; n <= 3; n++) {
        EQUAL(sigqueue(getpid(), high, (union sigval){.sival_int = n * 10}), 0);
        EQUAL(sigqueue(getpid(), low, (union sigval){.sival_int = n}), 0);
    }
    for (int n = 1; n <= 3; n++) {
        EQUAL(sigtimedwait(&set, &info, &none), low);
        CHECK(info.si_code == SI_QUEUE && info.si_value.sival_int == n && info.si_pid == getpid());
    }
    EQUAL(sigwaitinfo(&set, &info), high);
    EQUAL(info.si_value.sival_int, 10);
    struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO};
    sigaction(high, &action, NULL);
    sigprocmask(SIG_SETMASK, &old, NULL);
    EQUAL(seen[high], 2);
    EQUAL(last.si_value.sival_int, 30);
    sigprocmask(SIG_BLOCK, &set, NULL);
    FAILS(sigtimedwait(&set, &info, &none), EAGAIN);
    none.tv_nsec = -1;
    FAILS(sigtimedwait(&set, &info, &none), EINVAL);
    FAILS(sigqueue(1 << 29, high, (union sigval){0}), ESRCH);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void test_flags(void) {
    forget();
    set(SIGUSR1, nest, SA_NODEFER);
    raise(SIGUSR1);
    EQUAL(seen[SIGUSR1], 4);
    EQUAL(nested_max, 4);
    forget();
    set(SIGUSR1, nest, 0);
    raise(SIGUSR1);
    EQUAL(seen[SIGUSR1], 4); /* one after another */
    EQUAL(nested_max, 1);
    set(SIGUSR1, note, SA_RESETHAND);
    raise(SIGUSR1);
    struct sigaction now;
    EQUAL(sigaction(SIGUSR1, NULL, &now), 0);
    CHECK(now.sa_handler == SIG_DFL);
}

static void test_sigsuspend(void) {
    sigset_t set, none;
    forget();
    sigemptyset(&set);
    sigemptyset(&none);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGUSR2, note);
    raise(SIGUSR2);
    FAILS(sigsuspend(&none), EINTR);
    EQUAL(seen[SIGUSR2], 1);
    sigprocmask(SIG_SETMASK, NULL, &none);
    CHECK(sigismember(&none, SIGUSR2)); /* the mask is as before */
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static int victim;

static int dies(void) {
    signal(victim, SIG_DFL);
    kill(getpid(), victim);
    return 0;
}

static void test_default_actions(void) {
    int deadly[] = {SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGUSR1, SIGSEGV,
                    SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGSTKFLT, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGIO,
                    SIGPWR, SIGSYS, 34, 64};
    for (unsigned n = 0; n < sizeof deadly / sizeof *deadly; n++) {
        victim = deadly[n];
        EQUAL(run(dies), 128 + victim);
    }
    int ignored[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT};
    for (unsigned n = 0; n < sizeof ignored / sizeof *ignored; n++) {
        victim = ignored[n];
        EQUAL(run(dies), 0);
    }
}

static int fork_state(void) {
    sigset_t mask, pending;
    struct sigaction now;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    sigpending(&pending);
    sigaction(SIGUSR2, NULL, &now);
    return sigismember(&mask, SIGUSR1) && !sigismember(&pending, SIGUSR1) && now.sa_handler == note ? 0 : 1;
}

/* A child inherits mask and handlers, not what is pending. */
static void test_fork(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    EQUAL(run(fork_state), 0);
    signal(SIGUSR1, SIG_IGN);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int main(void) {
    limit(60);
    test_sigaction();
    test_masks();
    test_queue();
    test_flags();
    test_sigsuspend();
    test_default_actions();
    test_fork();
    return finish("signals");
}
