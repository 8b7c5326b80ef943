/* The stack grows on demand up to RLIMIT_STACK, zero-filled; leaps inside it are allowed. */
#include "check.h"
#include <sys/resource.h>

static __attribute__((noinline)) unsigned long leap(size_t size) {
    volatile char *area = __builtin_alloca(size);
    unsigned long sum = 0;
    area[0] = 1; /* lowest address first: one leap over everything between */
    for (size_t i = 4096; i < size - 65536; i += 4096)
        sum += (unsigned char)area[i];
    for (size_t i = 0; i < size; i += 4096)
        area[i] = 7;
    for (size_t i = 0; i < size; i += 4096)
        sum += (unsigned char)area[i];
    return sum;
}

static __attribute__((noinline)) unsigned long descend(int depth) {
    volatile char frame[1024];
    frame[0] = (char)depth;
    return depth ? descend(depth - 1) + (unsigned char)frame[0] : 0;
}

int main(void) {
    struct rlimit limit;
    EQUAL(getrlimit(RLIMIT_STACK, &limit), 0);
    EQUAL(limit.rlim_cur, 8 << 20);
    EQUAL(leap(6 << 20), 7 * 1536); /* first: nothing has been down there, so it reads as zero */
    EQUAL(descend(4000), 4000 / 256 * (255 * 256 / 2) + (4000 % 256) * (4000 % 256 + 1) / 2);
    /* A system call may write where the stack has not been touched yet. */
    volatile char *low = (volatile char *)__builtin_alloca(7 << 20);
    int fd = open("/dev/zero", O_RDONLY);
    EQUAL(read(fd, (char *)low, 4096), 4096);
    EQUAL(low[0] + low[4095], 0);
    close(fd);
    return finish("stack");
}
