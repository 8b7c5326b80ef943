/* pidfd_open, pidfd_send_signal, CLONE_PIDFD, waitid(P_PIDFD), poll of a pidfd. */
#include "children.h"
#include <poll.h>
#include <sys/epoll.h>
#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

static int pidfd(pid_t pid, unsigned flags) {
    return syscall(SYS_pidfd_open, pid, flags);
}

static int send_signal(int fd, int number, siginfo_t *info, unsigned flags) {
    return syscall(SYS_pidfd_send_signal, fd, number, info, flags);
}

static int sleeps(void) {
    pause();
    return 0;
}

static int leaves(void) {
    return 7;
}

static int is_readable(int fd, int timeout_ms) {
    struct pollfd asked = {fd, POLLIN, 0};
    return poll(&asked, 1, timeout_ms) == 1 && asked.revents & POLLIN;
}

static void test_waiting(void) {
    siginfo_t info;
    pid_t pid = start(sleeps);
    int fd = pidfd(pid, 0);
    CHECK(fd > 2);
    EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQUAL(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR);
    char byte;
    FAILS(read(fd, &byte, 1), EINVAL);
    FAILS(write(fd, &byte, 1), EINVAL);
    CHECK(!is_readable(fd, 0));
    int instance = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.u32 = 1}};
    EQUAL(epoll_ctl(instance, EPOLL_CTL_ADD, fd, &event), 0);
    EQUAL(epoll_wait(instance, &event, 1, 0), 0);
    EQUAL(waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG), 0);
    EQUAL(info.si_pid, 0);
    int second = pidfd(pid, O_NONBLOCK);
    FAILS(waitid(P_PIDFD, second, &info, WEXITED), EAGAIN);
    EQUAL(send_signal(fd, 0, NULL, 0), 0);
    FAILS(send_signal(fd, 99, NULL, 0), EINVAL);
    FAILS(send_signal(fd, SIGTERM, NULL, 1 << 20), EINVAL);
    FAILS(send_signal(instance, SIGTERM, NULL, 0), EBADF);
    EQUAL(send_signal(fd, SIGTERM, NULL, 0), 0);
    CHECK(is_readable(fd, -1));
    CHECK(is_readable(second, 0));
    EQUAL(epoll_wait(instance, &event, 1, -1), 1);
    EQUAL(waitid(P_PIDFD, fd, &info, WEXITED | WNOWAIT), 0);
    EQUAL(info.si_pid, pid);
    EQUAL(waitid(P_PIDFD, second, &info, WEXITED), 0);
    CHECK(info.si_code == CLD_KILLED && info.si_status == SIGTERM && info.si_pid == pid);
    FAILS(waitid(P_PIDFD, fd, &info, WEXITED), ECHILD);
    FAILS(send_signal(fd, 0, NULL, 0), ESRCH);
    FAILS(pidfd(pid, 0), ESRCH);
    CHECK(is_readable(fd, 0));
    close(fd);
    close(second);
    close(instance);
}

static int calls(void *unused) {
    (void)unused;
    return 5;
}

static void test_clone(void) {
    static char stack[65536] __attribute__((aligned(16)));
    siginfo_t info;
    int fd = -1;
    fflush(stdout);
    pid_t pid = clone(calls, stack + sizeof stack, CLONE_PIDFD | SIGCHLD, NULL, &fd);
    CHECK(pid > 0 && fd > 2);
    EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK(is_readable(fd, -1));
    EQUAL(waitid(P_PIDFD, fd, &info, WEXITED), 0);
    CHECK(info.si_pid == pid && info.si_code == CLD_EXITED && info.si_status == 5);
    close(fd);
    pid = clone(calls, stack + sizeof stack, CLONE_PIDFD | CLONE_VM | CLONE_VFORK | SIGCHLD, NULL, &fd);
    CHECK(pid > 0 && fd > 2);
    CHECK(is_readable(fd, -1));
    EQUAL(waitid(P_PIDFD, fd, &info, WEXITED), 0);
    EQUAL(info.si_status, 5);
    close(fd);
}

static void test_others(void) {
    siginfo_t info;
    int self = pidfd(getpid(), 0);
    CHECK(self > 2 && !is_readable(self, 0));
    FAILS(waitid(P_PIDFD, self, &info, WEXITED | WNOHANG), ECHILD);
    close(self);
    FAILS(pidfd(0, 0), EINVAL);
    FAILS(pidfd(-1, 0), EINVAL);
    FAILS(pidfd(getpid(), 1), EINVAL);
    FAILS(pidfd(4000000, 0), ESRCH);
    FAILS(waitid(P_PIDFD, 0, &info, WEXITED), EBADF);
    FAILS(waitid(P_PIDFD, 99, &info, WEXITED), EBADF);
    pid_t pid = start(leaves);
    EQUAL(waitid(P_PID, pid, &info, WEXITED | WNOWAIT), 0);
    int fd = pidfd(pid, 0); /* of a zombie */
    CHECK(is_readable(fd, 0));
    EQUAL(waitid(P_PIDFD, fd, &info, WEXITED), 0);
    EQUAL(info.si_status, 7);
    close(fd);
}

int main(void) {
    limit(60);
    test_waiting();
    test_clone();
    test_others();
    return finish("pidfds");
}
