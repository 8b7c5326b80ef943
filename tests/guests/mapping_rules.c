/* Mappings: ranges that wrap, hints, what mremap and madvise refuse, code that is changed after it ran. */
#include "check.h"

#include <sys/mman.h>
#include <sys/resource.h>

#define PAGE 4096ul

static char *map(size_t size, int prot) { return mmap(0, size, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

static void arguments(void) {
    char *p = map(8 * PAGE, PROT_READ | PROT_WRITE);
    CHECK(!munmap(p + 4 * PAGE, 4 * PAGE)); /* a hole: what mprotect changes before it fails ends here */
    FAILS(syscall(SYS_mmap, 0, 0, PROT_READ, MAP_PRIVATE, -1, 0), EBADF);
    FAILS(syscall(SYS_mmap, 0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
    FAILS(syscall(SYS_mmap, 0, -1ul, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    FAILS(syscall(SYS_mmap, 0, 1ul << 62, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    FAILS(syscall(SYS_mremap, p, PAGE, -1ul, MREMAP_MAYMOVE), EINVAL);
    FAILS(syscall(SYS_mremap, p, PAGE, 1ul << 47, MREMAP_MAYMOVE | MREMAP_FIXED, p + (1 << 20)), EINVAL);
    FAILS(syscall(SYS_mremap, p, PAGE, 0, MREMAP_MAYMOVE), EINVAL);
    FAILS(syscall(SYS_mremap, p + 1, PAGE, PAGE, MREMAP_MAYMOVE), EINVAL);
    FAILS(syscall(SYS_madvise, p, -1ul, MADV_DONTNEED), EINVAL);
    FAILS(syscall(SYS_madvise, p, 1ul << 62, MADV_NORMAL), ENOMEM);
    EQUAL(syscall(SYS_madvise, p, 0ul, MADV_NORMAL), 0);
    FAILS(syscall(SYS_mprotect, p, 1ul << 62, PROT_READ), ENOMEM);
    FAILS(syscall(SYS_mprotect, p, -1ul, PROT_READ), ENOMEM);
    EQUAL(syscall(SYS_mprotect, p, PAGE, PROT_READ | PROT_WRITE | 8 /* PROT_SEM */), 0);
    FAILS(syscall(SYS_mprotect, p, PAGE, 1 << 20), EINVAL);
    FAILS(syscall(SYS_mprotect, p, PAGE, PROT_READ | PROT_GROWSDOWN), EINVAL);
    FAILS(syscall(SYS_munmap, p, -1ul), EINVAL);
    FAILS(syscall(SYS_munmap, p, 0ul), EINVAL);
    CHECK(!munmap(p, 4 * PAGE));
}

static void hints(void) {
    char *p = map(8 * PAGE, PROT_READ);
    CHECK(!munmap(p, 8 * PAGE));
    EQUAL((long)mmap(p + 2 * PAGE + 5, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), (long)p + 2 * PAGE);
    CHECK(!munmap(p + 2 * PAGE, PAGE));
    FAILS((long)mmap(p + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), EINVAL);
}

static void shrinks_over_several(void) {
    char *p = map(4 * PAGE, PROT_READ | PROT_WRITE);
    CHECK(!mprotect(p + 2 * PAGE, PAGE, PROT_READ));
    EQUAL(syscall(SYS_mremap, p, 4 * PAGE, PAGE, 0), (long)p);
    FAILS(mprotect(p + PAGE, PAGE, PROT_READ), ENOMEM);
    CHECK(!munmap(p, PAGE));
}

static void files(void) {
    put("data", "0123456789");
    int fd = open("data", O_RDWR);
    FAILS((long)mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 1), EINVAL);
    FAILS(syscall(SYS_mmap, 0, PAGE, PROT_READ, MAP_PRIVATE, fd, 1ul << 63), EOVERFLOW);
    char *p = mmap(0, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(!close(fd));
    p[0] = 'x';
    CHECK(!memcmp(p, "x123456789\0", 11));
    CHECK(!munmap(p + PAGE, PAGE));
    char *q = mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    CHECK(q != MAP_FAILED && !memcmp(q, "x123456789\0", 11));
    fd = open("data", O_RDONLY);
    EQUAL(read(fd, q + PAGE - 4, 100), 4); /* the next page lies beyond the file */
    CHECK(!close(fd));
    CHECK(!munmap(q, 2 * PAGE));
    CHECK(!unlink("data"));
}

#if defined(__x86_64__)
static const unsigned char RETURNS[2][8] = {{0xb8, 1, 0, 0, 0, 0xc3}, {0xb8, 2, 0, 0, 0, 0xc3}};
#else
static const unsigned char RETURNS[2][8] = {{0x20, 0, 0x80, 0x52, 0xc0, 3, 0x5f, 0xd6},
                                            {0x40, 0, 0x80, 0x52, 0xc0, 3, 0x5f, 0xd6}};
#endif

static int call(char *code) {
    __builtin___clear_cache(code, code + 8);
    return ((int (*)(void))code)();
}

/* Every way by which other bytes come where code has run already. */
static void changed_code(void) {
    int fd = open("code", O_RDWR | O_CREAT | O_TRUNC, 0755);
    EQUAL(write(fd, RETURNS, 16), 16);
    char *p = map(PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    for (int turn = 0; turn < 6; turn++) {
        memcpy(p, RETURNS[turn & 1], 8);
        EQUAL(call(p), 1 + (turn & 1));
    }
    for (int turn = 0; turn < 6; turn++) { /* by the kernel's hand */
        EQUAL(pread(fd, p, 8, 8 * (turn & 1)), 8);
        EQUAL(call(p), 1 + (turn & 1));
    }
    for (int turn = 0; turn < 4; turn++) { /* another mapping at the same place, looked at before it runs */
        CHECK(!munmap(p, PAGE));
        CHECK(mmap(p, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
        memcpy(p, RETURNS[turn & 1], 8);
        CHECK(!mprotect(p, PAGE, PROT_READ | PROT_EXEC));
        CHECK(!memcmp(p, RETURNS[turn & 1], 8));
        EQUAL(call(p), 1 + (turn & 1));
    }
    for (int turn = 0; turn < 4; turn++) { /* written while not executable */
        CHECK(!mprotect(p, PAGE, PROT_READ | PROT_WRITE));
        memcpy(p, RETURNS[turn & 1], 8);
        CHECK(!mprotect(p, PAGE, PROT_READ));
        CHECK(!mprotect(p, PAGE, PROT_READ | PROT_EXEC));
        EQUAL(call(p), 1 + (turn & 1));
    }
    char *q = map(2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC); /* moved */
    memcpy(q, RETURNS[0], 8);
    memcpy(q + PAGE, RETURNS[1], 8);
    EQUAL(call(q) + call(q + PAGE), 3);
    CHECK(mremap(q + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q) == q);
    EQUAL(call(q), 2);
    CHECK(!madvise(p, PAGE, MADV_NORMAL) && !close(fd) && !unlink("code"));
}

static void limited(void) {
    struct rlimit old, low;
    CHECK(!getrlimit(RLIMIT_AS, &old));
    low = (struct rlimit){64ul << 20, old.rlim_max};
    CHECK(!setrlimit(RLIMIT_AS, &low));
    FAILS((long)map(128ul << 20, PROT_NONE), ENOMEM);
    char *p = map(PAGE, PROT_READ);
    FAILS((long)mremap(p, PAGE, 128ul << 20, MREMAP_MAYMOVE), ENOMEM);
    long end = syscall(SYS_brk, 0);
    EQUAL(syscall(SYS_brk, end + (128l << 20)), end);
    CHECK(!setrlimit(RLIMIT_AS, &old));
}

/* Many small mappings stay quick to make, and gaps are found again. */
static void many(void) {
    static char *pages[3000];
    for (int i = 0; i < 3000; i++)
        pages[i] = map(PAGE, i & 1 ? PROT_READ : PROT_READ | PROT_WRITE);
    CHECK(!munmap(pages[10], PAGE));
    EQUAL((long)map(PAGE, PROT_READ), (long)pages[10]);
    for (int i = 0; i < 3000; i++)
        CHECK(!munmap(pages[i], PAGE));
}

int main(void) {
    arguments();
    hints();
    shrinks_over_several();
    files();
    changed_code();
    limited();
    many();
    return finish("mapping_rules");
}
