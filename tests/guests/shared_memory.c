/* Memory shared after fork: no update of an atomic is lost, every process gets its share; memfd and seals. */
#include "children.h"
#include <sys/mman.h>

enum { WORKERS = 3, PAGES = 4 };

struct shared {
    long added, exchanged, locked, lock;
    int narrow;
    char bytes[8];
    int go, stop;
    long turns[WORKERS];
};

static struct shared *shared;
static long times = 20000;

static void *map(size_t size, int fd) {
    int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    void *made = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    CHECK(made != MAP_FAILED);
    return made;
}

static int updates(void) {
    for (long n = 0; n < times; n++) {
        __atomic_fetch_add(&shared->added, 1, __ATOMIC_SEQ_CST);
        __atomic_fetch_add(&shared->narrow, 3, __ATOMIC_RELAXED);
        __atomic_fetch_add(&shared->bytes[3], 1, __ATOMIC_RELAXED);
        long old = __atomic_load_n(&shared->exchanged, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&shared->exchanged, &old, old + 1, 1, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            ;
        if (n % 20 == 0) {
            while (__atomic_exchange_n(&shared->lock, 1, __ATOMIC_ACQUIRE))
                sched_yield();
            shared->locked++; /* not atomic: the lock must keep it */
            __atomic_store_n(&shared->lock, 0, __ATOMIC_RELEASE);
        }
    }
    return 0;
}

static void test_atomics(void) {
    pid_t pids[WORKERS];
    for (int n = 0; n < WORKERS; n++)
        pids[n] = start(updates);
    for (int n = 0; n < WORKERS; n++)
        EQUAL(ended(pids[n]), 0);
    EQUAL(shared->added, WORKERS * times);
    EQUAL(shared->exchanged, WORKERS * times);
    EQUAL(shared->narrow, 3 * WORKERS * times);
    EQUAL(shared->bytes[3], (char)(WORKERS * times));
    EQUAL(shared->bytes[2] + shared->bytes[4], 0);
    EQUAL(shared->locked, WORKERS * (times / 20));
}

static int number;

static int computes(void) {
    while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED))
        __atomic_fetch_add(&shared->turns[number], 1, __ATOMIC_RELAXED);
    return 0;
}

/* Processes that never make a system call all get on, and none has far less than its share. */
static void test_fairness(void) {
    pid_t pids[WORKERS];
    for (number = 0; number < WORKERS; number++)
        pids[number] = start(computes);
    long least = 0;
    for (int tries = 0; least < 1000 && tries < 1000; tries++) {
        pause_ms(20);
        least = LONG_MAX;
        for (int n = 0; n < WORKERS; n++) {
            long turns = __atomic_load_n(&shared->turns[n], __ATOMIC_RELAXED);
            least = turns < least ? turns : least;
        }
    }
    pause_ms(300);
    __atomic_store_n(&shared->stop, 1, __ATOMIC_SEQ_CST);
    long most = 0;
    least = LONG_MAX;
    for (int n = 0; n < WORKERS; n++) {
        EQUAL(ended(pids[n]), 0);
        most = shared->turns[n] > most ? shared->turns[n] : most;
        least = shared->turns[n] < least ? shared->turns[n] : least;
    }
    CHECK(least > 0 && most / least < 20);
}

/* Waiting without a call for what another process stores. */
static int answers(void) {
    for (int n = 1; n <= 50; n++) {
        while (__atomic_load_n(&shared->go, __ATOMIC_ACQUIRE) != 2 * n - 1)
            ;
        __atomic_store_n(&shared->go, 2 * n, __ATOMIC_RELEASE);
    }
    return 0;
}

static void test_spinning(void) {
    pid_t pid = start(answers);
    for (int n = 1; n <= 50; n++) {
        __atomic_store_n(&shared->go, 2 * n - 1, __ATOMIC_RELEASE);
        while (__atomic_load_n(&shared->go, __ATOMIC_ACQUIRE) != 2 * n)
            ;
    }
    EQUAL(ended(pid), 0);
}

static char *pages;

static int changes_pages(void) {
    CHECK(pages[0] == 1 && pages[4096] == 0);
    pages[1] = 2;
    pages[4096 * PAGES - 1] = 3;
    EQUAL(munmap(pages, 4096), 0);
    char *moved = mremap(pages + 4096, 4096 * (PAGES - 1), 4096 * (PAGES - 1), MREMAP_MAYMOVE);
    moved[4096] = 4;
    EQUAL(mprotect(moved, 4096, PROT_READ), 0);
    return failures;
}

static void test_mappings(void) {
    pages = map(4096 * PAGES, -1);
    char *private = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pages[0] = private[0] = 1;
    EQUAL(run(changes_pages), 0);
    CHECK(pages[1] == 2 && pages[4096 * PAGES - 1] == 3 && pages[8192] == 4);
    char *again = mremap(pages, 0, 4096, MREMAP_MAYMOVE); /* a second mapping of the same */
    CHECK(again != MAP_FAILED && again != pages);
    again[5] = 9;
    EQUAL(pages[5], 9);
    EQUAL(msync(pages, 4096, MS_SYNC), 0);
    EQUAL(madvise(pages, 4096, MADV_DONTNEED), 0);
    EQUAL(pages[5], 9); /* shared memory keeps what it holds */
    munmap(again, 4096);
    munmap(private, 4096);
    munmap(pages, 4096 * PAGES);
}

static void test_memfd(void) {
    int fd = memfd_create("name", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQUAL(ftruncate(fd, 8192), 0);
    char *mapped = map(8192, fd), text[4] = "";
    mapped[0] = 'a';
    EQUAL(pwrite(fd, "bc", 2, 1), 2);
    EQUAL(pread(fd, text, 3, 0), 3);
    CHECK(!strcmp(text, "abc") && mapped[2] == 'c');
    pid_t pid = fork();
    if (pid == 0) {
        mapped[1] = 'B';
        _exit(pwrite(fd, "C", 1, 2) == 1 ? 0 : 1);
    }
    EQUAL(ended(pid), 0);
    CHECK(mapped[1] == 'B' && mapped[2] == 'C');
    EQUAL(fcntl(fd, F_GET_SEALS), 0);
    EQUAL(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    FAILS(ftruncate(fd, 4096), EPERM);
    FAILS(ftruncate(fd, 16384), EPERM);
    FAILS(pwrite(fd, "x", 1, 8192), EPERM);
    FAILS(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY); /* it is mapped for writing */
    EQUAL(munmap(mapped, 8192), 0);
    EQUAL(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL), 0);
    FAILS(pwrite(fd, "x", 1, 0), EPERM);
    FAILS((long)mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), EPERM);
    FAILS(fcntl(fd, F_ADD_SEALS, 0), EPERM);
    EQUAL(fcntl(fd, F_GET_SEALS), 15);
    close(fd);
    fd = memfd_create("name", 0);
    EQUAL(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
    FAILS(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
    struct stat status;
    EQUAL(fstat(fd, &status), 0);
    CHECK(S_ISREG(status.st_mode) && status.st_nlink == 0);
    close(fd);
    FAILS(memfd_create("name", 0x8000), EINVAL);
    FAILS(memfd_create((void *)8, 0), EFAULT);
}

int main(int argc, char **argv) {
    limit(90);
    if (argc > 1)
        times = atol(argv[1]);
    shared = map(sizeof *shared, -1);
    test_atomics();
    test_fairness();
    test_spinning();
    test_mappings();
    test_memfd();
    return finish("shared_memory");
}
