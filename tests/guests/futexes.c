/* futex: wait, wake, bitsets, requeue, wake-op, timeouts; between threads and between processes. */
#include "children.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>

static int word, other;
static int woken;

static long futex(int *at, int operation, int value, const void *timeout, int *second, int third) {
    return syscall(SYS_futex, at, operation, value, timeout, second, third);
}

static void test_refused(void) {
    struct timespec none = {0, 0}, negative = {-1, 0}, large = {0, 1000000000};
    FAILS(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0), EAGAIN);
    FAILS(futex(&word, FUTEX_WAIT, 0, &none, NULL, 0), ETIMEDOUT);
    FAILS(futex(&word, FUTEX_WAIT, 0, &negative, NULL, 0), EINVAL);
    FAILS(futex(&word, FUTEX_WAIT, 0, &large, NULL, 0), EINVAL);
    FAILS(futex(&word, FUTEX_WAIT, 0, (void *)8, NULL, 0), EFAULT);
    FAILS(futex((int *)8, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
    FAILS(futex((int *)((char *)&word + 1), FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
    FAILS(futex((int *)((char *)&word + 1), FUTEX_WAKE, 1, NULL, NULL, 0), EINVAL);
    FAILS(futex(&word, 99, 0, NULL, NULL, 0), ENOSYS);
    FAILS(futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), EINVAL);
    FAILS(futex(&word, FUTEX_WAKE_BITSET, 0, NULL, NULL, 0), EINVAL);
    FAILS(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &other, 1), EAGAIN);
    EQUAL(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
    EQUAL(futex(&word, FUTEX_REQUEUE, 1, (void *)1, &other, 0), 0);
}

static void test_timeouts(void) {
    struct timespec relative = {0, 20000000}, until;
    long long begin = now_ms();
    FAILS(futex(&word, FUTEX_WAIT_PRIVATE, 0, &relative, NULL, 0), ETIMEDOUT);
    CHECK(now_ms() - begin >= 19);
    for (int realtime = 0; realtime < 2; realtime++) {
        clock_gettime(realtime ? CLOCK_REALTIME : CLOCK_MONOTONIC, &until);
        until.tv_nsec += 20000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        begin = now_ms();
        int operation = FUTEX_WAIT_BITSET_PRIVATE | (realtime ? FUTEX_CLOCK_REALTIME : 0);
        FAILS(futex(&word, operation, 0, &until, NULL, FUTEX_BITSET_MATCH_ANY), ETIMEDOUT);
        CHECK(now_ms() - begin >= 18);
        FAILS(futex(&word, operation, 0, &until, NULL, FUTEX_BITSET_MATCH_ANY), ETIMEDOUT);
    }
}

static void *waits(void *bits) {
    long result = bits ? futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, (int)(long)bits)
                       : futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    __atomic_fetch_add(&woken, 1, __ATOMIC_SEQ_CST);
    return (void *)result;
}

/* Wakes as many as `wanted`, once they wait. */
static void wake(int *at, int operation, int count, int wanted, int bits) {
    long total = 0;
    for (int tries = 0; total < wanted && tries < 5000; tries++) {
        total += futex(at, operation, count, NULL, NULL, bits);
        if (total < wanted)
            pause_ms(1);
    }
    EQUAL(total, wanted);
}

static void test_wake(void) {
    pthread_t threads[4];
    void *result;
    for (int n = 0; n < 4; n++)
        EQUAL(pthread_create(&threads[n], NULL, waits, NULL), 0);
    wake(&word, FUTEX_WAKE_PRIVATE, 1, 1, 0);
    wake(&word, FUTEX_WAKE_PRIVATE, INT_MAX, 3, 0);
    for (int n = 0; n < 4; n++) {
        EQUAL(pthread_join(threads[n], &result), 0);
        EQUAL((long)result, 0);
    }
    EQUAL(woken, 4);
}

static void test_bitsets(void) {
    pthread_t threads[2];
    woken = 0;
    for (long n = 0; n < 2; n++)
        EQUAL(pthread_create(&threads[n], NULL, waits, (void *)(n + 1)), 0);
    EQUAL(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, NULL, NULL, 4), 0);
    wake(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, 1, 2);
    EQUAL(pthread_join(threads[1], NULL), 0);
    EQUAL(woken, 1);
    wake(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, 1, 1);
    EQUAL(pthread_join(threads[0], NULL), 0);
}

static void test_requeue(void) {
    pthread_t threads[5];
    long total = 0;
    woken = 0;
    for (int n = 0; n < 5; n++)
        EQUAL(pthread_create(&threads[n], NULL, waits, NULL), 0);
    for (int tries = 0; total < 5 && tries < 5000; tries++) { /* moved, none woken */
        total += futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)100, &other, 0);
        pause_ms(1);
    }
    EQUAL(total, 5);
    EQUAL(woken, 0);
    EQUAL(futex(&word, FUTEX_WAKE_PRIVATE, 9, NULL, NULL, 0), 0);
    EQUAL(futex(&other, FUTEX_WAKE_PRIVATE, 2, NULL, NULL, 0), 2);
    int operation = FUTEX_OP(FUTEX_OP_ADD, 7, FUTEX_OP_CMP_EQ, 0);
    EQUAL(futex(&word, FUTEX_WAKE_OP_PRIVATE, 9, (void *)9, &other, operation), 3);
    EQUAL(other, 7);
    for (int n = 0; n < 5; n++)
        EQUAL(pthread_join(threads[n], NULL), 0);
    EQUAL(woken, 5);
}

/* A shared futex by another process, which may have it elsewhere. */
static void test_processes(void) {
    int *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0) {
        int *here = mremap(shared, 8192, 8192, MREMAP_MAYMOVE);
        shared[1] = 1;
        while (__atomic_load_n(here, __ATOMIC_SEQ_CST) == 0)
            if (futex(here, FUTEX_WAIT, 0, NULL, NULL, 0) == -1 && errno != EAGAIN && errno != EINTR)
                _exit(1);
        _exit(here[0]);
    }
    while (__atomic_load_n(&shared[1], __ATOMIC_SEQ_CST) == 0)
        pause_ms(1);
    pause_ms(5);
    __atomic_store_n(shared, 17, __ATOMIC_SEQ_CST);
    CHECK(futex(shared, FUTEX_WAKE, 1, NULL, NULL, 0) >= 0);
    EQUAL(ended(pid), 17);
    EQUAL(munmap(shared, 8192), 0);
}

static void handler(int number) { (void)number; }

/* A timed wait ends when a handler has run, SA_RESTART or not; one without a limit is restarted. */
static void test_interrupted(void) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct timespec late = {30, 0};
    sigaction(SIGUSR1, &action, NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        pause_ms(10);
        _exit(kill(parent, SIGUSR1));
    }
    FAILS(futex(&word, FUTEX_WAIT, 0, &late, NULL, 0), EINTR);
    EQUAL(ended(pid), 0);
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid = fork();
    if (pid == 0) {
        pause_ms(10);
        kill(parent, SIGUSR1);
        pause_ms(20);
        while (!futex(shared, FUTEX_WAKE, 1, NULL, NULL, 0))
            pause_ms(1);
        _exit(0);
    }
    EQUAL(futex(shared, FUTEX_WAIT, 0, NULL, NULL, 0), 0);
    EQUAL(ended(pid), 0);
}

int main(void) {
    limit(60);
    test_refused();
    test_timeouts();
    test_wake();
    test_bitsets();
    test_requeue();
    test_processes();
    test_interrupted();
    return finish("futexes");
}
