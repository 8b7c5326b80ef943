/* What programs take for granted of their processor: atomics, alignment, hints, counters, tags in pointers. */
#include "check.h"
#include "faulting.h"
#include <stdatomic.h>
#include <time.h>

static _Alignas(64) volatile unsigned char room[256];

static void test_atomics(void) {
    _Atomic unsigned char one = 250;
    _Atomic unsigned short two = 65530;
    _Atomic unsigned four = 0xFFFFFFF0u;
    _Atomic unsigned long eight = ~0ul - 9;
    for (int n = 0; n < 10; n++) {
        atomic_fetch_add(&one, 1);
        atomic_fetch_add_explicit(&two, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&four, 1, memory_order_acq_rel);
        atomic_fetch_xor(&eight, 1ul << n);
    }
    EQUAL(one, 4);
    EQUAL(two, 4);
    EQUAL(four, 0xFFFFFFE6u);
    EQUAL(atomic_exchange(&eight, 7), (~0ul - 9) ^ 1023);
    unsigned long expected = 8;
    EQUAL(atomic_compare_exchange_strong(&eight, &expected, 9), 0);
    EQUAL(expected, 7);
    EQUAL(atomic_compare_exchange_strong(&eight, &expected, 9), 1);
    EQUAL(atomic_fetch_or(&eight, 16) + atomic_fetch_and(&eight, 24), 9 + 25);
    EQUAL(eight, 24);
}

static void test_unaligned(void) {
    for (int at = 1; at < 16; at++) {
        *(volatile uint64_t *)(room + at) = 0x0102030405060708u + at;
        EQUAL(*(volatile uint64_t *)(room + at), 0x0102030405060708u + at);
        EQUAL(room[at], 8 + at);
    }
}

#ifdef __aarch64__
static void test_exclusive(void) {
    uint64_t pair[2] __attribute__((aligned(16))) = {1, 2}, value;
    unsigned failed;
    do
        __asm__ volatile("ldaxp %0, x9, [%2]\n add %0, %0, #5\n stlxp %w1, %0, x9, [%2]"
                         : "=&r"(value), "=&r"(failed) : "r"(pair) : "x9", "memory");
    while (failed);
    CHECK(pair[0] == 6 && pair[1] == 2);
    register uint64_t a __asm__("x2") = 6, b __asm__("x3") = 2, c __asm__("x4") = 8, d __asm__("x5") = 9;
    __asm__ volatile(".arch armv8.1-a\n caspal x2, x3, x4, x5, [%4]"
                     : "+r"(a), "+r"(b) : "r"(c), "r"(d), "r"(pair) : "memory");
    CHECK(pair[0] == 8 && pair[1] == 9);
    __asm__ volatile("ldxr %0, [%1]\n clrex" : "=r"(value) : "r"(pair));
    __asm__ volatile("stxr %w0, %1, [%2]" : "=&r"(failed) : "r"(value), "r"(pair) : "memory");
    EQUAL(failed, 1);
}

static void test_alignment(void) {
    void *odd = (void *)(room + 3);
    FAULTS(__asm__ volatile("ldxr x9, [%0]" ::"r"(odd) : "x9"), SIGBUS, BUS_ADRALN, odd);
    FAULTS(__asm__ volatile(".arch armv8.1-a\n ldadd x9, x9, [%0]" ::"r"(odd) : "x9"), SIGBUS, BUS_ADRALN, odd);
    void *between = (void *)(room + 8);
    FAULTS(__asm__ volatile(".arch armv8.1-a\n casp x2, x3, x4, x5, [%0]" ::"r"(between) : "x2", "x3", "memory"),
           SIGBUS, BUS_ADRALN, between);
    void *into = (char *)test_unaligned + 2;
    FAULTS(((void (*)(void))into)(), SIGBUS, BUS_ADRALN, into);
    FAULTS(((void (*)(void))0x1001)(), SIGBUS, BUS_ADRALN, 0x1001);
}

static void test_hints(void) {
    __asm__ volatile("yield\n sevl\n wfe\n sev\n wfe\n isb\n dsb sy\n hint #25\n hint #29\n hint #34");
    for (int n = 0; n < 3; n++)
        __asm__ volatile("wfi");
}

static void test_caches(void) {
    uint64_t size;
    __asm__ volatile("mrs %0, dczid_el0" : "=r"(size));
    size = 4ul << (size & 15);
    for (int n = 0; n < 256; n++)
        room[n] = 1;
    __asm__ volatile("dc zva, %0" ::"r"(room) : "memory");
    EQUAL(room[0] + room[size - 1], 0);
    CHECK(size == 256 || room[size] == 1);
    __asm__ volatile("mrs x9, ctr_el0\n dc cvau, %0\n dc civac, %0\n dsb ish\n ic ivau, %0\n isb" ::"r"(room) : "x9");
    FAULTS(__asm__ volatile("dc ivac, %0" ::"r"(room)), SIGILL, ILL_ILLOPC, told.si_addr);
}

/* The top byte of a pointer is the program's own; system calls want it clean. */
static void test_tags(void) {
    volatile uint64_t *tagged = (volatile uint64_t *)((uint64_t)room | 0x5Bul << 56);
    *tagged = 99;
    EQUAL(*(volatile uint64_t *)room, 99);
    tagged = (volatile uint64_t *)((uint64_t)room | 0xFFul << 56);
    EQUAL(__atomic_fetch_add(tagged, 1, __ATOMIC_SEQ_CST) + *tagged, 199);
    FAILS(syscall(SYS_write, 2, tagged, 1), EFAULT);
}

static uint64_t counter(uint64_t *hertz) {
    uint64_t count;
    __asm__ volatile("isb\n mrs %0, cntvct_el0\n mrs %1, cntfrq_el0" : "=r"(count), "=r"(*hertz));
    return count;
}
#else
static void test_exclusive(void) {
    uint64_t pair[2] __attribute__((aligned(16))) = {1, 2}, low = 1, high = 2;
    unsigned char done;
    __asm__ volatile("lock cmpxchg16b %1\n sete %0"
                     : "=q"(done), "+m"(*(uint64_t(*)[2])pair), "+a"(low), "+d"(high) : "b"(8ul), "c"(9ul));
    CHECK(done && pair[0] == 8 && pair[1] == 9);
}

static void test_alignment(void) {}

static void test_hints(void) {
    __asm__ volatile("pause\n lfence\n mfence\n sfence\n prefetcht0 (%0)" ::"r"(room));
}

static void test_caches(void) { __asm__ volatile("clflush (%0)" ::"r"(room) : "memory"); }

static void test_tags(void) {}

static uint64_t counter(uint64_t *hertz) {
    *hertz = 0; /* it does not tell */
    unsigned low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}
#endif

static void test_counter(void) {
    uint64_t hertz, before = counter(&hertz);
    struct timespec begin, end, nap = {0, 20000000};
    clock_gettime(CLOCK_MONOTONIC, &begin);
    nanosleep(&nap, NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    uint64_t passed = counter(&hertz) - before;
    CHECK(passed > 1000);
    double slept = end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9;
    CHECK(!hertz || passed >= slept * hertz * 0.99);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    int signals[] = {SIGSEGV, SIGBUS, SIGILL};
    for (int n = 0; n < 3; n++)
        EQUAL(sigaction(signals[n], &action, NULL), 0);
    test_atomics();
    test_unaligned();
    test_exclusive();
    test_alignment();
    test_hints();
    test_caches();
    test_tags();
    test_counter();
    return finish("processor");
}
