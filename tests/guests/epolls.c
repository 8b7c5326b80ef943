/* epoll: level, edge, one shot, nested, shared after fork, changed often, and what it refuses. */
#include "children.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

static int epoll, fds[2];
static char byte;

static int control(int operation, int fd, unsigned events, unsigned long data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(epoll, operation, fd, &event);
}

/* The events of one descriptor that are reported at once; 0 for none. */
static unsigned now(unsigned long data) {
    struct epoll_event events[4];
    int count = epoll_wait(epoll, events, 4, 0);
    if (count <= 0)
        return count < 0 ? 0xbad : 0;
    CHECK(events[0].data.u64 == data);
    return events[0].events;
}

static void test_refused(void) {
    struct epoll_event event;
    FAILS(epoll_create1(1), EINVAL);
    FAILS(epoll_create(0), EINVAL);
    FAILS(control(EPOLL_CTL_ADD, 999, EPOLLIN, 0), EBADF);
    FAILS(control(EPOLL_CTL_ADD, epoll, EPOLLIN, 0), EINVAL);
    FAILS(control(EPOLL_CTL_MOD, fds[0], EPOLLIN, 0), ENOENT);
    FAILS(control(EPOLL_CTL_DEL, fds[0], 0, 0), ENOENT);
    FAILS(control(99, fds[0], EPOLLIN, 0), EINVAL);
    FAILS(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[0], (void *)8), EFAULT);
    FAILS(epoll_ctl(fds[0], EPOLL_CTL_ADD, fds[1], &event), EINVAL);
    int file = open("file", O_RDWR | O_CREAT, 0600);
    FAILS(control(EPOLL_CTL_ADD, file, EPOLLIN, 0), EPERM); /* always ready */
    close(file);
    EQUAL(unlink("file"), 0);
    FAILS(epoll_wait(epoll, &event, 0, 0), EINVAL);
    FAILS(epoll_wait(fds[0], &event, 1, 0), EINVAL);
    FAILS(epoll_wait(999, &event, 1, 0), EBADF);
    EQUAL(fcntl(epoll, F_GETFD), FD_CLOEXEC);
    FAILS(read(epoll, &byte, 1), EINVAL);
}

static void test_level(void) {
    EQUAL(control(EPOLL_CTL_ADD, fds[0], EPOLLIN, 7), 0);
    FAILS(control(EPOLL_CTL_ADD, fds[0], EPOLLIN, 7), EEXIST);
    EQUAL(now(7), 0);
    EQUAL(write(fds[1], "xy", 2), 2);
    EQUAL(now(7), EPOLLIN);
    EQUAL(now(7), EPOLLIN);
    EQUAL(read(fds[0], &byte, 1), 1);
    EQUAL(now(7), EPOLLIN);
    EQUAL(read(fds[0], &byte, 1), 1);
    EQUAL(now(7), 0);
    EQUAL(control(EPOLL_CTL_MOD, fds[0], 0, 8), 0);
    EQUAL(write(fds[1], "x", 1), 1);
    EQUAL(now(8), 0);
    EQUAL(control(EPOLL_CTL_MOD, fds[0], EPOLLIN, 9), 0);
    EQUAL(now(9), EPOLLIN);
    EQUAL(read(fds[0], &byte, 1), 1);
    EQUAL(control(EPOLL_CTL_DEL, fds[0], 0, 0), 0);
}

static void test_edge(void) {
    EQUAL(control(EPOLL_CTL_ADD, fds[0], EPOLLIN | EPOLLET, 1), 0);
    EQUAL(write(fds[1], "x", 1), 1);
    EQUAL(now(1), EPOLLIN);
    EQUAL(now(1), 0);
    EQUAL(write(fds[1], "y", 1), 1); /* news, though it was readable before */
    EQUAL(now(1), EPOLLIN);
    EQUAL(now(1), 0);
    EQUAL(read(fds[0], &byte, 1), 1);
    EQUAL(now(1), 0);
    EQUAL(control(EPOLL_CTL_MOD, fds[0], EPOLLIN | EPOLLET, 2), 0);
    EQUAL(now(2), EPOLLIN); /* looked at anew */
    EQUAL(read(fds[0], &byte, 1), 1);
    EQUAL(write(fds[1], "z", 1), 1);
    EQUAL(now(2), EPOLLIN);
    EQUAL(read(fds[0], &byte, 1), 1);
    EQUAL(control(EPOLL_CTL_DEL, fds[0], 0, 0), 0);
    EQUAL(write(fds[1], "w", 1), 1);
    EQUAL(control(EPOLL_CTL_ADD, fds[0], EPOLLIN | EPOLLET, 3), 0);
    EQUAL(now(3), EPOLLIN); /* what was there when it was added */
    EQUAL(now(3), 0);
    EQUAL(read(fds[0], &byte, 1), 1);
    EQUAL(control(EPOLL_CTL_DEL, fds[0], 0, 0), 0);
}

static void test_one_shot(void) {
    EQUAL(write(fds[1], "x", 1), 1);
    EQUAL(control(EPOLL_CTL_ADD, fds[0], EPOLLIN | EPOLLONESHOT, 4), 0);
    EQUAL(now(4), EPOLLIN);
    EQUAL(now(4), 0);
    EQUAL(write(fds[1], "y", 1), 1);
    EQUAL(now(4), 0);
    EQUAL(control(EPOLL_CTL_MOD, fds[0], EPOLLIN | EPOLLONESHOT, 5), 0);
    EQUAL(now(5), EPOLLIN);
    EQUAL(now(5), 0);
    char two[2];
    EQUAL(read(fds[0], two, 2), 2);
    EQUAL(control(EPOLL_CTL_DEL, fds[0], 0, 0), 0);
}

/* An epoll is itself readable while it has something to report. */
static void test_nested(void) {
    int outer = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 6};
    struct pollfd one = {.fd = epoll, .events = POLLIN};
    EQUAL(epoll_ctl(outer, EPOLL_CTL_ADD, epoll, &event), 0);
    EQUAL(control(EPOLL_CTL_ADD, fds[0], EPOLLIN, 1), 0);
    EQUAL(epoll_wait(outer, &event, 1, 0), 0);
    EQUAL(poll(&one, 1, 0), 0);
    EQUAL(write(fds[1], "x", 1), 1);
    EQUAL(poll(&one, 1, 1000), 1);
    EQUAL(epoll_wait(outer, &event, 1, 1000), 1);
    CHECK(event.data.u64 == 6 && event.events == EPOLLIN);
    EQUAL(now(1), EPOLLIN);
    EQUAL(read(fds[0], &byte, 1), 1);
    EQUAL(epoll_wait(outer, &event, 1, 0), 0);
    event.events = EPOLLIN;
    FAILS(epoll_ctl(epoll, EPOLL_CTL_ADD, outer, &event), ELOOP);
    EQUAL(control(EPOLL_CTL_DEL, fds[0], 0, 0), 0);
    close(outer);
}

/* What is closed is gone; a duplicate keeps it. */
static void test_closed(void) {
    int other[2];
    EQUAL(pipe(other), 0);
    EQUAL(control(EPOLL_CTL_ADD, other[0], EPOLLIN, 2), 0);
    int copy = dup(other[0]);
    close(other[0]);
    EQUAL(write(other[1], "x", 1), 1);
    EQUAL(now(2), EPOLLIN);
    close(copy);
    EQUAL(now(2), 0);
    close(other[1]);
    EQUAL(pipe(other), 0);
    EQUAL(control(EPOLL_CTL_ADD, other[0], EPOLLIN, 3), 0);
    close(other[1]);
    EQUAL(now(3), EPOLLHUP); /* asked for or not */
    close(other[0]);
    EQUAL(now(3), 0);
}

static int writes_soon(void) {
    pause_ms(20);
    return write(fds[1], "x", 1) == 1 ? 0 : 1;
}

static int waits(void) {
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, 5000) == 1 && event.data.u64 == 9 && read(fds[0], &byte, 1) == 1 ? 0 : 1;
}

static void test_between_processes(void) {
    struct epoll_event event;
    EQUAL(control(EPOLL_CTL_ADD, fds[0], EPOLLIN, 9), 0);
    long long begin = now_ms();
    EQUAL(epoll_wait(epoll, &event, 1, 30), 0);
    CHECK(now_ms() - begin >= 29);
    pid_t writer = start(writes_soon);
    EQUAL(epoll_wait(epoll, &event, 1, -1), 1);
    EQUAL(event.data.u64, 9);
    EQUAL(read(fds[0], &byte, 1), 1);
    EQUAL(ended(writer), 0);
    pid_t waiter = start(waits); /* the instance is shared after fork */
    EQUAL(writes_soon(), 0);
    EQUAL(ended(waiter), 0);
    sigset_t none;
    sigemptyset(&none);
    EQUAL(epoll_pwait(epoll, &event, 1, 0, &none), 0);
    EQUAL(control(EPOLL_CTL_DEL, fds[0], 0, 0), 0);
}

/* With more ready than there is room for, each gets its turn. */
static void test_fairness(void) {
    int many[10][2], seen = 0;
    for (int n = 0; n < 10; n++) {
        EQUAL(pipe(many[n]), 0);
        EQUAL(write(many[n][1], "x", 1), 1);
        EQUAL(control(EPOLL_CTL_ADD, many[n][0], EPOLLIN, (unsigned long)n), 0);
    }
    for (int n = 0; n < 5; n++) {
        struct epoll_event two[2];
        EQUAL(epoll_wait(epoll, two, 2, 0), 2);
        seen |= 1 << two[0].data.u64 | 1 << two[1].data.u64;
    }
    EQUAL(seen, 1023);
    for (int n = 0; n < 10; n++) {
        close(many[n][0]);
        close(many[n][1]);
    }
}

static void *reads(void *argument) {
    struct epoll_event event;
    CHECK(epoll_wait(epoll, &event, 1, 5000) == 1 && event.data.u64 == 4);
    return argument;
}

static int takes_out(void) {
    return control(EPOLL_CTL_DEL, fds[0], 0, 0) == 0 && control(EPOLL_CTL_ADD, fds[0], EPOLLIN, 6) == 0 ? 0 : 1;
}

/* What an event loop changes counts for whoever looks next: itself, poll, a child, another thread. */
static void test_changes(void) {
    struct pollfd one;
    struct epoll_event event;
    pthread_t thread;
    EQUAL(write(fds[1], "x", 1), 1);
    for (int round = 0; round < 4; round++) {
        epoll = epoll_create1(EPOLL_CLOEXEC);
        EQUAL(control(EPOLL_CTL_ADD, fds[0], EPOLLIN, 1), 0);
        EQUAL(now(1), EPOLLIN);
        for (int change = 0; change < 5; change++) {
            EQUAL(control(EPOLL_CTL_MOD, fds[0], EPOLLOUT, 2), 0);
            EQUAL(control(EPOLL_CTL_DEL, fds[0], 0, 0), 0);
            FAILS(control(EPOLL_CTL_MOD, fds[0], EPOLLIN, 3), ENOENT);
            FAILS(control(EPOLL_CTL_DEL, fds[0], 0, 0), ENOENT);
            EQUAL(control(EPOLL_CTL_ADD, fds[0], 0, 3), 0);
            FAILS(control(EPOLL_CTL_ADD, fds[0], EPOLLIN, 4), EEXIST);
        }
        if (round == 0) {
            EQUAL(now(3), 0);
            EQUAL(control(EPOLL_CTL_MOD, fds[0], EPOLLIN, 4), 0);
            EQUAL(now(4), EPOLLIN);
        } else if (round == 1) {
            one = (struct pollfd){.fd = epoll, .events = POLLIN};
            EQUAL(poll(&one, 1, 0), 0);
            EQUAL(control(EPOLL_CTL_MOD, fds[0], EPOLLIN, 4), 0);
            EQUAL(poll(&one, 1, 0), 1);
        } else if (round == 2) {
            EQUAL(control(EPOLL_CTL_MOD, fds[0], EPOLLIN, 5), 0);
            EQUAL(ended(start(takes_out)), 0);
            EQUAL(epoll_wait(epoll, &event, 1, 0), 1);
            EQUAL(event.data.u64, 6);
            EQUAL(control(EPOLL_CTL_DEL, fds[0], 0, 0), 0);
            EQUAL(ended(start(takes_out)), 1); /* which finds nothing there */
        } else {
            EQUAL(pthread_create(&thread, NULL, reads, NULL), 0);
            pause_ms(20);
            EQUAL(control(EPOLL_CTL_MOD, fds[0], EPOLLIN, 4), 0);
            for (volatile int busy = 0; busy < 1000000; busy++) /* no call of ours helps it */
                ;
            EQUAL(pthread_join(thread, NULL), 0);
        }
        close(epoll);
    }
    EQUAL(read(fds[0], &byte, 1), 1);
}

int main(void) {
    limit(60);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    EQUAL(pipe(fds), 0);
    test_refused();
    test_level();
    test_edge();
    test_one_shot();
    test_nested();
    test_closed();
    test_between_processes();
    test_fairness();
    close(epoll);
    test_changes();
    return finish("epolls");
}
