/* alarm, setitimer, nanosleep, clock_nanosleep: when, how often, what is left. */
#include "children.h"
#include <sys/time.h>

static volatile int alarms;

static void handler(int number) {
    alarms += number == SIGALRM;
}

static void test_alarm(void) {
    signal(SIGALRM, handler);
    EQUAL(alarm(100), 0);
    CHECK(alarm(1) >= 99);
    long long begin = now_ms();
    FAILS(pause(), EINTR);
    CHECK(now_ms() - begin >= 900);
    EQUAL(alarms, 1);
    EQUAL(alarm(0), 0);
}

static void test_itimer(void) {
    struct itimerval timer = {{0, 5000}, {0, 10000}}, old, none = {0};
    alarms = 0;
    long long begin = now_ms();
    EQUAL(setitimer(ITIMER_REAL, &timer, NULL), 0);
    EQUAL(getitimer(ITIMER_REAL, &old), 0);
    CHECK(old.it_interval.tv_usec == 5000 && old.it_value.tv_usec <= 10000);
    while (alarms < 5)
        pause_ms(1);
    CHECK(now_ms() - begin >= 28);
    EQUAL(setitimer(ITIMER_REAL, &none, &old), 0);
    EQUAL(old.it_interval.tv_usec, 5000);
    int before = alarms;
    pause_ms(20);
    EQUAL(alarms, before);
    timer.it_value.tv_usec = 1000000;
    FAILS(setitimer(ITIMER_REAL, &timer, NULL), EINVAL);
    FAILS(setitimer(9, &none, NULL), EINVAL);
    FAILS(syscall(SYS_setitimer, ITIMER_REAL, 8, NULL), EFAULT);
}

/* It interrupts a computation that makes no system calls. */
static void test_computation(void) {
    struct itimerval timer = {{0, 0}, {0, 20000}};
    alarms = 0;
    EQUAL(setitimer(ITIMER_REAL, &timer, NULL), 0);
    while (!alarms)
        ;
    EQUAL(alarms, 1);
}

static void test_sleep(void) {
    struct timespec time = {0, 20000000}, left, bad = {0, 1000000000};
    long long begin = now_ms();
    EQUAL(nanosleep(&time, NULL), 0);
    CHECK(now_ms() - begin >= 19);
    FAILS(nanosleep(&bad, NULL), EINVAL);
    bad = (struct timespec){-1, 0};
    FAILS(nanosleep(&bad, NULL), EINVAL);
    FAILS(nanosleep((void *)8, NULL), EFAULT);
    struct itimerval timer = {{0, 0}, {0, 20000}};
    EQUAL(setitimer(ITIMER_REAL, &timer, NULL), 0);
    time = (struct timespec){10, 0};
    FAILS(nanosleep(&time, &left), EINTR);
    CHECK(left.tv_sec == 9 && left.tv_nsec > 0 && left.tv_nsec < 1000000000);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    EQUAL(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL), 0);
    EQUAL(clock_nanosleep(CLOCK_REALTIME, 0, &bad, NULL), EINVAL);
    EQUAL(clock_nanosleep(99, 0, &until, NULL), EINVAL);
}

static int fires(void) {
    alarms = 0;
    pause_ms(40);
    return alarms;
}

/* A child has no timers. */
static void test_fork(void) {
    struct itimerval timer = {{0, 0}, {0, 10000}};
    EQUAL(setitimer(ITIMER_REAL, &timer, NULL), 0);
    EQUAL(run(fires), 0);
}

static void test_cpu_time(void) {
    struct itimerval timer = {{0, 0}, {0, 20000}};
    signal(SIGVTALRM, handler);
    signal(SIGPROF, SIG_DFL);
    EQUAL(setitimer(ITIMER_VIRTUAL, &timer, NULL), 0);
    EQUAL(getitimer(ITIMER_VIRTUAL, &timer), 0);
    struct timespec begin, now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    do
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    while ((now.tv_sec - begin.tv_sec) * 1000000000LL + now.tv_nsec - begin.tv_nsec < 30000000);
    EQUAL(getitimer(ITIMER_VIRTUAL, &timer), 0);
    EQUAL(setitimer(ITIMER_VIRTUAL, &(struct itimerval){0}, NULL), 0);
}

int main(void) {
    test_alarm();
    test_itimer();
    test_computation();
    test_sleep();
    test_fork();
    test_cpu_time();
    return finish("timers");
}
