/* Threads: thread-local storage, locks, conditions, the ends of threads and of processes by threads. */
#include "children.h"
#include <pthread.h>
#include <semaphore.h>

enum { THREADS = 8, TIMES = 2000 };

static __thread int local = 5;
static __thread char zeroed[300];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static long counter, atomic_counter, made_once, destroyed;
static pid_t tids[THREADS];
static sem_t semaphore;

static void make(void) { made_once++; }
static void destroy(void *value) { destroyed += (long)value; }

static void *work(void *argument) {
    long number = (long)argument;
    tids[number] = (pid_t)syscall(SYS_gettid);
    if (local != 5 || zeroed[299])
        return NULL;
    local = (int)number;
    errno = (int)number;
    pthread_setspecific(key, (void *)1);
    pthread_once(&once, make);
    pthread_barrier_wait(&barrier);
    for (int n = 0; n < TIMES; n++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
        __atomic_fetch_add(&atomic_counter, 1, __ATOMIC_SEQ_CST);
    }
    pthread_barrier_wait(&barrier);
    return (void *)(local == number && errno == number ? number + 100 : 0);
}

static void test_many(void) {
    pthread_t threads[THREADS];
    void *result;
    EQUAL(pthread_barrier_init(&barrier, NULL, THREADS), 0);
    EQUAL(pthread_key_create(&key, destroy), 0);
    for (long n = 0; n < THREADS; n++)
        EQUAL(pthread_create(&threads[n], NULL, work, (void *)n), 0);
    for (long n = 0; n < THREADS; n++) {
        EQUAL(pthread_join(threads[n], &result), 0);
        EQUAL((long)result, n + 100);
        CHECK(tids[n] > 0 && tids[n] != getpid() && (n == 0 || tids[n] != tids[n - 1]));
    }
    EQUAL(counter, THREADS * TIMES);
    EQUAL(atomic_counter, THREADS * TIMES);
    EQUAL(made_once, 1);
    EQUAL(destroyed, THREADS);
    EQUAL(local, 5);
}

static int turn;

static void *plays(void *argument) {
    int mine = (int)(long)argument;
    for (int n = 0; n < 300; n++) {
        pthread_mutex_lock(&mutex);
        while (turn != mine)
            pthread_cond_wait(&changed, &mutex);
        turn = !mine;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void test_conditions(void) {
    pthread_t one, two;
    EQUAL(pthread_create(&one, NULL, plays, (void *)0), 0);
    EQUAL(pthread_create(&two, NULL, plays, (void *)1), 0);
    EQUAL(pthread_join(one, NULL) + pthread_join(two, NULL), 0);
    EQUAL(turn, 0);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&mutex);
    EQUAL(pthread_cond_timedwait(&changed, &mutex, &until), ETIMEDOUT);
    EQUAL(pthread_mutex_trylock(&mutex), EBUSY);
    pthread_mutex_unlock(&mutex);
    EQUAL(sem_init(&semaphore, 0, 1), 0);
    EQUAL(sem_wait(&semaphore), 0);
    FAILS(sem_timedwait(&semaphore, &until), ETIMEDOUT);
}

/* A loop without a system call is interrupted so that the others run. */
static volatile int stop;

static void *computes(void *none) {
    while (!stop)
        ;
    return none;
}

static void test_preemption(void) {
    pthread_t threads[2];
    for (int n = 0; n < 2; n++)
        EQUAL(pthread_create(&threads[n], NULL, computes, NULL), 0);
    for (int n = 0; n < 5; n++)
        pause_ms(5);
    stop = 1;
    for (int n = 0; n < 2; n++)
        EQUAL(pthread_join(threads[n], NULL), 0);
}

static void *blocks(void *fd) {
    char byte;
    return (void *)(long)read(*(int *)fd, &byte, 1);
}

static void test_blocking(void) {
    int fds[2];
    pthread_t thread;
    void *result;
    EQUAL(pipe(fds), 0);
    EQUAL(pthread_create(&thread, NULL, blocks, &fds[0]), 0);
    pause_ms(5);
    EQUAL(pthread_kill(thread, 0), 0);
    EQUAL(write(fds[1], "x", 1), 1);
    EQUAL(pthread_join(thread, &result), 0);
    EQUAL((long)result, 1);
    EQUAL(pthread_create(&thread, NULL, blocks, &fds[0]), 0);
    EQUAL(pthread_cancel(thread), 0); /* a signal to the thread, and its read ends */
    EQUAL(pthread_join(thread, &result), 0);
    CHECK(result == PTHREAD_CANCELED);
    close(fds[0]);
    close(fds[1]);
}

static void *exits(void *status) {
    pause_ms(5);
    exit((int)(long)status);
}

static void *forever(void *none) {
    for (;;)
        pause();
    return none;
}

static int group_ends(void) {
    pthread_t thread;
    for (int n = 0; n < 3; n++)
        pthread_create(&thread, NULL, n == 2 ? exits : n ? forever : computes, (void *)23);
    forever(NULL);
    return 1;
}

static int main_thread_ends(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, exits, (void *)24);
    pthread_exit(NULL);
}

static void *last(void *none) {
    pause_ms(5);
    return none;
}

static int all_threads_end(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, last, NULL);
    syscall(SYS_exit, 25); /* the main thread's status is the process's */
    return 1;
}

static void *faults(void *none) {
    pause_ms(5);
    *(volatile int *)8 = 1;
    return none;
}

static int thread_faults(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, faults, NULL);
    forever(NULL);
    return 1;
}

static void test_ends(void) {
    stop = 0;
    EQUAL(run(group_ends), 23);
    EQUAL(run(main_thread_ends), 24);
    int status = run(all_threads_end);
    CHECK(status == 25 || status == 0); /* the last thread of a C library ends by exit(0) */
    EQUAL(run(thread_faults), 128 + SIGSEGV);
}

static void test_tgkill(void) {
    FAILS(syscall(SYS_tgkill, getpid(), 1 << 29, 0), ESRCH);
    FAILS(syscall(SYS_tgkill, getpid() + 1, getpid(), 0), ESRCH);
    FAILS(syscall(SYS_tgkill, -1, getpid(), 0), EINVAL);
    FAILS(syscall(SYS_tgkill, getpid(), 0, 0), EINVAL);
    EQUAL(syscall(SYS_tgkill, getpid(), getpid(), 0), 0);
    EQUAL(syscall(SYS_tkill, getpid(), 0), 0);
}

int main(void) {
    limit(90);
    test_many();
    test_conditions();
    test_preemption();
    test_blocking();
    test_ends();
    test_tgkill();
    return finish("threads");
}
