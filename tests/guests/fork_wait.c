/* fork, wait4, waitid: what a child has of its own, what it shares, how it is told of, and orphans. */
#include "children.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static int global = 1;
static pid_t parent;

static int look(void) {
    CHECK(getppid() == parent);
    CHECK(getpid() != parent);
    EQUAL(syscall(SYS_gettid), getpid());
    global = 2;
    FAILS(waitpid(-1, NULL, 0), ECHILD);
    return failures ? 99 : 7;
}

static int by_signal(void) {
    raise(SIGTERM);
    return 99;
}

static int large(void) { return 0x1ff; }
static int quick(void) { return 3; }
static int slow(void) {
    pause();
    return 99;
}

static void test_basics(void) {
    parent = getpid();
    char *heap = malloc(100000);
    memset(heap, 'a', 100000);
    pid_t pid = fork();
    if (pid == 0) {
        memset(heap, 'b', 100000);
        _exit(heap[99999] == 'b' ? look() : 98);
    }
    EQUAL(ended(pid), 7);
    EQUAL(global, 1);
    CHECK(heap[0] == 'a' && heap[99999] == 'a');
    EQUAL(run(by_signal), 128 + SIGTERM);
    EQUAL(run(large), 0xff);
    FAILS(waitpid(pid, NULL, 0), ECHILD);
    FAILS(kill(pid, 0), ESRCH);
    free(heap);
}

static void test_wait4(void) {
    int status = -1;
    struct rusage usage;
    pid_t pid = start(slow);
    EQUAL(waitpid(pid, &status, WNOHANG), 0);
    EQUAL(status, -1);
    EQUAL(kill(pid, SIGKILL), 0);
    memset(&usage, 255, sizeof usage);
    EQUAL(wait4(-1, &status, 0, &usage), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK(usage.ru_utime.tv_sec >= 0 && usage.ru_utime.tv_sec < 60);
    FAILS(wait4(-1, &status, 0, NULL), ECHILD);
    FAILS(wait4(-1, &status, 0x4000, NULL), EINVAL);
    pid = start(quick);
    FAILS(wait4(pid, (void *)8, 0, NULL), EFAULT); /* it is reaped all the same */
    FAILS(waitpid(pid, NULL, 0), ECHILD);
    pid_t first = start(quick), second = start(look);
    EQUAL(waitpid(second, &status, 0), second);
    EQUAL(waitpid(0, &status, 0), first);
    EQUAL(WEXITSTATUS(status), 3);
    pid = start(quick);
    EQUAL(waitpid(-getpgrp(), &status, 0), pid);
    FAILS(waitpid(-12345678, &status, 0), ECHILD);
}

static void test_waitid(void) {
    siginfo_t info;
    pid_t pid = start(quick);
    memset(&info, 255, sizeof info);
    EQUAL(waitid(P_PID, pid, &info, WEXITED | WNOWAIT), 0);
    CHECK(info.si_pid == pid && info.si_code == CLD_EXITED && info.si_status == 3 && info.si_signo == SIGCHLD);
    EQUAL(info.si_uid, getuid());
    EQUAL(waitid(P_ALL, 0, &info, WEXITED), 0);
    EQUAL(info.si_pid, pid);
    FAILS(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
    FAILS(waitid(P_ALL, 0, &info, 0), EINVAL);
    FAILS(waitid(77, 0, &info, WEXITED), EINVAL);
    pid = start(slow);
    memset(&info, 255, sizeof info);
    EQUAL(waitid(P_PID, pid, &info, WEXITED | WNOHANG), 0);
    EQUAL(info.si_pid, 0);
    EQUAL(kill(pid, SIGSTOP), 0);
    EQUAL(waitid(P_PID, pid, &info, WSTOPPED), 0);
    CHECK(info.si_code == CLD_STOPPED && info.si_status == SIGSTOP);
    EQUAL(kill(pid, SIGCONT), 0);
    EQUAL(waitid(P_PID, pid, &info, WCONTINUED), 0);
    CHECK(info.si_code == CLD_CONTINUED && info.si_status == SIGCONT);
    EQUAL(kill(pid, SIGTERM), 0);
    EQUAL(waitid(P_PGID, getpgrp(), &info, WEXITED), 0);
    CHECK(info.si_code == CLD_KILLED && info.si_status == SIGTERM && info.si_pid == pid);
}

static void test_descriptors(void) {
    put("shared", "0123456789");
    int fd = open("shared", O_RDWR);
    char text[4] = "";
    pid_t pid = fork();
    if (pid == 0) {
        read(fd, text, 3);
        close(fd);
        _exit(text[2]);
    }
    EQUAL(ended(pid), '2');
    EQUAL(read(fd, text, 3), 3); /* one offset, and the child's close is its own */
    EQUAL(text[0], '3');
    pid = fork();
    if (pid == 0)
        _exit(lseek(fd, 9, SEEK_SET) == 9 && fcntl(fd, F_SETFL, O_APPEND) == 0 ? 0 : 1);
    EQUAL(ended(pid), 0);
    EQUAL(lseek(fd, 0, SEEK_CUR), 9);
    CHECK(fcntl(fd, F_GETFL) & O_APPEND);
    close(fd);
    EQUAL(unlink("shared"), 0);
}

/* A child whose parent dies is adopted: by the nearest subreaper, which can wait for it. */
static void test_orphans(void) {
    int fds[2];
    pid_t orphan = 0;
    EQUAL(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    EQUAL(pipe(fds), 0);
    pid_t me = getpid(), pid = fork();
    if (pid == 0) {
        pid_t middle = getpid(), grandchild = fork();
        if (grandchild == 0) {
            while (getppid() == middle)
                pause_ms(1);
            _exit(getppid() == me ? 44 : 1);
        }
        _exit(write(fds[1], &grandchild, sizeof grandchild) == sizeof grandchild ? 0 : 1);
    }
    EQUAL(ended(pid), 0);
    EQUAL(read(fds[0], &orphan, sizeof orphan), sizeof orphan);
    EQUAL(ended(orphan), 44);
    EQUAL(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
    close(fds[0]);
    close(fds[1]);
}

/* SIGCHLD ignored: children leave nothing to wait for, and wait lasts until the last one is gone. */
static void test_ignored(void) {
    signal(SIGCHLD, SIG_IGN);
    start(quick);
    start(quick);
    FAILS(wait(NULL), ECHILD);
    signal(SIGCHLD, SIG_DFL);
}

/* A child has its parent's processors, and changes its own alone. */
static void test_processors(void) {
    cpu_set_t all, one, seen;
    EQUAL(sched_getaffinity(0, sizeof all, &all), 0);
    int first = 0;
    while (!CPU_ISSET(first, &all))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    EQUAL(sched_setaffinity(0, sizeof one, &one), 0);
    pid_t child = fork();
    if (!child)
        _exit(sched_getaffinity(0, sizeof seen, &seen) || !CPU_EQUAL(&one, &seen) || sched_setaffinity(0, sizeof all, &all));
    EQUAL(ended(child), 0);
    EQUAL(sched_getaffinity(0, sizeof seen, &seen), 0);
    CHECK(CPU_EQUAL(&one, &seen));
    EQUAL(sched_setaffinity(0, sizeof all, &all), 0);
}

static void test_many(void) {
    pid_t pids[40];
    for (int n = 0; n < 40; n++) {
        pids[n] = fork();
        if (pids[n] == 0)
            _exit(n);
    }
    for (int n = 39; n >= 0; n--)
        EQUAL(ended(pids[n]), n);
    struct rusage usage;
    EQUAL(getrusage(RUSAGE_CHILDREN, &usage), 0);
    CHECK(usage.ru_utime.tv_sec * 1000000LL + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec > 0);
}

int main(void) {
    limit(60);
    test_basics();
    test_wait4();
    test_waitid();
    test_descriptors();
    test_orphans();
    test_ignored();
    test_processors();
    test_many();
    return finish("fork_wait");
}
