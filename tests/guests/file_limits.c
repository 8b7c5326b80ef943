/* How long files may become (RLIMIT_FSIZE), for whom that is inherited, and the flags of preadv2 and pwritev2. */
#include "check.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

static volatile sig_atomic_t told;

static void count(int signal) {
    told += signal == SIGXFSZ;
}

static void limit(rlim_t bytes) {
    struct rlimit both = {bytes, RLIM_INFINITY};
    EQUAL(setrlimit(RLIMIT_FSIZE, &both), 0);
}

static void test_sizes(void) {
    char text[300];
    memset(text, 'l', sizeof text);
    int fd = open("limited", O_RDWR | O_CREAT | O_TRUNC, 0600), end = open("limited", O_WRONLY | O_APPEND);
    EQUAL(pwrite(fd, text, 10, 500), 10);
    limit(200);
    EQUAL(write(fd, text, 150), 150);
    EQUAL(write(fd, text, 100), 50); /* as far as it goes */
    EQUAL(told, 0);
    FAILS(write(fd, text, 1), EFBIG);
    EQUAL(told, 1);
    EQUAL(write(fd, text, 0), 0);
    EQUAL(pwrite(fd, text, 10, 195), 5);
    FAILS(pwrite(fd, text, 10, 200), EFBIG);
    EQUAL(told, 2);
    FAILS(write(end, text, 1), EFBIG);
    EQUAL(told, 3);
    struct iovec two[2] = {{text, 8}, {text, 8}};
    EQUAL(pwritev(fd, two, 2, 190), 10);
    FAILS(pwritev(fd, two, 2, 1000), EFBIG);
    EQUAL(told, 4);
    EQUAL(ftruncate(fd, 400), 0); /* shorter than it is */
    FAILS(ftruncate(fd, 450), EFBIG);
    EQUAL(told, 5);
    FAILS(truncate("limited", 401), EFBIG);
    EQUAL(told, 6);
    EQUAL(ftruncate(fd, 100), 0);
    EQUAL(ftruncate(fd, 200), 0);
    FAILS(posix_fallocate(fd, 0, 300) ? (errno = EFBIG, -1) : 0, EFBIG);
    EQUAL(told, 7);
    int pair[2];
    EQUAL(pipe(pair), 0);
    EQUAL(write(pair[1], text, 300), 300); /* files only */
    int memory = (int)syscall(SYS_memfd_create, "m", 0);
    EQUAL(write(memory, text, 300), 200);
    FAILS(write(memory, text, 300), EFBIG);
    EQUAL(told, 8);
    limit(RLIM_INFINITY);
    EQUAL(write(memory, text, 300), 300);
    EQUAL(lseek(fd, 0, SEEK_END), 200);
    EQUAL(write(end, text, 300), 300);
    close(fd), close(end), close(memory), close(pair[0]), close(pair[1]);
}

static void test_heirs(void) {
    limit(100);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit mine;
        getrlimit(RLIMIT_FSIZE, &mine);
        signal(SIGXFSZ, SIG_DFL);
        int fd = open("heirs", O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (mine.rlim_cur != 100 || ftruncate(fd, 50))
            _exit(1);
        ftruncate(fd, 101);
        _exit(0);
    }
    int status = 0;
    EQUAL(waitpid(child, &status, 0), child);
    EQUAL(WIFSIGNALED(status) ? WTERMSIG(status) : -1, SIGXFSZ);
    limit(RLIM_INFINITY);
}

static void test_flags(void) {
    char text[64] = "0123456789", room[64];
    struct iovec out = {text, 10}, in = {room, 10}, none = {text, 0};
    int fd = open("flags", O_RDWR | O_CREAT | O_TRUNC, 0600);
    EQUAL(pwritev2(fd, &out, 1, -1, RWF_DSYNC), 10);
    EQUAL(pwritev2(fd, &out, 1, 20, RWF_SYNC), 10);
    EQUAL(lseek(fd, 0, SEEK_CUR), 10);
    EQUAL(pwritev2(fd, &out, 1, 0, RWF_APPEND), 10); /* at the end, wherever that is asked for */
    EQUAL(lseek(fd, 0, SEEK_CUR), 10);
    EQUAL(lseek(fd, 0, SEEK_END), 40);
    EQUAL(lseek(fd, 5, SEEK_SET), 5);
    EQUAL(pwritev2(fd, &out, 1, -1, RWF_APPEND), 10);
    EQUAL(lseek(fd, 0, SEEK_CUR), 50);
    EQUAL(preadv2(fd, &in, 1, 40, RWF_HIPRI), 10);
    EQUAL(memcmp(room, text, 10), 0);
    EQUAL(preadv2(fd, &in, 1, -1, 0), 0);
    EQUAL(preadv2(fd, &in, 1, 0, RWF_NOWAIT), 10);
    FAILS(preadv2(fd, &in, 1, 0, 1 << 20), EOPNOTSUPP);
    FAILS(pwritev2(fd, &out, 1, 0, 1 << 20), EOPNOTSUPP);
    EQUAL(preadv2(fd, &none, 1, 0, 1 << 20), 0); /* nothing to do, nothing to refuse */
    FAILS(preadv2(fd, &in, 1, -2, 1 << 20), EINVAL);
    FAILS(preadv2(-1, &in, 1, 0, 1 << 20), EBADF);
    FAILS(preadv2(-1, &in, 1, -1, 1 << 20), EBADF);
    close(fd);
    int pair[2];
    EQUAL(pipe(pair), 0);
    FAILS(preadv2(pair[0], &in, 1, 0, 0), ESPIPE);
    FAILS(preadv2(pair[0], &in, 1, -1, RWF_NOWAIT), EAGAIN); /* though the pipe would wait */
    EQUAL(pwritev2(pair[1], &out, 1, -1, 0), 10);
    EQUAL(preadv2(pair[0], &in, 1, -1, RWF_NOWAIT), 10);
    close(pair[0]), close(pair[1]);
}

int main(void) {
    struct sigaction action = {.sa_handler = count};
    sigaction(SIGXFSZ, &action, NULL);
    test_sizes();
    test_heirs();
    test_flags();
    return finish("file_limits");
}
