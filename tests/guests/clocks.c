/* clock_gettime, clock_getres, gettimeofday, time, nanosleep, times: they agree and move on. */
#include "check.h"
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>

static long long ns(clockid_t clock) {
    struct timespec t;
    return syscall(SYS_clock_gettime, clock, &t) ? -1 : t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(void) {
    struct timespec t;
    struct timeval v;
    int known[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
                   CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        long long first = ns(known[i]), second = ns(known[i]);
        CHECK(first > 0 && second >= first);
        EQUAL(syscall(SYS_clock_getres, known[i], &t), 0);
        CHECK(t.tv_sec == 0 && t.tv_nsec > 0 && t.tv_nsec <= 10000000);
    }
    FAILS(syscall(SYS_clock_gettime, 99, &t), EINVAL);
    FAILS(syscall(SYS_clock_gettime, CLOCK_REALTIME, (void *)8), EFAULT);
    FAILS(syscall(SYS_clock_getres, 99, &t), EINVAL);
    EQUAL(syscall(SYS_gettimeofday, &v, NULL), 0);
    long long difference = ns(CLOCK_REALTIME) / 1000 - (v.tv_sec * 1000000LL + v.tv_usec);
    CHECK(difference >= 0 && difference < 10000000);
    CHECK(time(NULL) > 1600000000);

    long long before = ns(CLOCK_MONOTONIC), real = ns(CLOCK_REALTIME);
    t = (struct timespec){0, 20000000};
    EQUAL(nanosleep(&t, NULL), 0);
    CHECK(ns(CLOCK_MONOTONIC) - before >= 20000000);
    CHECK(ns(CLOCK_REALTIME) - real >= 10000000);
    before = ns(CLOCK_MONOTONIC);
    long long until = before + 15000000;
    t = (struct timespec){until / 1000000000, until % 1000000000};
    EQUAL(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL), 0);
    CHECK(ns(CLOCK_MONOTONIC) >= until);
    t = (struct timespec){0, 1000000000};
    FAILS(nanosleep(&t, NULL), EINVAL);
    t = (struct timespec){-1, 0};
    FAILS(nanosleep(&t, NULL), EINVAL);
    FAILS(syscall(SYS_nanosleep, (void *)8, NULL), EFAULT);
    t = (struct timespec){0, 0};
    EQUAL(nanosleep(&t, NULL), 0);

    /* Computing takes CPU time, sleeping does not. */
    long long cpu = ns(CLOCK_PROCESS_CPUTIME_ID);
    volatile unsigned sum = 0;
    while (ns(CLOCK_PROCESS_CPUTIME_ID) - cpu < 2000000)
        for (unsigned i = 0; i < 10000; i++)
            sum += i;
    struct tms ticks;
    CHECK(times(&ticks) != (clock_t)-1);
    CHECK(ticks.tms_utime + ticks.tms_stime >= 0 && ticks.tms_cutime == 0);
    return finish("clocks");
}
