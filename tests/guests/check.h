/* Assertions of a guest program. Native Linux and farcall must print the same; a failed check names its line
   and makes the exit status 1. A program prints nothing that may differ between two runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int checks, failures;

/* True. */
#define CHECK(condition) \
    do { \
        checks++; \
        if (!(condition)) { \
            failures++; \
            printf("%s:%d: FAILED: %s (errno %d %s)\n", __FILE_NAME__, __LINE__, #condition, errno, strerror(errno)); \
        } \
    } while (0)

/* Equal integers. */
#define EQUAL(call, expected) \
    do { \
        long long got_ = (long long)(call), want_ = (long long)(expected); \
        checks++; \
        if (got_ != want_) { \
            failures++; \
            printf("%s:%d: FAILED: %s is %lld, not %lld (errno %d %s)\n", __FILE_NAME__, __LINE__, #call, got_, \
                   want_, errno, strerror(errno)); \
        } \
    } while (0)

/* Fails with that errno. */
#define FAILS(call, number) \
    do { \
        errno = 0; \
        long long got_ = (long long)(call); \
        int errno_ = errno; \
        checks++; \
        if (got_ != -1 || errno_ != (number)) { \
            failures++; \
            printf("%s:%d: FAILED: %s is %lld with %s, not %s\n", __FILE_NAME__, __LINE__, #call, got_, \
                   got_ == -1 ? strerror(errno_) : "success", strerror(number)); \
        } \
    } while (0)

/* Ends main. */
__attribute__((unused)) static int finish(const char *name) {
    if (failures) {
        printf("%s: %d of %d checks failed\n", name, failures, checks);
        return 1;
    }
    printf("%s: %d checks passed\n", name, checks);
    return 0;
}

/* A new file with these contents, or the end of the program. */
__attribute__((unused)) static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd)) {
        printf("cannot write %s: %s\n", path, strerror(errno));
        exit(1);
    }
}

/* What a file holds, at most 4095 bytes, NUL-terminated; "<errno>" if it cannot be read. Not reentrant. */
__attribute__((unused)) static const char *get(const char *path) {
    static char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (length < 0)
        return strerror(errno);
    text[length] = 0;
    close(fd);
    return text;
}
