/* poll, ppoll, select, pselect6: readiness of pipes, files and ends, timeouts, masks. */
#include "children.h"
#include <poll.h>
#include <sys/select.h>
#include <sys/time.h>

static int fds[2];

static int revents(int fd, short events) {
    struct pollfd one = {.fd = fd, .events = events};
    int count = poll(&one, 1, 0);
    CHECK(count == (one.revents != 0));
    return one.revents;
}

static void test_poll(void) {
    char byte;
    EQUAL(revents(fds[0], POLLIN), 0);
    EQUAL(revents(fds[1], POLLOUT), POLLOUT);
    EQUAL(write(fds[1], "x", 1), 1);
    EQUAL(revents(fds[0], POLLIN | POLLOUT), POLLIN);
    EQUAL(revents(fds[0], 0), 0);
    EQUAL(revents(fds[0], POLLIN | POLLRDNORM), POLLIN | POLLRDNORM);
    EQUAL(read(fds[0], &byte, 1), 1);
    EQUAL(revents(999, POLLIN), POLLNVAL);
    EQUAL(revents(-1, POLLIN), 0);
    int file = open("file", O_RDWR | O_CREAT, 0600), null = open("/dev/null", O_RDWR);
    EQUAL(revents(file, POLLIN | POLLOUT), POLLIN | POLLOUT);
    EQUAL(revents(null, POLLIN | POLLOUT), POLLIN | POLLOUT);
    int other[2];
    EQUAL(pipe(other), 0);
    close(other[1]);
    EQUAL(revents(other[0], POLLIN), POLLHUP);
    close(other[0]);
    EQUAL(pipe(other), 0);
    close(other[0]);
    EQUAL(revents(other[1], POLLOUT), POLLOUT | POLLERR);
    close(other[1]);
    struct pollfd several[3] = {{fds[0], POLLIN, 99}, {file, POLLIN, 0}, {fds[1], POLLOUT, 0}};
    EQUAL(poll(several, 3, 1000), 2);
    CHECK(several[0].revents == 0 && several[1].revents == POLLIN && several[2].revents == POLLOUT);
    FAILS(poll((void *)8, 1, 0), EFAULT);
    FAILS(poll(several, 1 << 30, 0), EINVAL);
    close(file);
    close(null);
    EQUAL(unlink("file"), 0);
}

static void test_timeouts(void) {
    long long begin = now_ms();
    struct pollfd one = {.fd = fds[0], .events = POLLIN};
    EQUAL(poll(&one, 1, 30), 0);
    CHECK(now_ms() - begin >= 29);
    EQUAL(poll(NULL, 0, 10), 0);
    struct timespec time = {0, 30000000}, bad = {0, 1000000000};
    begin = now_ms();
    EQUAL(ppoll(&one, 1, &time, NULL), 0);
    CHECK(now_ms() - begin >= 29);
    FAILS(ppoll(&one, 1, &bad, NULL), EINVAL);
    struct timeval short_time = {0, 30000}, negative = {-1, 0};
    begin = now_ms();
    EQUAL(select(0, NULL, NULL, NULL, &short_time), 0);
    CHECK(now_ms() - begin >= 29);
    FAILS(select(0, NULL, NULL, NULL, &negative), EINVAL);
}

static void test_select(void) {
    fd_set readers, writers;
    struct timespec none = {0, 0};
    char byte;
    FD_ZERO(&readers);
    FD_ZERO(&writers);
    FD_SET(fds[0], &readers);
    FD_SET(fds[1], &writers);
    EQUAL(pselect(fds[1] + 1, &readers, &writers, NULL, &none, NULL), 1);
    CHECK(!FD_ISSET(fds[0], &readers) && FD_ISSET(fds[1], &writers));
    EQUAL(write(fds[1], "x", 1), 1);
    FD_SET(fds[0], &readers);
    EQUAL(pselect(fds[1] + 1, &readers, &writers, NULL, NULL, NULL), 2);
    FD_ZERO(&writers);
    FD_SET(fds[0], &readers);
    EQUAL(pselect(fds[0], &readers, NULL, NULL, &none, NULL), 0); /* below the first argument only */
    EQUAL(read(fds[0], &byte, 1), 1);
    FD_SET(40, &readers); /* not open */
    FAILS(pselect(41, &readers, NULL, NULL, &none, NULL), EBADF);
    FAILS(pselect(-1, NULL, NULL, NULL, &none, NULL), EINVAL);
    FAILS(pselect(1, (void *)8, NULL, NULL, &none, NULL), EFAULT);
}

static int writes_soon(void) {
    pause_ms(20);
    return write(fds[1], "x", 1) == 1 ? 0 : 1;
}

/* One waits for several ends while others write. */
static void test_between_processes(void) {
    char byte;
    for (int how = 0; how < 3; how++) {
        pid_t pid = start(writes_soon);
        struct pollfd one = {.fd = fds[0], .events = POLLIN};
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fds[0], &set);
        if (how == 0)
            EQUAL(poll(&one, 1, -1), 1);
        else if (how == 1)
            EQUAL(ppoll(&one, 1, NULL, NULL), 1);
        else
            EQUAL(select(fds[0] + 1, &set, NULL, NULL, NULL), 1);
        EQUAL(read(fds[0], &byte, 1), 1);
        EQUAL(ended(pid), 0);
    }
    int many[40][2];
    struct pollfd polled[40];
    for (int n = 0; n < 40; n++) {
        EQUAL(pipe(many[n]), 0);
        polled[n] = (struct pollfd){.fd = many[n][0], .events = POLLIN};
    }
    pid_t pid = fork();
    if (pid == 0) {
        for (int n = 39; n >= 0; n--)
            if (write(many[n][1], "x", 1) != 1)
                _exit(1);
        _exit(0);
    }
    int got = 0;
    while (got < 40) {
        EQUAL(poll(polled, 40, 10000) > 0, 1);
        for (int n = 0; n < 40; n++)
            if (polled[n].revents & POLLIN) {
                EQUAL(read(many[n][0], &byte, 1), 1);
                polled[n].fd = -1;
                got++;
            }
        if (failures)
            break;
    }
    EQUAL(ended(pid), 0);
    for (int n = 0; n < 40; n++) {
        close(many[n][0]);
        close(many[n][1]);
    }
}

static volatile int handled;
static void handler(int number) { handled += number == SIGUSR1; }

/* The mask is in force only while the call waits, so no signal is missed in between. */
static void test_masks(void) {
    sigset_t blocked, none, now;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    signal(SIGUSR1, handler);
    struct timespec long_time = {5, 0};
    raise(SIGUSR1);
    EQUAL(handled, 0);
    FAILS(ppoll(NULL, 0, &long_time, &none), EINTR);
    EQUAL(handled, 1);
    raise(SIGUSR1);
    FAILS(pselect(0, NULL, NULL, NULL, &long_time, &none), EINTR);
    EQUAL(handled, 2);
    sigprocmask(SIG_SETMASK, NULL, &now);
    CHECK(sigismember(&now, SIGUSR1));
    raise(SIGUSR1);
    EQUAL(write(fds[1], "x", 1), 1);
    struct pollfd one = {.fd = fds[0], .events = POLLIN};
    EQUAL(ppoll(&one, 1, &long_time, &none) == 1 || errno == EINTR, 1);
    sigprocmask(SIG_UNBLOCK, &blocked, NULL);
    EQUAL(handled, 3);
    char byte;
    EQUAL(read(fds[0], &byte, 1), 1);
}

int main(void) {
    limit(60);
    EQUAL(pipe(fds), 0);
    test_poll();
    test_timeouts();
    test_select();
    test_between_processes();
    test_masks();
    return finish("waiting");
}
