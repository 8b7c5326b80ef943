/* Robust lists: a lock whose owner dies, thread or process, is passed on with the news. */
#include "children.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>

struct shared {
    pthread_mutex_t mutex;
    pthread_mutex_t second;
    int ready;
};

static struct shared *shared;

static void make(pthread_mutex_t *mutex) {
    pthread_mutexattr_t attributes;
    EQUAL(pthread_mutexattr_init(&attributes), 0);
    EQUAL(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST), 0);
    EQUAL(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED), 0);
    EQUAL(pthread_mutex_init(mutex, &attributes), 0);
}

static void *locks(void *none) {
    pthread_mutex_lock(&shared->mutex);
    pthread_mutex_lock(&shared->second);
    return none;
}

static int exits_with_it(void) {
    locks(NULL);
    return 0;
}

static int is_killed_with_it(void) {
    locks(NULL);
    __atomic_store_n(&shared->ready, 1, __ATOMIC_SEQ_CST);
    for (;;)
        pause();
}

static void recover(pthread_mutex_t *mutex) {
    EQUAL(pthread_mutex_lock(mutex), EOWNERDEAD);
    EQUAL(pthread_mutex_consistent(mutex), 0);
    EQUAL(pthread_mutex_unlock(mutex), 0);
    EQUAL(pthread_mutex_lock(mutex), 0);
    EQUAL(pthread_mutex_unlock(mutex), 0);
}

static void test_a_thread_dies(void) {
    pthread_t thread;
    EQUAL(pthread_create(&thread, NULL, locks, NULL), 0);
    EQUAL(pthread_join(thread, NULL), 0);
    recover(&shared->mutex);
    recover(&shared->second);
}

static void test_a_process_exits(void) {
    EQUAL(run(exits_with_it), 0);
    recover(&shared->mutex);
    recover(&shared->second);
}

/* The lock is waited for while its owner is killed. */
static void test_a_process_is_killed(void) {
    pid_t pid = start(is_killed_with_it);
    while (!__atomic_load_n(&shared->ready, __ATOMIC_SEQ_CST))
        pause_ms(1);
    pid_t killer = fork();
    if (killer == 0) {
        pause_ms(20);
        _exit(kill(pid, SIGKILL));
    }
    recover(&shared->mutex);
    EQUAL(ended(pid), 128 + SIGKILL);
    EQUAL(ended(killer), 0);
    recover(&shared->second);
}

static int gives_up(void) {
    if (pthread_mutex_lock(&shared->mutex) != EOWNERDEAD)
        return 1;
    return pthread_mutex_unlock(&shared->mutex); /* not made consistent */
}

static void test_beyond_recovery(void) {
    EQUAL(run(exits_with_it), 0);
    EQUAL(run(gives_up), 0);
    EQUAL(pthread_mutex_lock(&shared->mutex), ENOTRECOVERABLE);
    recover(&shared->second);
}

static void test_the_calls(void) {
    struct robust_list_head *head = NULL;
    size_t size = 0;
    EQUAL(syscall(SYS_get_robust_list, 0, &head, &size), 0);
    EQUAL(size, sizeof *head);
    CHECK(head != NULL); /* one robust lock was taken, so the library has said where */
    FAILS(syscall(SYS_set_robust_list, head, size + 1), EINVAL);
    FAILS(syscall(SYS_get_robust_list, 1 << 29, &head, &size), ESRCH);
    EQUAL(syscall(SYS_set_robust_list, head, size), 0);
}

int main(void) {
    limit(60);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    make(&shared->mutex);
    make(&shared->second);
    test_a_thread_dies();
    test_a_process_exits();
    test_a_process_is_killed();
    test_beyond_recovery();
    test_the_calls();
    return finish("robust");
}
