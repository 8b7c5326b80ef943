/* readv, writev, preadv, pwritev and their second versions: IOV_MAX, lengths, partial faults, errno. */
#include "check.h"
#include <sys/mman.h>
#include <sys/uio.h>

static struct iovec many[1025];
static char bytes[1025];

int main(void) {
    int fd = open("vectors", O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct iovec v[3] = {{"one ", 4}, {NULL, 0}, {"two", 3}};
    EQUAL(writev(fd, v, 3), 7);
    EQUAL(strcmp(get("vectors"), "one two"), 0);
    char a[4] = "", b[8] = "";
    struct iovec r[2] = {{a, 3}, {b, 8}};
    EQUAL(lseek(fd, 0, SEEK_SET), 0);
    EQUAL(readv(fd, r, 2), 7);
    EQUAL(memcmp(a, "one", 3) || memcmp(b, " two", 4), 0);
    EQUAL(preadv(fd, r, 2, 4), 3);
    EQUAL(memcmp(a, "two", 3), 0);
    EQUAL(pwritev(fd, v, 1, 7), 4);
    EQUAL(lseek(fd, 0, SEEK_CUR), 7);
    EQUAL(preadv(fd, r, 2, 100), 0);
    FAILS(preadv(fd, r, 2, -1), EINVAL);

    EQUAL(readv(fd, r, 0), 0);
    FAILS(syscall(SYS_readv, fd, r, -1), EINVAL);
    FAILS(syscall(SYS_readv, fd, many, 1025), EINVAL);
    FAILS(syscall(SYS_writev, fd, many, 1025), EINVAL);
    FAILS(syscall(SYS_readv, fd, (void *)8, 1), EFAULT);
    FAILS(syscall(SYS_readv, 99, r, 1), EBADF);
    for (int i = 0; i < 1024; i++)
        many[i] = (struct iovec){bytes + i, 1};
    memset(bytes, 'm', sizeof bytes);
    EQUAL(lseek(fd, 0, SEEK_SET), 0);
    EQUAL(writev(fd, many, 1024), 1024);
    memset(bytes, 0, sizeof bytes);
    EQUAL(preadv(fd, many, 1024, 0), 1024);
    EQUAL(bytes[0] == 'm' && bytes[1023] == 'm', 1);

    /* A negative length is EINVAL before anything is written. */
    struct iovec negative[2] = {{"x", 1}, {bytes, (size_t)-1}};
    EQUAL(ftruncate(fd, 0), 0);
    EQUAL(lseek(fd, 0, SEEK_SET), 0);
    FAILS(syscall(SYS_writev, fd, negative, 2), EINVAL);
    EQUAL(lseek(fd, 0, SEEK_END), 0);

    /* A bad second buffer: the first is transferred. */
    struct iovec partly[2] = {{"good", 4}, {(void *)8, 4}};
    EQUAL(writev(fd, partly, 2), 4);
    FAILS(writev(fd, partly + 1, 1), EFAULT);
    EQUAL(strcmp(get("vectors"), "good"), 0);

    /* A buffer that runs into an unmapped page. */
    char *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(edge + 4096, 4096);
    memcpy(edge + 4092, "edge", 4);
    EQUAL(pwrite(fd, edge + 4092, 4, 0), 4);
    long length = pread(fd, edge + 4094, 4, 0); /* Linux may transfer the part before the fault */
    CHECK(length == 2 || (length == -1 && errno == EFAULT));
    EQUAL(pread(fd, edge + 4094, 2, 0), 2);

#ifdef SYS_preadv2
    EQUAL(lseek(fd, 1, SEEK_SET), 1);
    EQUAL(syscall(SYS_preadv2, fd, r, 1, -1L, -1L, 0), 3); /* offset -1: the file's own */
    EQUAL(lseek(fd, 0, SEEK_CUR), 4);
    FAILS(syscall(SYS_preadv2, fd, r, 1, 0L, 0L, 0x40000000), EOPNOTSUPP);
#endif
    close(fd);
    fd = open("vectors", O_RDONLY);
    FAILS(writev(fd, v, 1), EBADF);
    close(fd);
    return finish("vectors");
}
