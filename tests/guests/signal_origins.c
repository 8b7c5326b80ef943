/* Who sent a signal, and why: siginfo of every kind of sender; what becomes of children nobody waits for. */
#include "children.h"
#include <pthread.h>
#include <sys/resource.h>

static siginfo_t last;
static volatile int count;

static void tell(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    last = *info;
    count++;
}

static void set(int number, int flags) {
    struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO | flags};
    EQUAL(sigaction(number, &action, NULL), 0);
}

/* Waits with SIGUSR1, SIGCHLD and the like blocked until one came. */
static void next(int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    memset(&last, 0, sizeof last);
    EQUAL(syscall(SYS_rt_sigtimedwait, &set, &last, NULL, 8), number); /* a library may change the code */
    EQUAL(last.si_signo, number);
    EQUAL(last.si_errno, 0);
}

static void block(int how, int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    EQUAL(sigprocmask(how, &set, NULL), 0);
}

static int kills(void) { return kill(getppid(), SIGUSR1); }
static int queues(void) { return sigqueue(getppid(), SIGUSR1, (union sigval){.sival_ptr = (void *)0x123456789abc}); }
static int queues_realtime(void) { return sigqueue(getppid(), SIGRTMIN + 3, (union sigval){.sival_int = -5}); }
static int kills_thread(void) { return (int)syscall(SYS_tgkill, getppid(), getppid(), SIGUSR1); }
static int kills_any_thread(void) { return (int)syscall(SYS_tkill, getppid(), SIGUSR1); }

static void test_senders(void) {
    block(SIG_BLOCK, SIGUSR1);
    block(SIG_BLOCK, SIGRTMIN + 3);
    int (*acts[])(void) = {kills, queues, queues_realtime, kills_thread, kills_any_thread};
    int codes[] = {SI_USER, SI_QUEUE, SI_QUEUE, SI_TKILL, SI_TKILL};
    for (int n = 0; n < 5; n++) {
        pid_t pid = start(acts[n]);
        next(n == 2 ? SIGRTMIN + 3 : SIGUSR1);
        EQUAL(last.si_code, codes[n]);
        EQUAL(last.si_pid, pid);
        EQUAL(last.si_uid, getuid());
        if (n == 1)
            CHECK(last.si_value.sival_ptr == (void *)0x123456789abc);
        if (n == 2)
            EQUAL(last.si_value.sival_int, -5);
        EQUAL(ended(pid), 0);
    }
    raise(SIGUSR1);
    next(SIGUSR1);
    EQUAL(last.si_code, SI_TKILL);
    EQUAL(last.si_pid, getpid());
    EQUAL(kill(getpid(), SIGUSR1), 0);
    next(SIGUSR1);
    EQUAL(last.si_code, SI_USER);
    EQUAL(last.si_pid, getpid());
    block(SIG_UNBLOCK, SIGUSR1);
    block(SIG_UNBLOCK, SIGRTMIN + 3);
}

static void test_kernel(void) {
    int fds[2];
    set(SIGALRM, 0);
    alarm(1);
    pause();
    EQUAL(last.si_code, SI_KERNEL);
    EQUAL(last.si_pid, 0);
    limit(60);
    set(SIGPIPE, 0);
    EQUAL(pipe(fds), 0);
    close(fds[0]);
    FAILS(write(fds[1], "x", 1), EPIPE);
    EQUAL(last.si_signo, SIGPIPE);
    EQUAL(last.si_code, SI_USER);
    EQUAL(last.si_pid, getpid());
    EQUAL(last.si_uid, getuid());
    count = 0;
    signal(SIGPIPE, SIG_IGN);
    FAILS(write(fds[1], "x", 1), EPIPE);
    EQUAL(count, 0);
    close(fds[1]);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGALRM, SIG_DFL);
}

static int pipe_kills(void) {
    int fds[2];
    if (pipe(fds) || close(fds[0]))
        return 1;
    return write(fds[1], "x", 1) == 1 ? 2 : 3;
}

static int exits(void) { return 7; }
static int waits(void) {
    while (pause())
        ;
    return 0;
}

static void test_children(void) {
    block(SIG_BLOCK, SIGCHLD);
    pid_t pid = start(exits);
    next(SIGCHLD);
    EQUAL(last.si_code, CLD_EXITED);
    EQUAL(last.si_pid, pid);
    EQUAL(last.si_uid, getuid());
    EQUAL(last.si_status, 7);
    EQUAL(ended(pid), 7);
    pid = start(waits);
    EQUAL(kill(pid, SIGSTOP), 0);
    next(SIGCHLD);
    EQUAL(last.si_code, CLD_STOPPED);
    EQUAL(last.si_status, SIGSTOP);
    EQUAL(kill(pid, SIGCONT), 0);
    next(SIGCHLD);
    EQUAL(last.si_code, CLD_CONTINUED);
    EQUAL(last.si_status, SIGCONT);
    EQUAL(kill(pid, SIGTERM), 0);
    next(SIGCHLD);
    EQUAL(last.si_code, CLD_KILLED);
    EQUAL(last.si_pid, pid);
    EQUAL(last.si_status, SIGTERM);
    EQUAL(ended(pid), 128 + SIGTERM);
    EQUAL(run(pipe_kills), 128 + SIGPIPE);
    next(SIGCHLD);
    set(SIGCHLD, SA_NOCLDSTOP); /* no news of stops */
    pid = start(waits);
    int status;
    EQUAL(kill(pid, SIGSTOP), 0);
    EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    sigset_t pending;
    EQUAL(sigpending(&pending), 0);
    CHECK(!sigismember(&pending, SIGCHLD));
    EQUAL(kill(pid, SIGKILL), 0); /* a stopped one dies all the same */
    next(SIGCHLD);
    EQUAL(last.si_code, CLD_KILLED);
    EQUAL(last.si_status, SIGKILL);
    EQUAL(ended(pid), 128 + SIGKILL);
}

/* Nobody has to wait for them, nobody can; the signal comes if there is a handler. */
static void test_no_zombies(void) {
    set(SIGCHLD, SA_NOCLDWAIT);
    pid_t pid = start(exits);
    FAILS(waitpid(pid, NULL, 0), ECHILD);
    next(SIGCHLD);
    EQUAL(last.si_pid, pid);
    FAILS(kill(pid, 0), ESRCH);
    signal(SIGCHLD, SIG_IGN);
    pid = start(exits);
    FAILS(waitpid(pid, NULL, 0), ECHILD);
    signal(SIGCHLD, SIG_DFL);
    block(SIG_UNBLOCK, SIGCHLD);
}

static int computes(void) {
    clock_t begin = clock();
    while (clock() - begin < CLOCKS_PER_SEC / 20)
        ;
    return 0;
}
static int has_a_child(void) { return run(computes); }

static long used_us(const struct rusage *usage) {
    return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000L + usage->ru_utime.tv_usec +
           usage->ru_stime.tv_usec;
}

/* CPU time of children counts when they are waited for, their children's with it. */
static void test_usage(void) {
    struct rusage before, after, own;
    siginfo_t info;
    EQUAL(getrusage(RUSAGE_CHILDREN, &before), 0);
    pid_t pid = start(has_a_child);
    EQUAL(syscall(SYS_waitid, P_PID, pid, &info, WEXITED | WNOWAIT, &own), 0);
    EQUAL(info.si_status, 0);
    CHECK(used_us(&own) >= 50000);
    EQUAL(getrusage(RUSAGE_CHILDREN, &after), 0);
    EQUAL(used_us(&after), used_us(&before));
    EQUAL(ended(pid), 0);
    EQUAL(getrusage(RUSAGE_CHILDREN, &after), 0);
    CHECK(used_us(&after) - used_us(&before) >= 50000);
}

int main(void) {
    limit(60);
    test_senders();
    test_kernel();
    test_children();
    test_no_zombies();
    test_usage();
    return finish("signal_origins");
}
