/* Which calls a handler ends with EINTR and which go on: signal(7), with and without SA_RESTART. */
#include "children.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/time.h>

static int fds[2], full[2];
static volatile int handled;

static void handler(int number) {
    handled += number == SIGUSR1;
}

static void set(int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
}

/* A child that signals its parent in a while and then lets its call end, which goes on. */
static pid_t signal_once(void (*release)(void)) {
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        pause_ms(30);
        kill(parent, SIGUSR1);
        pause_ms(30);
        if (release)
            release();
        _exit(0);
    }
    return pid;
}

/* In a child: signals its parent again and again, for a busy machine may have it signal before the parent waits. */
static void keep_signalling(pid_t parent) {
    for (;;) {
        pause_ms(30);
        kill(parent, SIGUSR1);
    }
}

/* A child that ends its parent's call, which does not go on. */
static pid_t signal_until_done(void) {
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        keep_signalling(parent);
    return pid;
}

/* The end of signal_until_done's child: a handler has run, and `before` had not counted it. */
static void done(pid_t pid, int before) {
    CHECK(handled > before);
    EQUAL(kill(pid, SIGKILL), 0);
    EQUAL(ended(pid), 128 + SIGKILL);
}

static void write_byte(void) { CHECK(write(fds[1], "x", 1) == 1); }

static void read_much(void) {
    static char block[65536];
    CHECK(read(full[0], block, sizeof block) > 0);
}

static char byte;
static long read_call(void) { return read(fds[0], &byte, 1); }
static long write_call(void) { return write(full[1], &byte, 1); }
static long wait_call(void) { return waitpid(-1, NULL, 0) > 0 ? 1 : -1; }

static void fill(void) {
    static char block[65536];
    EQUAL(fcntl(full[1], F_SETFL, O_NONBLOCK), 0);
    while (write(full[1], block, sizeof block) > 0 || write(full[1], block, 1) > 0)
        ;
    EQUAL(fcntl(full[1], F_SETFL, 0), 0);
}

static void test_restarted(long (*call)(void), void (*release)(void)) {
    int before = handled;
    set(SA_RESTART);
    if (release == read_much)
        fill();
    pid_t pid = signal_once(release);
    EQUAL(call(), 1);
    EQUAL(handled, before + 1);
    while (waitpid(pid, NULL, 0) == -1 && errno == EINTR)
        ;
}

static void test_interrupted(long (*call)(void)) {
    int before = handled;
    set(0);
    if (call == write_call)
        fill();
    pid_t pid = signal_until_done();
    FAILS(call(), EINTR);
    done(pid, before);
}

static int epoll;
static struct pollfd polled;
static long poll_call(void) { return poll(&polled, 1, 5000); }
static long ppoll_call(void) {
    struct timespec long_time = {5, 0};
    return ppoll(&polled, 1, &long_time, NULL);
}
static long select_call(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fds[0], &set);
    struct timeval long_time = {5, 0};
    return select(fds[0] + 1, &set, NULL, NULL, &long_time);
}
static long epoll_call(void) {
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, 5000);
}
static long pause_call(void) { return pause(); }
static long sleep_call(void) {
    struct timespec long_time = {5, 0}, left = {0, 0};
    long result = nanosleep(&long_time, &left);
    CHECK(left.tv_sec == 4 || (left.tv_sec == 3 && left.tv_nsec > 0));
    return result;
}
static long clock_sleep_call(void) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 5;
    errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    return errno ? -1 : 0;
}
static long timed_wait_call(void) {
    sigset_t set;
    struct timespec long_time = {5, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return syscall(SYS_rt_sigtimedwait, &set, NULL, &long_time, 8); /* a library may try again */
}

static void test_never_restarted(void) {
    long (*calls[])(void) = {poll_call,  ppoll_call, select_call,      epoll_call,
                             pause_call, sleep_call, clock_sleep_call, timed_wait_call};
    epoll = epoll_create1(0);
    polled = (struct pollfd){.fd = fds[0], .events = POLLIN};
    struct epoll_event event = {.events = EPOLLIN};
    EQUAL(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[0], &event), 0);
    set(SA_RESTART);
    for (unsigned n = 0; n < sizeof calls / sizeof *calls; n++) {
        int before = handled;
        pid_t pid = signal_until_done();
        FAILS(calls[n](), EINTR);
        done(pid, before);
    }
    close(epoll);
}

/* Part of a write that a handler interrupts has been written. */
static void test_partial(void) {
    static char block[200000];
    int pipe_[2];
    EQUAL(pipe(pipe_), 0);
    set(SA_RESTART);
    int before = handled;
    pid_t pid = signal_until_done();
    long written = write(pipe_[1], block, sizeof block);
    EQUAL(written, 65536);
    done(pid, before);
    close(pipe_[0]);
    close(pipe_[1]);
}

/* Signals without a handler disturb nothing, neither ignored ones nor stop and continue. */
static void test_not_interrupted(void) {
    signal(SIGUSR1, SIG_IGN);
    pid_t pid = signal_once(write_byte);
    EQUAL(read_call(), 1);
    EQUAL(ended(pid), 0);
    pid_t victim = fork();
    if (victim == 0)
        _exit(read_call() == 1 ? 0 : 1);
    pause_ms(20);
    int status;
    EQUAL(kill(victim, SIGSTOP), 0);
    EQUAL(waitpid(victim, &status, WUNTRACED), victim);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    EQUAL(kill(victim, SIGCONT), 0);
    EQUAL(waitpid(victim, &status, WCONTINUED), victim);
    write_byte();
    EQUAL(ended(victim), 0);
}

static long flock_call(void) {
    int fd = open("lock", O_RDWR);
    long result = flock(fd, LOCK_EX);
    close(fd);
    return result == 0 ? 1 : -1;
}

/* A signal may have come before the byte is read. */
static long read_again(int fd, char *mark) {
    long got;
    while ((got = read(fd, mark, 1)) == -1 && errno == EINTR)
        ;
    return got;
}

static void test_locks(int flags) {
    int ready[2];
    char mark;
    put("lock", "");
    EQUAL(pipe(ready), 0);
    set(flags);
    int before = handled;
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        int fd = open("lock", O_RDWR);
        flock(fd, LOCK_EX);
        CHECK(write(ready[1], "x", 1) == 1);
        if (!flags)
            keep_signalling(parent);
        pause_ms(30);
        kill(parent, SIGUSR1);
        pause_ms(30);
        _exit(0); /* which frees it */
    }
    EQUAL(read_again(ready[0], &mark), 1);
    if (flags) {
        EQUAL(flock_call(), 1);
        EQUAL(handled, before + 1);
        EQUAL(ended(pid), 0);
    } else {
        FAILS(flock_call(), EINTR);
        done(pid, before);
    }
    EQUAL(unlink("lock"), 0);
}

int main(void) {
    limit(60);
    EQUAL(pipe(fds), 0);
    EQUAL(pipe(full), 0);
    test_interrupted(read_call);
    test_interrupted(write_call);
    test_interrupted(wait_call);
    test_locks(0);
    test_restarted(read_call, write_byte);
    test_restarted(write_call, read_much);
    test_restarted(wait_call, NULL);
    test_locks(SA_RESTART);
    test_never_restarted();
    test_partial();
    test_not_interrupted();
    return finish("signal_restart");
}
