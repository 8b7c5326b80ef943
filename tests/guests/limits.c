/* What a process may use: RLIMIT_FSIZE by every way to make a file longer, and nice. */
#include "check.h"
#include <signal.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static volatile int told;

static void count(int number) { told += number == SIGXFSZ; }

static long size_of(int fd) {
    struct stat found;
    EQUAL(fstat(fd, &found), 0);
    return found.st_size;
}

/* The call is refused with a signal, and the file is as long as before. */
#define TOO_LONG(call)                                                                                       \
    do {                                                                                                     \
        int before = told;                                                                                   \
        long size = size_of(fd);                                                                             \
        FAILS(call, EFBIG);                                                                                  \
        EQUAL(told, before + 1);                                                                             \
        EQUAL(size_of(fd), size);                                                                            \
    } while (0)

static void test_file_size(void) {
    static char block[300];
    int pipe_[2], fd = open("long", O_RDWR | O_CREAT, 0600), source = open("source", O_RDWR | O_CREAT, 0600);
    struct rlimit limit, unlimited;
    EQUAL(write(source, block, 300), 300);
    EQUAL(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
    limit = (struct rlimit){1000, unlimited.rlim_max};
    EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, count);
    for (int n = 0; n < 3; n++)
        EQUAL(write(fd, block, 300), 300);
    EQUAL(write(fd, block, 300), 100); /* what there is room for */
    TOO_LONG(write(fd, block, 1));
    EQUAL(write(fd, block, 0), 0);
    struct iovec parts[2] = {{block, 50}, {block, 50}};
    TOO_LONG(writev(fd, parts, 2));
    TOO_LONG(pwrite(fd, block, 1, 1000));
    TOO_LONG(pwritev(fd, parts, 2, 5000));
    EQUAL(pwrite(fd, block, 300, 990), 10);
    off_t at = 0;
    TOO_LONG(sendfile(fd, source, &at, 100));
    TOO_LONG(ftruncate(fd, 1001));
    TOO_LONG(truncate("long", 5000));
    TOO_LONG(posix_fallocate(fd, 900, 101) ? (errno = EFBIG, -1) : 0);
    EQUAL(ftruncate(fd, 500), 0);
    EQUAL(fcntl(fd, F_SETFL, O_APPEND), 0);
    EQUAL(write(fd, block, 300), 300);
    EQUAL(write(fd, block, 300), 200);
    TOO_LONG(write(fd, block, 300));
    EQUAL(pipe(pipe_), 0);
    for (int n = 0; n < 4; n++)
        EQUAL(write(pipe_[1], block, 300), 300); /* it is about files */
    signal(SIGXFSZ, SIG_IGN);
    FAILS(write(fd, block, 300), EFBIG);
    limit.rlim_cur = unlimited.rlim_max;
    EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
    EQUAL(write(fd, block, 300), 300);
    EQUAL(close(fd) + close(source) + close(pipe_[0]) + close(pipe_[1]), 0);
    EQUAL(unlink("long") + unlink("source"), 0);
}

static void test_nice(void) {
    int before = getpriority(PRIO_PROCESS, 0);
    EQUAL(setpriority(PRIO_PROCESS, 0, before + 2), 0);
    EQUAL(getpriority(PRIO_PROCESS, 0), before + 2);
    EQUAL(setpriority(PRIO_PROCESS, getpid(), 1000), 0);
    EQUAL(getpriority(PRIO_PROCESS, getpid()), 19);
    FAILS(setpriority(99, 0, 0), EINVAL);
    FAILS(setpriority(PRIO_PROCESS, 99999999, 0), ESRCH);
}

int main(void) {
    test_file_size();
    test_nice();
    return finish("limits");
}
