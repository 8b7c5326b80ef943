/* Whole files of /proc. */
#include "check.h"

static char text[1 << 16];

/* The whole of a file, read in pieces of `step` bytes. */
static size_t slurp(const char *path, size_t step) {
    int fd = open(path, O_RDONLY);
    size_t length = 0;
    ssize_t got;
    CHECK(fd >= 0);
    while (length + step < sizeof text && (got = read(fd, text + length, step)) > 0)
        length += (size_t)got;
    text[length] = 0;
    close(fd);
    return length;
}
