/* brk, mmap, munmap, mprotect, mremap, madvise of private memory: results, errno and contents. */
#include "check.h"
#include <sys/mman.h>
#include <sys/uio.h>

enum { PAGE = 4096 };

static char *map(size_t pages, int prot) {
    return mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Whether the kernel can read, write a byte there: EFAULT instead of a signal. */
static int readable(const void *address) {
    static int fd = -1;
    if (fd < 0)
        fd = open("probe", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return pwrite(fd, address, 1, 0) == 1;
}

static int writable(void *address) {
    static int fd = -1;
    if (fd < 0)
        fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    return read(fd, address, 1) == 1;
}

static void test_brk(void) {
    char *start = (char *)syscall(SYS_brk, 0);
    CHECK(start != NULL);
    EQUAL(syscall(SYS_brk, start + 3 * PAGE + 5), start + 3 * PAGE + 5);
    int zeros = 1;
    for (int i = 0; i < 3 * PAGE + 5; i++)
        zeros &= start[i] == 0;
    CHECK(zeros);
    memset(start, 9, 3 * PAGE + 5);
    EQUAL(syscall(SYS_brk, start + PAGE), start + PAGE);
    CHECK(!readable(start + 2 * PAGE));
    EQUAL(syscall(SYS_brk, start + 2 * PAGE), start + 2 * PAGE);
    EQUAL(start[0], 9);
    EQUAL(start[PAGE], 0); /* what was given back comes back as zeros */
    EQUAL(syscall(SYS_brk, 1), start + 2 * PAGE); /* refusal: the old break */
    EQUAL(syscall(SYS_brk, (char *)-4096L), start + 2 * PAGE);
    EQUAL(syscall(SYS_brk, start), start);
}

static void test_mmap(void) {
    FAILS(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
    FAILS(syscall(SYS_mmap, NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 1), EINVAL);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0), EBADF);
    FAILS(mmap((void *)(PAGE + 1), PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), EINVAL);
    FAILS(syscall(SYS_mmap, NULL, -1L, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    FAILS(syscall(SYS_mmap, NULL, 1L << 62, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), ENOMEM);
    FAILS(syscall(SYS_mmap, -8192L, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), ENOMEM);

    char *a = map(4, PROT_READ | PROT_WRITE);
    CHECK(a != MAP_FAILED);
    EQUAL((uintptr_t)a % PAGE, 0);
    EQUAL(a[0] + a[4 * PAGE - 1], 0);
    memset(a, 5, 4 * PAGE);
    /* MAP_FIXED replaces what is there, MAP_FIXED_NOREPLACE refuses, a hint is only a hint. */
    CHECK(mmap(a + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == a + PAGE);
    EQUAL(a[PAGE], 0);
    EQUAL(a[2 * PAGE], 5);
    FAILS(mmap(a, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    char *elsewhere = mmap(a, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(elsewhere != MAP_FAILED && elsewhere != a);
    EQUAL(a[0], 5);
    EQUAL(munmap(elsewhere, PAGE), 0);
    char *none = map(1, PROT_NONE);
    CHECK(!readable(none) && !writable(none));
    EQUAL(munmap(none, PAGE), 0);

    FAILS(munmap(a + 1, PAGE), EINVAL);
    FAILS(munmap(a, 0), EINVAL);
    FAILS(syscall(SYS_munmap, a, -1L), EINVAL);
    EQUAL(munmap(a + PAGE, PAGE + 1), 0); /* rounded up: two pages */
    CHECK(readable(a) && !readable(a + PAGE) && !readable(a + 2 * PAGE) && readable(a + 3 * PAGE));
    EQUAL(munmap(a, 4 * PAGE), 0); /* holes are no error */
    EQUAL(munmap(a, 4 * PAGE), 0);
}

static void test_file(void) {
    put("mapped", "first line of the file\n");
    int fd = open("mapped", O_RDONLY | O_CLOEXEC);
    char *m = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(m != MAP_FAILED);
    EQUAL(memcmp(m, "first line", 10), 0);
    EQUAL(m[23], 0);          /* the rest of the last page is zero */
    EQUAL(m[PAGE - 1], 0);
    memcpy(m, "FIRST", 5);    /* private: never reaches the file */
    char text[6] = "";
    EQUAL(pread(fd, text, 5, 0), 5);
    EQUAL(strcmp(text, "first"), 0);
    FAILS(syscall(SYS_mmap, NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 100), EINVAL);
    FAILS(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
    EQUAL(close(fd), 0);      /* the mapping outlives the descriptor */
    EQUAL(m[6], 'l');
    EQUAL(unlink("mapped"), 0);
    EQUAL(m[7], 'i');
    EQUAL(munmap(m, 2 * PAGE), 0);

    fd = open("writeonly", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), EACCES);
    close(fd);
    fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
    close(fd);

    /* A page in the middle of a longer file. */
    fd = open("long", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (int i = 0; i < 5; i++) {
        char block[PAGE];
        memset(block, 'a' + i, PAGE);
        EQUAL(write(fd, block, PAGE), PAGE);
    }
    m = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 2 * PAGE);
    CHECK(m != MAP_FAILED && m[0] == 'c' && m[2 * PAGE - 1] == 'd');
    munmap(m, 2 * PAGE);
    m = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, PAGE);
    CHECK(m != MAP_FAILED && m[1] == 'b');
    m[1] = 'x';
    EQUAL(pread(fd, text, 2, PAGE), 2);
    EQUAL(text[1], 'b');
    munmap(m, PAGE);
    m = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, open("/dev/zero", O_RDWR | O_CLOEXEC), 0);
    CHECK(m != MAP_FAILED && m[0] == 0);
    close(fd);
}

static void test_mprotect(void) {
    char *a = map(4, PROT_READ | PROT_WRITE);
    memset(a, 3, 4 * PAGE);
    EQUAL(mprotect(a + PAGE, PAGE, PROT_READ), 0);
    CHECK(writable(a) && !writable(a + PAGE) && readable(a + PAGE) && writable(a + 2 * PAGE));
    EQUAL(mprotect(a + PAGE, 1, PROT_NONE), 0);
    CHECK(!readable(a + PAGE));
    EQUAL(mprotect(a, 4 * PAGE, PROT_READ | PROT_WRITE), 0);
    EQUAL(a[PAGE], 3);
    EQUAL(mprotect(a, 0, PROT_NONE), 0);
    FAILS(syscall(SYS_mprotect, a + 1, PAGE, PROT_READ), EINVAL);
    FAILS(mprotect(a, PAGE, 0x40000000), EINVAL);
    EQUAL(munmap(a + 2 * PAGE, PAGE), 0);
    FAILS(mprotect(a, 4 * PAGE, PROT_READ), ENOMEM);
    CHECK(!writable(a) && !writable(a + PAGE)); /* the pages before the hole were changed */
    FAILS(mprotect((void *)0x1000, PAGE, PROT_READ), ENOMEM);
    munmap(a, 4 * PAGE);
    int fd = open("readonly", O_RDONLY | O_CREAT | O_CLOEXEC, 0444);
    EQUAL(fd >= 0, 1);
    char *m = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    EQUAL(mprotect(m, PAGE, PROT_READ | PROT_WRITE), 0); /* private: the file's mode does not matter */
    munmap(m, PAGE);
    close(fd);
}

static void test_mremap(void) {
    char *a = map(8, PROT_READ | PROT_WRITE);
    memset(a, 1, 8 * PAGE);
    EQUAL(munmap(a + 4 * PAGE, 4 * PAGE), 0);
    CHECK(mremap(a, 4 * PAGE, 2 * PAGE, 0) == a); /* shrinks in place */
    CHECK(!readable(a + 2 * PAGE));
    CHECK(mremap(a, 2 * PAGE, 3 * PAGE, 0) == a); /* grows in place where there is room */
    EQUAL(a[2 * PAGE], 0);
    EQUAL(a[PAGE], 1);
    char *wall = mmap(a + 3 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(wall == a + 3 * PAGE);
    FAILS(mremap(a, 3 * PAGE, 6 * PAGE, 0), ENOMEM);
    char *b = mremap(a, 3 * PAGE, 6 * PAGE, MREMAP_MAYMOVE);
    CHECK(b != MAP_FAILED && b != a);
    EQUAL(b[0] + b[2 * PAGE - 1] + b[5 * PAGE], 2);
    CHECK(!readable(a));
    char *c = map(6, PROT_READ);
    CHECK(mremap(b, 6 * PAGE, 6 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, c) == c);
    EQUAL(c[0] + c[5 * PAGE], 1);
    CHECK(writable(c) && !readable(b));
    FAILS(mremap(c + 1, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EINVAL);
    FAILS(mremap(c, PAGE, 0, MREMAP_MAYMOVE), EINVAL);
    FAILS(mremap(c, PAGE, PAGE, 64), EINVAL);
    FAILS(mremap(c, PAGE, PAGE, MREMAP_FIXED, wall), EINVAL);
    FAILS(mremap(c, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, c + PAGE), EINVAL);
    FAILS(mremap(b, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
    munmap(c, 6 * PAGE);
    munmap(wall, PAGE);
}

static void test_madvise(void) {
    char *a = map(4, PROT_READ | PROT_WRITE);
    memset(a, 8, 4 * PAGE);
    EQUAL(madvise(a + PAGE, PAGE, MADV_DONTNEED), 0);
    EQUAL(a[PAGE], 0);
    EQUAL(a[0] + a[2 * PAGE], 16);
    EQUAL(madvise(a, 4 * PAGE, MADV_WILLNEED), 0);
    EQUAL(madvise(a, 4 * PAGE, MADV_NORMAL), 0);
    EQUAL(madvise(a, 4 * PAGE, MADV_SEQUENTIAL), 0);
    EQUAL(madvise(a, 0, MADV_DONTNEED), 0);
    FAILS(madvise(a + 1, PAGE, MADV_NORMAL), EINVAL);
    FAILS(madvise(a, PAGE, 12345), EINVAL);
    EQUAL(munmap(a + 2 * PAGE, PAGE), 0);
    FAILS(madvise(a, 4 * PAGE, MADV_DONTNEED), ENOMEM);
    EQUAL(a[3 * PAGE], 0); /* what lies behind the hole was done all the same */
    munmap(a, 4 * PAGE);

    int fd = open("advised", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    EQUAL(write(fd, "contents", 8), 8);
    a = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    a[0] = 'X';
    EQUAL(madvise(a, PAGE, MADV_DONTNEED), 0);
    EQUAL(a[0], 'c'); /* back to the file's bytes */
    munmap(a, PAGE);
    close(fd);
}

static void test_code(void) {
    /* Code written, made executable, run, rewritten, run again. */
#ifdef __x86_64__
    unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
    unsigned char *immediate = code + 1;
#else
    unsigned int code[] = {0x52800000 | 42 << 5, 0xd65f03c0}; /* mov w0, 42; ret */
    unsigned int *immediate = code;
#endif
    unsigned char *page = (unsigned char *)map(1, PROT_READ | PROT_WRITE);
    memcpy(page, code, sizeof code);
    EQUAL(mprotect(page, PAGE, PROT_READ | PROT_EXEC), 0);
    __builtin___clear_cache((char *)page, (char *)page + sizeof code);
    EQUAL(((int (*)(void))(uintptr_t)page)(), 42);
    EQUAL(mprotect(page, PAGE, PROT_READ | PROT_WRITE), 0);
#ifdef __x86_64__
    *immediate = 43;
#else
    *immediate = 0x52800000 | 43 << 5;
#endif
    memcpy(page, code, sizeof code);
    EQUAL(mprotect(page, PAGE, PROT_READ | PROT_EXEC), 0);
    __builtin___clear_cache((char *)page, (char *)page + sizeof code);
    EQUAL(((int (*)(void))(uintptr_t)page)(), 43);

    /* The kernel writes code: read(2) into a page that was run from before. */
    put("code", "");
    int fd = open("code", O_RDWR | O_CLOEXEC);
#ifdef __x86_64__
    *immediate = 44;
#else
    *immediate = 0x52800000 | 44 << 5;
#endif
    EQUAL(write(fd, code, sizeof code), sizeof code);
    EQUAL(mprotect(page, PAGE, PROT_READ | PROT_WRITE), 0);
    EQUAL(pread(fd, page, sizeof code, 0), sizeof code);
    EQUAL(mprotect(page, PAGE, PROT_READ | PROT_EXEC), 0);
    __builtin___clear_cache((char *)page, (char *)page + sizeof code);
    EQUAL(((int (*)(void))(uintptr_t)page)(), 44);

    /* Another page of code at the same address. */
    EQUAL(munmap(page, PAGE), 0);
    ssize_t length = PAGE;
    EQUAL(ftruncate(fd, length), 0);
#ifdef __x86_64__
    *immediate = 45;
#else
    *immediate = 0x52800000 | 45 << 5;
#endif
    EQUAL(pwrite(fd, code, sizeof code, 0), sizeof code);
    CHECK(mmap(page, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0) == (void *)page);
    EQUAL(((int (*)(void))(uintptr_t)page)(), 45);
    munmap(page, PAGE);
    close(fd);
}

static void test_large(void) {
    /* Far more address space than memory, touched here and there. */
    size_t size = 1UL << 36;
    char *a = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(a != MAP_FAILED || errno == ENOMEM); /* where memory is accounted strictly */
    if (a != MAP_FAILED) {
        int sum = 0;
        for (size_t i = 0; i < size; i += size / 16)
            a[i] = (char)(i / (size / 16));
        for (size_t i = 0; i < size; i += size / 16)
            sum += a[i];
        if (sum != 120 || munmap(a, size))
            failures++;
    }
    /* Many small mappings, alternating so that none can be merged. */
    char *b = map(2048, PROT_READ | PROT_WRITE);
    for (int i = 0; i < 2048; i += 2)
        CHECK(mprotect(b + (size_t)i * PAGE, PAGE, PROT_READ) == 0);
    for (int i = 0; i < 2048; i++)
        CHECK(writable(b + (size_t)i * PAGE) == i % 2);
    EQUAL(munmap(b, 2048 * PAGE), 0);
}

int main(void) {
    test_brk();
    test_mmap();
    test_file();
    test_mprotect();
    test_mremap();
    test_madvise();
    test_code();
    test_large();
    return finish("memory");
}
