/* Files mapped shared agree with read and write of this and of other processes, at once and in the end. */
#include "children.h"
#include <sys/mman.h>

enum { SIZE = 3 * 4096 + 100 };

static int fd;
static char *mapped;

static char *map(int protection, int flags, long offset) {
    char *made = mmap(NULL, SIZE, protection, flags, fd, offset);
    CHECK(made != MAP_FAILED);
    return made;
}

static int looks(void) { /* by its own open and its own mapping */
    char text[8] = "";
    int own = open("file", O_RDWR);
    CHECK(pread(own, text, 5, 5000) == 5 && !strcmp(text, "store"));
    CHECK(pwrite(own, "other", 5, 8190) == 5);
    char *mine = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0);
    CHECK(mine[5000] == 's');
    mine[100] = 'm';
    return failures;
}

static void test_coherent(void) {
    char text[8] = "";
    memcpy(mapped + 5000, "store", 5);
    EQUAL(pread(fd, text, 5, 5000), 5);
    CHECK(!strcmp(text, "store"));
    EQUAL(run(looks), 0);
    CHECK(!memcmp(mapped + 8190, "other", 5) && mapped[100] == 'm');
    EQUAL(pwrite(fd, "write", 5, 4094), 5); /* across two pages */
    CHECK(!memcmp(mapped + 4094, "write", 5));
    char *second = map(PROT_READ, MAP_SHARED, 4096);
    mapped[4096 + 7] = 'q';
    EQUAL(second[7], 'q');
    EQUAL(munmap(second, SIZE), 0);
    char *own = map(PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    own[100] = 'p';
    EQUAL(mapped[100], 'm');
    mapped[9000] = 'v';
    EQUAL(own[9000], 'v'); /* not copied yet */
    EQUAL(munmap(own, SIZE), 0);
}

static int counts_up(void) {
    for (int n = 0; n < 300; n++)
        __atomic_fetch_add((long *)(mapped + 2048), 1, __ATOMIC_SEQ_CST);
    return 0;
}

static void test_processes(void) {
    pid_t pids[3];
    for (int n = 0; n < 3; n++)
        pids[n] = start(counts_up);
    for (int n = 0; n < 3; n++)
        EQUAL(ended(pids[n]), 0);
    long value;
    EQUAL(pread(fd, &value, sizeof value, 2048), sizeof value);
    EQUAL(value, 900);
}

static int last_byte(void) { return mapped[SIZE - 1]; }
static int after_the_end(void) { return mapped[4 * 4096]; }
static int second_page(void) { return mapped[4096]; }

/* Growing and shrinking beneath a mapping. */
static void test_sizes(void) {
    EQUAL(munmap(mapped, SIZE), 0);
    mapped = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    EQUAL(mapped[SIZE], 0);
    mapped[SIZE] = 'z'; /* on the last page, beyond the end: nobody's */
    EQUAL(run(after_the_end), 128 + SIGBUS);
    EQUAL(ftruncate(fd, 4 * 4096 + 1), 0);
    EQUAL(run(after_the_end), 0);
    EQUAL(ftruncate(fd, 4096), 0);
    EQUAL(run(second_page), 128 + SIGBUS);
    EQUAL(run(last_byte), 128 + SIGBUS);
    EQUAL(ftruncate(fd, SIZE), 0);
    EQUAL(mapped[5000], 0); /* what was cut off is gone */
    EQUAL(mapped[100], 'm');
}

static void test_msync(void) {
    mapped[1] = 'k';
    EQUAL(msync(mapped, 4096, MS_SYNC), 0);
    EQUAL(msync(mapped, 4096, MS_ASYNC), 0);
    EQUAL(msync(mapped, 4096, MS_INVALIDATE), 0);
    FAILS(msync(mapped, 4096, MS_SYNC | MS_ASYNC), EINVAL);
    FAILS(msync(mapped + 1, 4096, MS_SYNC), EINVAL);
    EQUAL(fsync(fd), 0);
    char *hole = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EQUAL(munmap(hole, 4096), 0);
    FAILS(msync(hole, 8192, MS_SYNC), ENOMEM);
    EQUAL(munmap(hole + 4096, 4096), 0);
}

static void test_refused(void) {
    int reader = open("file", O_RDONLY), writer = open("file", O_WRONLY);
    FAILS((long)mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, reader, 0), EACCES);
    FAILS((long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, writer, 0), EACCES);
    char *readable = mmap(NULL, 4096, PROT_READ, MAP_SHARED, reader, 0);
    FAILS(mprotect(readable, 4096, PROT_READ | PROT_WRITE), EACCES);
    EQUAL(munmap(readable, 4096), 0);
    close(reader);
    close(writer);
}

/* What was stored lasts when nobody has it mapped or open, and a file that lost its name lives on. */
static void test_the_end(void) {
    mapped[2] = 'e';
    EQUAL(munmap(mapped, 5 * 4096), 0);
    EQUAL(close(fd), 0);
    char text[3];
    fd = open("file", O_RDWR);
    EQUAL(pread(fd, text, 3, 0), 3);
    CHECK(text[1] == 'k' && text[2] == 'e');
    mapped = map(PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    EQUAL(unlink("file"), 0);
    EQUAL(close(fd), 0);
    mapped[3] = 'u';
    EQUAL(mapped[2] + mapped[3], 'e' + 'u');
    FAILS(open("file", O_RDONLY), ENOENT);
    EQUAL(munmap(mapped, SIZE), 0);
}

int main(void) {
    limit(60);
    fd = open("file", O_RDWR | O_CREAT, 0600);
    EQUAL(ftruncate(fd, SIZE), 0);
    mapped = map(PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    test_coherent();
    test_processes();
    test_sizes();
    test_msync();
    test_refused();
    test_the_end();
    return finish("shared_files");
}
