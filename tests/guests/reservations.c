/* Address space without memory behind it: what allocators, collectors and sanitizers reserve, far more than the
   machine has. It costs nothing until it is touched, and a fork of it costs what was touched. */
#include "check.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { PAGE = 4096 };
static const size_t GIB = (size_t)1 << 30, TIB = (size_t)1 << 40;

static char *map(size_t size, int prot, int flags) {
    return mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

/* Whether the kernel can read, write a byte there: EFAULT instead of a signal. */
static int readable(const void *address) {
    static int pair[2] = {-1, -1};
    char byte;
    if (pair[0] < 0 && pipe(pair))
        return -1;
    return write(pair[1], address, 1) == 1 && read(pair[0], &byte, 1) == 1;
}

/* Ends of a child that writes to one address. */
static int dies_by_write(char *address) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        *(volatile char *)address = 1;
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_writable(void) {
    char *huge = map(400 * GIB, PROT_READ | PROT_WRITE, MAP_NORESERVE);
    CHECK(huge != MAP_FAILED);
    if (huge == MAP_FAILED)
        return;
    FAILS(mmap(NULL, 400 * GIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    int right = 1;
    for (size_t at = 0; at < 400 * GIB; at += 7 * GIB + PAGE) {
        right &= huge[at] == 0;
        huge[at] = (char)(at / GIB + 1);
    }
    huge[400 * GIB - 1] = 77;
    for (size_t at = 0; at < 400 * GIB; at += 7 * GIB + PAGE)
        right &= huge[at] == (char)(at / GIB + 1) && huge[at + 1] == 0;
    CHECK(right);
    /* A child has the same, and its stores are its own. */
    pid_t child = fork();
    if (child == 0) {
        int same = huge[7 * GIB + PAGE] == 8 && huge[400 * GIB - 1] == 77;
        huge[7 * GIB + PAGE] = 1;
        huge[123 * GIB + 5] = 2;
        _exit(same ? 0 : 1);
    }
    int status = -1;
    EQUAL(waitpid(child, &status, 0), child);
    EQUAL(status, 0);
    EQUAL(huge[7 * GIB + PAGE], 8);
    EQUAL(huge[123 * GIB + 5], 0);
    EQUAL(madvise(huge, 200 * GIB, MADV_DONTNEED), 0);
    EQUAL(huge[7 * GIB + PAGE], 0);
    EQUAL(huge[400 * GIB - 1], 77);
    /* Parts of it with other rights, and holes. */
    EQUAL(mprotect(huge + 16 * PAGE, 32 * GIB, PROT_NONE), 0);
    CHECK(!readable(huge + GIB));
    EQUAL(mprotect(huge + 16 * PAGE, 32 * GIB, PROT_READ | PROT_WRITE), 0);
    CHECK(readable(huge + GIB));
    huge[GIB] = 3;
    EQUAL(munmap(huge + 2 * GIB, 300 * GIB), 0);
    EQUAL(huge[GIB], 3);
    EQUAL(huge[400 * GIB - 1], 77);
    char *moved = mremap(huge, 2 * GIB, 500 * GIB, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED);
    EQUAL(moved[GIB], 3);
    moved[499 * GIB] = 4;
    EQUAL(munmap(moved, 500 * GIB), 0);
    EQUAL(munmap(huge + 302 * GIB, 98 * GIB), 0);
}

static void test_none(void) {
    char *none = map(2 * TIB, PROT_NONE, 0);
    CHECK(none != MAP_FAILED);
    if (none == MAP_FAILED)
        return;
    char *more = map(40 * TIB, PROT_NONE, MAP_NORESERVE), *most = map(40 * TIB, PROT_NONE, 0);
    CHECK(more != MAP_FAILED && most != MAP_FAILED);
    EQUAL(munmap(most, 40 * TIB), 0);
    CHECK(!readable(none) && !readable(none + TIB));
    EQUAL(dies_by_write(none + TIB), SIGSEGV);
    /* What a runtime does with it: parts become memory one after the other, by mprotect or a mapping over it. */
    for (size_t i = 0; i < 64; i++)
        EQUAL(mprotect(none + i * 16 * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE), 0);
    memset(none, 'x', 64 * 16 * PAGE);
    EQUAL(none[64 * 16 * PAGE - 1], 'x');
    CHECK(!readable(none + 64 * 16 * PAGE));
    char *over = mmap(none + TIB, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(over == none + TIB);
    memset(over, 'y', 32 * PAGE);
    EQUAL(dies_by_write(over + 32 * PAGE), SIGSEGV);
    EQUAL(mprotect(none, 64 * 16 * PAGE, PROT_NONE), 0);
    EQUAL(mprotect(none, 64 * 16 * PAGE, PROT_READ), 0);
    EQUAL(none[5], 'x'); /* the bytes outlive the rights */
    EQUAL(madvise(none, 2 * TIB, MADV_DONTNEED), 0);
    EQUAL(none[5], 0);
    EQUAL(over[5], 0);
    FAILS(mprotect(none, 2 * TIB, PROT_READ | PROT_WRITE), ENOMEM); /* that would have to be there */
    EQUAL(mprotect(more + 3 * GIB, 400 * GIB, PROT_READ | PROT_WRITE), 0); /* that not */
    more[300 * GIB] = 1;
    CHECK(!readable(more + 2 * GIB));
    EQUAL(more[300 * GIB] + more[299 * GIB], 1);
    /* Growing and moving what is not there. */
    char *moved = mremap(none + TIB + 32 * PAGE, GIB, 2 * GIB, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED && !readable(moved));
    EQUAL(mprotect(moved + 2 * GIB - PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
    moved[2 * GIB - 1] = 9;
    EQUAL(moved[2 * GIB - 1], 9);
    EQUAL(munmap(moved, 2 * GIB), 0);
    EQUAL(munmap(none, 2 * TIB), 0);
    EQUAL(munmap(more, 40 * TIB), 0);
}

int main(void) {
    test_writable();
    test_none();
    return finish("reservations");
}
