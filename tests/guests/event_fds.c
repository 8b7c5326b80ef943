/* eventfd, timerfd, signalfd: counts, expirations, signals; blocking, and waited for. */
#include "children.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static int readable(int fd) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, 0);
}

static int counter;

static int adds_soon(void) {
    uint64_t value = 5;
    pause_ms(20);
    return write(counter, &value, 8) == 8 ? 0 : 1;
}

static void test_eventfd(void) {
    uint64_t value = 0;
    counter = eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC);
    EQUAL(fcntl(counter, F_GETFD), FD_CLOEXEC);
    EQUAL(readable(counter), 1);
    EQUAL(read(counter, &value, 8), 8);
    EQUAL(value, 3);
    FAILS(read(counter, &value, 8), EAGAIN);
    EQUAL(readable(counter), 0);
    value = UINT64_MAX - 1;
    EQUAL(write(counter, &value, 8), 8);
    value = 1;
    FAILS(write(counter, &value, 8), EAGAIN);
    value = UINT64_MAX;
    FAILS(write(counter, &value, 8), EINVAL);
    FAILS(write(counter, &value, 4), EINVAL);
    FAILS(read(counter, &value, 4), EINVAL);
    EQUAL(read(counter, &value, 8), 8);
    EQUAL(value, UINT64_MAX - 1);
    close(counter);
    FAILS(eventfd(0, 0x40), EINVAL);
    counter = eventfd(2, EFD_SEMAPHORE);
    for (int n = 0; n < 2; n++) {
        EQUAL(read(counter, &value, 8), 8);
        EQUAL(value, 1);
    }
    close(counter);
    counter = eventfd(0, 0);
    pid_t pid = start(adds_soon);
    EQUAL(read(counter, &value, 8), 8); /* blocks */
    EQUAL(value, 5);
    EQUAL(ended(pid), 0);
    close(counter);
}

static void test_timerfd(void) {
    uint64_t value = 0;
    struct itimerspec once = {.it_value = {0, 300000000}}, now, none = {0}; /* long, for busy machines */
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    EQUAL(readable(timer), 0);
    long long begin = now_ms();
    EQUAL(timerfd_settime(timer, 0, &once, &now), 0);
    EQUAL(now.it_value.tv_sec + now.it_value.tv_nsec, 0);
    EQUAL(timerfd_gettime(timer, &now), 0);
    CHECK(now.it_value.tv_sec == 0 && now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 300000000);
    EQUAL(read(timer, &value, 8), 8);
    EQUAL(value, 1);
    CHECK(now_ms() - begin >= 299);
    EQUAL(timerfd_gettime(timer, &now), 0);
    EQUAL(now.it_value.tv_nsec, 0);
    struct itimerspec often = {.it_value = {0, 1000000}, .it_interval = {0, 10000000}};
    EQUAL(timerfd_settime(timer, 0, &often, NULL), 0);
    pause_ms(45);
    EQUAL(read(timer, &value, 8), 8);
    CHECK(value >= 4 && value < 1000);
    EQUAL(timerfd_settime(timer, 0, &none, &now), 0);
    EQUAL(now.it_interval.tv_nsec, 10000000);
    EQUAL(fcntl(timer, F_SETFL, O_NONBLOCK), 0);
    FAILS(read(timer, &value, 8), EAGAIN);
    struct itimerspec past = {.it_value = {1, 0}};
    EQUAL(timerfd_settime(timer, TFD_TIMER_ABSTIME, &past, NULL), 0);
    struct pollfd one = {.fd = timer, .events = POLLIN};
    EQUAL(poll(&one, 1, 5000), 1);
    EQUAL(read(timer, &value, 8), 8);
    FAILS(read(timer, &value, 7), EINVAL);
    FAILS(write(timer, &value, 8), EINVAL);
    past.it_value.tv_nsec = 1000000000;
    FAILS(timerfd_settime(timer, 0, &past, NULL), EINVAL);
    FAILS(timerfd_settime(timer, 0, (void *)8, NULL), EFAULT);
    FAILS(timerfd_settime(0, 0, &none, NULL), EINVAL);
    FAILS(timerfd_create(99, 0), EINVAL);
    FAILS(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
    close(timer);
    timer = timerfd_create(CLOCK_REALTIME, 0);
    EQUAL(timerfd_settime(timer, 0, &once, NULL), 0);
    EQUAL(read(timer, &value, 8), 8);
    close(timer);
}

static int ends(void) { return 7; }

static void test_signalfd(void) {
    struct signalfd_siginfo info[3];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    CHECK(fd >= 0);
    FAILS(read(fd, info, sizeof info), EAGAIN);
    EQUAL(readable(fd), 0);
    raise(SIGUSR1);
    EQUAL(readable(fd), 1);
    EQUAL(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 42}), 0);
    EQUAL(read(fd, info, sizeof info), 2 * sizeof *info);
    CHECK(info[0].ssi_signo == SIGUSR1 && info[0].ssi_pid == (uint32_t)getpid() && info[0].ssi_code == SI_TKILL);
    CHECK(info[1].ssi_signo == (uint32_t)SIGRTMIN && info[1].ssi_int == 42 && info[1].ssi_code == SI_QUEUE);
    FAILS(read(fd, info, sizeof info), EAGAIN);
    pid_t pid = start(ends);
    struct pollfd one = {.fd = fd, .events = POLLIN};
    EQUAL(poll(&one, 1, 10000), 1);
    EQUAL(read(fd, info, sizeof info), sizeof *info);
    CHECK(info[0].ssi_signo == SIGCHLD && info[0].ssi_pid == (uint32_t)pid && info[0].ssi_status == 7);
    CHECK(info[0].ssi_code == CLD_EXITED);
    EQUAL(ended(pid), 7);
    FAILS(read(fd, info, 10), EINVAL);
    sigemptyset(&set);
    EQUAL(signalfd(fd, &set, 0), fd);
    raise(SIGUSR1);
    EQUAL(readable(fd), 0);
    FAILS(signalfd(0, &set, 0), EINVAL);
    FAILS(signalfd(-1, &set, 1), EINVAL);
    close(fd);
    signal(SIGUSR1, SIG_IGN);
}

int main(void) {
    limit(60);
    test_eventfd();
    test_timerfd();
    test_signalfd();
    return finish("event_fds");
}
