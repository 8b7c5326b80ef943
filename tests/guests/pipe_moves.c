/* Bytes between files and pipes: splice(2), tee(2), vmsplice(2), sendfile(2) to a pipe; what fcntl(2) and ioctl(2)
   say of pipes; and that no process keeps an end open that it should not have. */
#include "check.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/uio.h>
#include <sys/wait.h>

static char buffer[1 << 17], other[1 << 17];

static int file_of(const char *name, size_t size) {
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (size_t n = 0; n < size; n++)
        buffer[n] = (char)(n * 7 + n / 251);
    EQUAL(write(fd, buffer, size), size);
    EQUAL(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static int available(int fd) {
    int count = -1;
    EQUAL(ioctl(fd, FIONREAD, &count), 0);
    return count;
}

/* A child that reads everything, and tells how much. */
static pid_t counter(int in, int out) {
    pid_t pid = fork();
    if (pid == 0) {
        close(out);
        long long total = 0, sum = 0;
        ssize_t got;
        while ((got = read(in, other, sizeof other)) > 0) {
            for (ssize_t n = 0; n < got; n++)
                sum += (unsigned char)other[n] * (total + n + 1);
            total += got;
        }
        _exit(total == 100000 && sum > 0 ? 0 : 1);
    }
    close(in);
    return pid;
}

static int status_of(pid_t pid) {
    int status = -1;
    EQUAL(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void between_file_and_pipe(void) {
    int fd = file_of("moved", 100000), ends[2];
    EQUAL(pipe(ends), 0);
    loff_t at = 10;
    EQUAL(splice(fd, &at, ends[1], NULL, 1000, 0), 1000);
    EQUAL(at, 1010);
    EQUAL(lseek(fd, 0, SEEK_CUR), 0);
    EQUAL(available(ends[0]), 1000);
    EQUAL(read(ends[0], other, sizeof other), 1000);
    EQUAL(memcmp(other, buffer + 10, 1000), 0);
    EQUAL(splice(fd, NULL, ends[1], NULL, 500, 0), 500);
    EQUAL(lseek(fd, 0, SEEK_CUR), 500);
    int to = open("target", O_RDWR | O_CREAT | O_TRUNC, 0600);
    loff_t where = 100;
    EQUAL(splice(ends[0], NULL, to, &where, 5000, 0), 500);
    EQUAL(where, 600);
    EQUAL(pread(to, other, 700, 0), 600);
    EQUAL(memcmp(other + 100, buffer, 500), 0);
    FAILS(splice(ends[0], NULL, to, NULL, 10, SPLICE_F_NONBLOCK), EAGAIN);
    FAILS(splice(ends[0], &where, to, NULL, 10, 0), ESPIPE);
    FAILS(splice(fd, NULL, to, NULL, 10, 0), EINVAL);
    FAILS(splice(fd, NULL, ends[1], NULL, 10, 0x100), EINVAL);
    FAILS(splice(-1, NULL, ends[1], NULL, 10, 0), EBADF);
    FAILS(splice(ends[1], NULL, to, NULL, 10, 0), EBADF);
    EQUAL(splice(fd, NULL, ends[1], NULL, 0, 0), 0);
    FAILS(splice(ends[0], NULL, ends[1], NULL, 10, 0), EINVAL);
    at = 100000;
    EQUAL(splice(fd, &at, ends[1], NULL, 10, 0), 0);
    close(ends[1]);
    EQUAL(splice(ends[0], NULL, to, NULL, 10, 0), 0);
    close(ends[0]);
    close(to);
    close(fd);
}

static void between_pipes(void) {
    int one[2], two[2];
    EQUAL(pipe(one), 0);
    EQUAL(pipe(two), 0);
    EQUAL(write(one[1], "abcdef", 6), 6);
    EQUAL(tee(one[0], two[1], 4, 0), 4);
    EQUAL(available(one[0]), 6);
    EQUAL(splice(one[0], NULL, two[1], NULL, 100, 0), 6);
    EQUAL(read(two[0], other, 100), 10);
    EQUAL(memcmp(other, "abcdabcdef", 10), 0);
    FAILS(tee(one[0], two[1], 4, SPLICE_F_NONBLOCK), EAGAIN);
    FAILS(splice(one[0], NULL, two[1], NULL, 4, SPLICE_F_NONBLOCK), EAGAIN);
    FAILS(tee(one[0], one[1], 4, 0), EINVAL);
    /* Waits for the first bytes. */
    pid_t pid = fork();
    if (pid == 0) {
        usleep(50000);
        _exit(write(one[1], "late", 4) != 4);
    }
    EQUAL(splice(one[0], NULL, two[1], NULL, 100, 0), 4);
    EQUAL(status_of(pid), 0);
    EQUAL(read(two[0], other, 100), 4);
    struct iovec pieces[2] = {{"first ", 6}, {"second", 6}};
    EQUAL(vmsplice(one[1], pieces, 2, 0), 12);
    EQUAL(read(one[0], other, 100), 12);
    EQUAL(memcmp(other, "first second", 12), 0);
    EQUAL(write(one[1], "given", 5), 5);
    struct iovec room = {other, 3};
    EQUAL(vmsplice(one[0], &room, 1, 0), 3);
    EQUAL(memcmp(other, "giv", 3), 0);
    close(two[0]);
    signal(SIGPIPE, SIG_IGN);
    FAILS(splice(one[0], NULL, two[1], NULL, 2, 0), EPIPE);
    signal(SIGPIPE, SIG_DFL);
    close(one[0]), close(one[1]), close(two[1]);
}

static void sending(void) {
    int fd = file_of("sent", 100000), ends[2];
    EQUAL(pipe(ends), 0);
    pid_t pid = counter(ends[0], ends[1]);
    off_t at = 0;
    ssize_t sent; /* as much as the pipe takes */
    while ((sent = sendfile(ends[1], fd, &at, 200000)) > 0)
        ;
    EQUAL(sent, 0);
    EQUAL(at, 100000);
    close(ends[1]);
    EQUAL(status_of(pid), 0);
    EQUAL(pipe(ends), 0);
    EQUAL(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    EQUAL(sendfile(ends[1], fd, NULL, 1000), 1000);
    EQUAL(lseek(fd, 0, SEEK_CUR), 1000);
    EQUAL(sendfile(ends[1], fd, NULL, 0), 0);
    FAILS(sendfile(fd, ends[0], NULL, 10), EINVAL);
    FAILS(sendfile(ends[0], fd, NULL, 10), EBADF);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    FAILS(sendfile(ends[1], fd, NULL, 10), EPIPE);
    signal(SIGPIPE, SIG_DFL);
    EQUAL(lseek(fd, 0, SEEK_CUR), 1000);
    close(ends[1]);
    close(fd);
}

static void sizes_and_owners(void) {
    int ends[2], fd = open("plain", O_RDWR | O_CREAT, 0600);
    EQUAL(pipe(ends), 0);
    EQUAL(fcntl(ends[0], F_GETPIPE_SZ), 65536);
    EQUAL(fcntl(ends[1], F_SETPIPE_SZ, 5000), 8192);
    EQUAL(fcntl(ends[0], F_GETPIPE_SZ), 8192);
    FAILS(fcntl(fd, F_GETPIPE_SZ), EBADF);
    EQUAL(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    EQUAL(write(ends[1], buffer, 8192), 8192);
    FAILS(fcntl(ends[1], F_SETPIPE_SZ, 4096), EBUSY);
    EQUAL(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    FAILS(write(ends[1], "x", 1), EAGAIN);
    int on = 0;
    EQUAL(ioctl(ends[1], FIONBIO, &on), 0);
    EQUAL(fcntl(ends[1], F_GETFL), O_WRONLY);
    on = 1;
    EQUAL(ioctl(ends[1], FIONBIO, &on), 0);
    EQUAL(fcntl(ends[1], F_GETFL), O_WRONLY | O_NONBLOCK);
    EQUAL(fcntl(ends[0], F_GETOWN), 0);
    EQUAL(fcntl(ends[0], F_SETOWN, getpid()), 0);
    CHECK(fcntl(ends[0], F_GETOWN) == getpid());
    FAILS(fcntl(ends[0], F_SETOWN, 4000000), ESRCH);
    EQUAL(fcntl(ends[0], F_GETSIG), 0);
    EQUAL(ioctl(ends[0], FIOCLEX), 0);
    EQUAL(fcntl(ends[0], F_GETFD), FD_CLOEXEC);
    close(ends[0]), close(ends[1]), close(fd);
}

/* The end of a pipe comes when the last writer is gone: of all children, however they were made. */
static void last_writer(const char *self) {
    int ends[2], more[2];
    EQUAL(pipe(ends), 0);
    EQUAL(pipe2(more, O_CLOEXEC), 0);
    /* A vfork child without the writing end lives on in its own program. */
    pid_t pid = vfork();
    if (pid == 0) {
        close(ends[1]);
        execl(self, self, "sleep", NULL);
        _exit(9);
    }
    close(ends[1]);
    close(more[1]);
    EQUAL(read(ends[0], other, 1), 0);
    EQUAL(read(more[0], other, 1), 0);
    EQUAL(kill(pid, SIGKILL), 0);
    EQUAL(status_of(pid), 137);
    close(ends[0]), close(more[0]);

    EQUAL(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        close(ends[1]);
        pause();
    }
    close(ends[1]);
    EQUAL(read(ends[0], other, 1), 0);
    EQUAL(kill(pid, SIGKILL), 0);
    EQUAL(status_of(pid), 137);
    close(ends[0]);
}

static void signals_in_epoll(void) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    EQUAL(sigprocmask(SIG_BLOCK, &mask, NULL), 0);
    int queue = signalfd(-1, &mask, SFD_CLOEXEC), instance = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u64 = 0x123456789abcdefull}, got = {0};
    EQUAL(epoll_ctl(instance, EPOLL_CTL_ADD, queue, &event), 0);
    EQUAL(epoll_wait(instance, &got, 1, 0), 0);
    pid_t pid = fork();
    if (pid == 0) {
        usleep(50000);
        _exit(kill(getppid(), SIGUSR1) != 0);
    }
    EQUAL(epoll_wait(instance, &got, 1, 10000), 1);
    EQUAL(got.events, EPOLLIN);
    CHECK(got.data.u64 == event.data.u64);
    struct pollfd polled = {.fd = queue, .events = POLLIN | POLLOUT};
    EQUAL(poll(&polled, 1, 0), 1);
    EQUAL(polled.revents, POLLIN);
    struct signalfd_siginfo info[2];
    EQUAL(read(queue, info, sizeof info), sizeof info[0]);
    EQUAL(info[0].ssi_signo, SIGUSR1);
    EQUAL(info[0].ssi_pid, pid);
    EQUAL(epoll_wait(instance, &got, 1, 0), 0);
    EQUAL(poll(&polled, 1, 0), 0);
    EQUAL(status_of(pid), 0);
    /* Taken otherwise. */
    EQUAL(raise(SIGUSR1), 0);
    EQUAL(poll(&polled, 1, 0), 1);
    struct timespec none = {0, 0};
    EQUAL(sigtimedwait(&mask, NULL, &none), SIGUSR1);
    EQUAL(poll(&polled, 1, 0), 0);
    EQUAL(epoll_wait(instance, &got, 1, 0), 0);
    close(queue), close(instance);
}

int main(int count, char **arguments) {
    if (count > 1) {
        sleep(60);
        return 8;
    }
    between_file_and_pipe();
    between_pipes();
    sending();
    sizes_and_owners();
    last_writer(arguments[0]);
    signals_in_epoll();
    return finish("pipe_moves");
}
