/* timer_create and its kin: signals to the process and to a thread, values, overruns, every clock, errors. */
#include "children.h"
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

static volatile int count, last_value, last_code, last_overrun, last_timer;
static volatile pid_t last_thread;

static void handler(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    count++;
    last_value = info->si_value.sival_int;
    last_code = info->si_code;
    last_overrun = info->si_overrun;
    last_timer = info->si_timerid;
    last_thread = gettid();
}

static int create(int clock, int how, int signal, int value, pid_t thread, int *timer) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = how;
    event.sigev_signo = signal;
    event.sigev_value.sival_int = value;
    memcpy((char *)&event + 16, &thread, sizeof thread); /* sigev_notify_thread_id */
    return (int)syscall(SYS_timer_create, clock, &event, timer);
}

static int arm(int timer, int flags, long value_ns, long interval_ns, struct itimerspec *old) {
    struct itimerspec new = {{interval_ns / 1000000000, interval_ns % 1000000000},
                             {value_ns / 1000000000, value_ns % 1000000000}};
    return (int)syscall(SYS_timer_settime, timer, flags, &new, old);
}

static void test_once(int clock) {
    int timer = -1;
    struct itimerspec left;
    count = 0;
    EQUAL(create(clock, SIGEV_SIGNAL, SIGUSR1, 4711, 0, &timer), 0);
    EQUAL(syscall(SYS_timer_gettime, timer, &left), 0);
    EQUAL(left.it_value.tv_sec + left.it_value.tv_nsec, 0);
    EQUAL(arm(timer, 0, 100000000000, 7, NULL), 0);
    EQUAL(arm(timer, 0, 5000000, 0, &left), 0);
    CHECK(left.it_value.tv_sec >= 99 && left.it_interval.tv_nsec == 7);
    while (!count)
        ; /* computes */
    EQUAL(count, 1);
    EQUAL(last_value, 4711);
    EQUAL(last_code, SI_TIMER);
    EQUAL(last_timer, timer);
    EQUAL(syscall(SYS_timer_gettime, timer, &left), 0);
    EQUAL(left.it_value.tv_sec + left.it_value.tv_nsec, 0);
    EQUAL(syscall(SYS_timer_getoverrun, timer), 0);
    EQUAL(syscall(SYS_timer_delete, timer), 0);
    FAILS(syscall(SYS_timer_delete, timer), EINVAL);
}

/* While its signal is blocked a timer counts what it misses. */
static void test_overrun(void) {
    int timer;
    sigset_t block, before;
    struct itimerspec left;
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, &before);
    count = 0;
    EQUAL(create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 1, 0, &timer), 0);
    EQUAL(arm(timer, 0, 1000000, 1000000, NULL), 0);
    pause_ms(60);
    EQUAL(count, 0);
    EQUAL(syscall(SYS_timer_getoverrun, timer), 0); /* of a signal that was taken */
    EQUAL(syscall(SYS_timer_gettime, timer, &left), 0);
    CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 1000000);
    EQUAL(arm(timer, 0, 1000000, 1000000, NULL), 0);
    pause_ms(60);
    siginfo_t info;
    EQUAL(sigwaitinfo(&block, &info), SIGUSR1);
    if (info.si_overrun == 0) /* the one from before it was armed anew may still have been there */
        EQUAL(sigwaitinfo(&block, &info), SIGUSR1);
    CHECK(info.si_overrun >= 50);
    EQUAL(syscall(SYS_timer_delete, timer), 0);
    struct timespec none = {0, 0};
    sigtimedwait(&block, NULL, &none);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static void test_interval(void) {
    int timer;
    count = 0;
    EQUAL(create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 1, 0, &timer), 0);
    long long begin = now_ms();
    EQUAL(arm(timer, 0, 2000000, 5000000, NULL), 0);
    while (count < 5)
        pause_ms(1);
    CHECK(now_ms() - begin >= 21);
    EQUAL(arm(timer, 0, 0, 5000000, NULL), 0);
    int seen = count;
    pause_ms(20);
    EQUAL(count, seen);
    /* An ignored signal does not stop it. */
    signal(SIGUSR2, SIG_IGN);
    int ignored;
    EQUAL(create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR2, 1, 0, &ignored), 0);
    EQUAL(arm(ignored, 0, 1000000, 1000000, NULL), 0);
    pause_ms(10);
    struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR2, &act, NULL);
    count = 0;
    while (count < 2)
        pause_ms(1);
    EQUAL(syscall(SYS_timer_delete, ignored), 0);
    EQUAL(syscall(SYS_timer_delete, timer), 0);
}

static void test_absolute(void) {
    static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    for (int i = 0; i < 3; i++) {
        int timer;
        struct timespec now;
        count = 0;
        EQUAL(create(clocks[i], SIGEV_SIGNAL, SIGUSR1, i, 0, &timer), 0);
        clock_gettime(clocks[i], &now);
        EQUAL(arm(timer, TIMER_ABSTIME, now.tv_sec * 1000000000L + now.tv_nsec + 3000000, 0, NULL), 0);
        while (!count)
            pause_ms(1);
        EQUAL(last_value, i);
        EQUAL(arm(timer, TIMER_ABSTIME, 1, 0, NULL), 0); /* long gone: at once */
        while (count < 2)
            pause_ms(1);
        EQUAL(syscall(SYS_timer_delete, timer), 0);
    }
}

static void *sleeper(void *argument) {
    *(volatile pid_t *)argument = gettid();
    while (!count)
        pause_ms(1);
    return NULL;
}

static void test_thread(void) {
    pthread_t thread;
    volatile pid_t id = 0;
    int timer;
    count = 0;
    pthread_create(&thread, NULL, sleeper, (void *)&id);
    while (!id)
        pause_ms(1);
    EQUAL(create(CLOCK_MONOTONIC, SIGEV_SIGNAL | 4, SIGUSR1, 9, id, &timer), 0);
    EQUAL(arm(timer, 0, 1000000, 0, NULL), 0);
    pthread_join(thread, NULL);
    EQUAL(last_thread, id);
    EQUAL(syscall(SYS_timer_delete, timer), 0);
    FAILS(create(CLOCK_MONOTONIC, SIGEV_SIGNAL | 4, SIGUSR1, 9, 0x3fffffff, &timer), EINVAL);
}

/* No notice: only a clock that counts down. */
static void test_none(void) {
    int timer;
    struct itimerspec left;
    EQUAL(create(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0, &timer), 0);
    EQUAL(arm(timer, 0, 2000000, 0, NULL), 0);
    pause_ms(5);
    EQUAL(syscall(SYS_timer_gettime, timer, &left), 0);
    EQUAL(left.it_value.tv_sec + left.it_value.tv_nsec, 0);
    EQUAL(arm(timer, 0, 2000000, 1000000000, NULL), 0);
    pause_ms(5);
    EQUAL(syscall(SYS_timer_gettime, timer, &left), 0);
    CHECK(left.it_value.tv_nsec > 900000000);
    EQUAL(syscall(SYS_timer_delete, timer), 0);
}

static void test_errors(void) {
    int timer;
    struct itimerspec left, bad = {{0, 0}, {0, 1000000000}};
    FAILS(create(99, SIGEV_SIGNAL, SIGUSR1, 0, 0, &timer), EINVAL);
    FAILS(create(CLOCK_MONOTONIC_COARSE, SIGEV_SIGNAL, SIGUSR1, 0, 0, &timer), EOPNOTSUPP);
    FAILS(create(CLOCK_MONOTONIC, 3, SIGUSR1, 0, 0, &timer), EINVAL);
    FAILS(create(CLOCK_MONOTONIC, SIGEV_SIGNAL, 65, 0, 0, &timer), EINVAL);
    FAILS(create(CLOCK_MONOTONIC, SIGEV_SIGNAL, 0, 0, 0, &timer), EINVAL);
    FAILS(create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 0, 0, (int *)8), EFAULT);
    FAILS(syscall(SYS_timer_settime, 12345, 0, &left, NULL), EINVAL);
    FAILS(syscall(SYS_timer_gettime, 12345, &left), EINVAL);
    FAILS(syscall(SYS_timer_getoverrun, 12345), EINVAL);
    EQUAL(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &timer), 0); /* SIGALRM, its number the value */
    FAILS(syscall(SYS_timer_settime, timer, 0, NULL, NULL), EINVAL);
    FAILS(syscall(SYS_timer_settime, timer, 0, &bad, NULL), EINVAL);
    FAILS(syscall(SYS_timer_settime, timer, 0, 8, NULL), EFAULT);
    struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGALRM, &act, NULL);
    count = 0;
    EQUAL(arm(timer, 0, 1000000, 0, NULL), 0);
    while (!count)
        pause_ms(1);
    EQUAL(last_value, timer);
    /* They are not inherited, nor does a child that sleeps wake for its parent's. */
    EQUAL(arm(timer, 0, 20000000, 0, NULL), 0);
    count = 0;
    pid_t child = fork();
    if (child == 0) {
        struct itimerspec unused;
        int gone = syscall(SYS_timer_gettime, timer, &unused) == -1 && errno == EINVAL;
        pause_ms(60);
        struct rusage used;
        getrusage(RUSAGE_SELF, &used);
        _exit(!gone ? 1 : count ? 2 : used.ru_utime.tv_sec * 1000 + used.ru_utime.tv_usec / 1000 > 50 ? 3 : 0);
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        ;
    EQUAL(status, 0);
    EQUAL(count, 1);
    EQUAL(syscall(SYS_timer_delete, timer), 0);
}

int main(void) {
    struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &act, NULL);
    test_once(CLOCK_MONOTONIC);
    test_once(CLOCK_REALTIME);
    test_once(CLOCK_PROCESS_CPUTIME_ID);
    test_once(CLOCK_THREAD_CPUTIME_ID);
    test_overrun();
    test_interval();
    test_absolute();
    test_thread();
    test_none();
    test_errors();
    return finish("timers_created");
}
