/* pipe2, dup, dup2, dup3, fcntl: ends, blocking, whole writes, marks. */
#include "children.h"
#include <limits.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

static int fds[2];

static void test_basics(void) {
    char text[20];
    EQUAL(pipe2(fds, O_CLOEXEC), 0);
    EQUAL(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
    EQUAL(fcntl(fds[0], F_GETFL) & O_ACCMODE, O_RDONLY);
    EQUAL(fcntl(fds[1], F_GETFL) & O_ACCMODE, O_WRONLY);
    EQUAL(write(fds[1], "hello", 5), 5);
    int waiting = 0;
    EQUAL(ioctl(fds[0], FIONREAD, &waiting), 0);
    EQUAL(waiting, 5);
    EQUAL(read(fds[0], text, 2), 2);
    EQUAL(read(fds[0], text, 20), 3);
    FAILS(lseek(fds[0], 0, SEEK_SET), ESPIPE);
    FAILS(pread(fds[0], text, 1, 0), ESPIPE);
    FAILS(write(fds[0], "x", 1), EBADF);
    FAILS(read(fds[1], text, 1), EBADF);
    FAILS(ftruncate(fds[1], 0), EINVAL);
    FAILS(fsync(fds[1]), EINVAL);
    struct stat status;
    EQUAL(fstat(fds[0], &status), 0);
    CHECK(S_ISFIFO(status.st_mode));
    struct iovec two[2] = {{"ab", 2}, {"cde", 3}};
    EQUAL(writev(fds[1], two, 2), 5);
    EQUAL(close(fds[1]), 0);
    EQUAL(read(fds[0], text, 20), 5);
    EQUAL(read(fds[0], text, 20), 0);
    EQUAL(close(fds[0]), 0);
    FAILS(pipe2(fds, 0x80000001), EINVAL);
    FAILS(syscall(SYS_pipe2, 8, 0), EFAULT);
    int next = dup(0);
    EQUAL(close(next), 0); /* the refused ones left no descriptors */
    EQUAL(pipe(fds), 0);
    CHECK(fds[0] == next && fds[1] == next + 1);
    close(fds[0]);
    signal(SIGPIPE, SIG_IGN);
    FAILS(write(fds[1], "x", 1), EPIPE);
    signal(SIGPIPE, SIG_DFL);
    close(fds[1]);
}

static int writes_to_nobody(void) {
    close(fds[0]);
    return write(fds[1], "x", 1) == 1 ? 1 : 2;
}

static void test_sigpipe(void) {
    EQUAL(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(pipe(fds) ? 9 : writes_to_nobody());
    EQUAL(ended(pid), 128 + SIGPIPE);
    close(fds[0]);
    close(fds[1]);
}

static void test_nonblocking(void) {
    static char block[65536];
    EQUAL(pipe2(fds, O_NONBLOCK), 0);
    FAILS(read(fds[0], block, 1), EAGAIN);
    int size = fcntl(fds[1], F_GETPIPE_SZ);
    EQUAL(size, 65536);
    long total = 0, count;
    while ((count = write(fds[1], block, 1000)) == 1000)
        total += count;
    CHECK(count > 0 || errno == EAGAIN);
    total += count > 0 ? count : 0;
    CHECK(total > 60000 && total <= 65536);
    FAILS(write(fds[1], block, PIPE_BUF), EAGAIN); /* whole or not at all */
    EQUAL(read(fds[0], block, sizeof block), total);
    EQUAL(write(fds[1], block, sizeof block), 65536);
    FAILS(write(fds[1], block, 1), EAGAIN);
    EQUAL(read(fds[0], block, 4096), 4096);
    EQUAL(write(fds[1], block, 5000), 4096); /* more than PIPE_BUF may be split */
    EQUAL(fcntl(fds[1], F_SETPIPE_SZ, 100), -1); /* less than what is in it */
    CHECK(errno == EBUSY);
    close(fds[0]);
    close(fds[1]);
}

static void *drains(void *to) {
    static char block[50000];
    long *total = to, count;
    while ((count = read(fds[0], block, sizeof block)) > 0) {
        for (long at = 0; at < count; at++)
            if (block[at] != (char)((*total + at) * 31 >> 8))
                return NULL;
        *total += count;
    }
    return NULL;
}

/* A write of more than a pipe holds goes on as it is read, and blocks only its thread. */
static void test_blocking(void) {
    enum { SIZE = 1 << 20 };
    long total = 0;
    char *all = malloc(SIZE);
    for (long at = 0; at < SIZE; at++)
        all[at] = (char)(at * 31 >> 8);
    EQUAL(pipe(fds), 0);
    pthread_t thread;
    EQUAL(pthread_create(&thread, NULL, drains, &total), 0);
    EQUAL(write(fds[1], all, SIZE), SIZE);
    close(fds[1]);
    EQUAL(pthread_join(thread, NULL), 0);
    EQUAL(total, SIZE);
    close(fds[0]);
    EQUAL(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        _exit(write(fds[1], all, SIZE) == SIZE ? 0 : 1);
    }
    close(fds[1]);
    total = 0;
    drains(&total);
    EQUAL(total, SIZE);
    EQUAL(ended(pid), 0);
    close(fds[0]);
    free(all);
}

/* Writes of at most PIPE_BUF bytes by several processes do not mix. */
static void test_whole_writes(void) {
    enum { LENGTH = 400, TIMES = 50 };
    char text[LENGTH];
    EQUAL(pipe(fds), 0);
    for (int n = 0; n < 4; n++)
        if (fork() == 0) {
            memset(text, 'a' + n, LENGTH);
            for (int time = 0; time < TIMES; time++)
                if (write(fds[1], text, LENGTH) != LENGTH)
                    _exit(1);
            _exit(0);
        }
    close(fds[1]);
    int counts[4] = {0}, mixed = 0;
    for (int n = 0; n < 4 * TIMES; n++) {
        for (ssize_t got = 0, count; got < LENGTH; got += count)
            if ((count = read(fds[0], text + got, LENGTH - got)) <= 0)
                break;
        for (int at = 1; at < LENGTH; at++)
            mixed += text[at] != text[0];
        counts[(text[0] - 'a') & 3]++;
    }
    EQUAL(mixed, 0);
    for (int n = 0; n < 4; n++) {
        EQUAL(counts[n], TIMES);
        EQUAL(ended(-1), 0);
    }
    EQUAL(read(fds[0], text, 1), 0);
    close(fds[0]);
}

static void test_dup(void) {
    int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int other = dup(fd);
    CHECK(other > fd);
    EQUAL(fcntl(other, F_GETFD), 0);
    EQUAL(write(fd, "12345", 5), 5);
    EQUAL(lseek(other, 0, SEEK_CUR), 5);
    EQUAL(fcntl(other, F_SETFL, O_APPEND), 0);
    CHECK(fcntl(fd, F_GETFL) & O_APPEND);
    EQUAL(dup2(fd, 50), 50);
    EQUAL(dup2(fd, fd), fd);
    EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQUAL(dup3(fd, 51, O_CLOEXEC), 51);
    EQUAL(fcntl(51, F_GETFD), FD_CLOEXEC);
    FAILS(dup3(fd, fd, 0), EINVAL);
    FAILS(dup3(fd, 52, O_APPEND), EINVAL);
    FAILS(dup2(99, 50), EBADF);
    EQUAL(fcntl(50, F_GETFD), 0); /* still open */
    FAILS(dup2(fd, -1), EBADF);
    FAILS(dup2(fd, 1 << 28), EBADF);
    FAILS(dup(99), EBADF);
    EQUAL(fcntl(fd, F_DUPFD, 60), 60);
    EQUAL(fcntl(fd, F_DUPFD, 60), 61);
    EQUAL(fcntl(fd, F_DUPFD_CLOEXEC, 60), 62);
    EQUAL(fcntl(62, F_GETFD), FD_CLOEXEC);
    FAILS(fcntl(fd, F_DUPFD, -1), EINVAL);
    FAILS(fcntl(fd, F_DUPFD, 1 << 28), EINVAL);
    FAILS(fcntl(99, F_GETFD), EBADF);
    FAILS(fcntl(fd, 9999), EINVAL);
    EQUAL(fcntl(fd, F_SETFD, 0), 0);
    EQUAL(fcntl(fd, F_GETFD), 0);
    EQUAL(close(fd), 0);
    EQUAL(write(61, "6", 1), 1);
    EQUAL(lseek(50, 0, SEEK_CUR), 6);
    EQUAL(unlink("file"), 0);
}

int main(void) {
    limit(60);
    test_basics();
    test_sigpipe();
    test_nonblocking();
    test_blocking();
    test_whole_writes();
    test_dup();
    return finish("pipes");
}
