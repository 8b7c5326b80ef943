/* FIFOs: ends that wait for each other, O_NONBLOCK and ENXIO, ends of files, broken pipes, signals, poll. */
#include "children.h"
#include <poll.h>
#include <pthread.h>

static void make(void) {
    unlink("gate");
    EQUAL(mkfifo("gate", 0644), 0);
}

static int writes_late(void) {
    pause_ms(30);
    int fd = open("gate", O_WRONLY);
    return fd < 0 || write(fd, "late", 4) != 4;
}

static int reads_late(void) {
    char text[9];
    pause_ms(30);
    int fd = open("gate", O_RDONLY);
    return fd < 0 || read(fd, text, 9) != 4 || memcmp(text, "soon", 4) || read(fd, text, 9) != 0;
}

static void test_meeting(void) {
    char text[100] = "";
    make();
    pid_t pid = start(writes_late);
    int fd = open("gate", O_RDONLY | O_CLOEXEC);
    CHECK(fd > 2);
    EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQUAL(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
    EQUAL(read(fd, text, 9), 4);
    EQUAL(read(fd, text, 9), 0);
    EQUAL(ended(pid), 0);
    struct stat named, opened;
    EQUAL(stat("gate", &named), 0);
    EQUAL(fstat(fd, &opened), 0);
    CHECK(S_ISFIFO(opened.st_mode) && opened.st_ino == named.st_ino && opened.st_dev == named.st_dev);
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, text, sizeof text);
    CHECK(length > 5 && !memcmp(text + length - 5, "/gate", 5));
    FAILS(lseek(fd, 0, SEEK_SET), ESPIPE);
    FAILS(write(fd, "x", 1), EBADF);
    close(fd);
    pid = start(reads_late);
    fd = open("gate", O_WRONLY);
    EQUAL(write(fd, "soon", 4), 4);
    close(fd);
    EQUAL(ended(pid), 0);
}

static void test_nonblocking(void) {
    char text[9];
    make();
    FAILS(open("gate", O_WRONLY | O_NONBLOCK), ENXIO);
    int reader = open("gate", O_RDONLY | O_NONBLOCK);
    CHECK(reader > 2);
    EQUAL(read(reader, text, 9), 0); /* no writer yet */
    struct pollfd asked = {reader, POLLIN, 0};
    EQUAL(poll(&asked, 1, 0), 0);
    int writer = open("gate", O_WRONLY | O_NONBLOCK);
    CHECK(writer > 2);
    FAILS(read(reader, text, 9), EAGAIN);
    EQUAL(write(writer, "abc", 3), 3);
    EQUAL(poll(&asked, 1, 0), 1);
    EQUAL(asked.revents, POLLIN);
    EQUAL(read(reader, text, 9), 3);
    close(writer);
    EQUAL(poll(&asked, 1, 0), 1);
    EQUAL(asked.revents, POLLHUP);
    EQUAL(read(reader, text, 9), 0);
    writer = open("gate", O_WRONLY); /* there is a reader: no waiting */
    CHECK(writer > 2);
    close(reader);
    signal(SIGPIPE, SIG_IGN);
    FAILS(write(writer, "x", 1), EPIPE);
    signal(SIGPIPE, SIG_DFL);
    close(writer);
    int both = open("gate", O_RDWR);
    EQUAL(write(both, "own", 3), 3);
    writer = open("gate", O_WRONLY | O_NONBLOCK);
    CHECK(writer > 2);
    EQUAL(read(both, text, 9), 3);
    EQUAL(write(writer, "lost", 4), 4);
    close(writer);
    close(both);
    reader = open("gate", O_RDONLY | O_NONBLOCK); /* what nobody had open any more is gone */
    EQUAL(read(reader, text, 9), 0);
    close(reader);
    EQUAL(chmod("gate", 0), 0);
    int path = open("gate", O_PATH);
    CHECK(path > 2);
    FAILS(read(path, text, 1), EBADF);
    close(path);
}

static void handle(int number) {
    (void)number;
}

static int opens_again(void) {
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    int fd = open("gate", O_RDONLY);
    char byte;
    return fd < 0 || read(fd, &byte, 1) != 1;
}

static void test_signals(void) {
    make();
    struct sigaction action = {.sa_handler = handle};
    EQUAL(sigaction(SIGALRM, &action, NULL), 0);
    alarm(1);
    FAILS(open("gate", O_RDONLY), EINTR);
    FAILS(open("gate", O_WRONLY | O_NONBLOCK), ENXIO); /* it is no reader any more */
    alarm(1);
    FAILS(open("gate", O_WRONLY), EINTR);
    signal(SIGALRM, SIG_DFL);
    limit(60);
    pid_t pid = start(opens_again);
    pause_ms(200);
    kill(pid, SIGUSR1);
    pause_ms(50);
    int fd = open("gate", O_WRONLY);
    EQUAL(write(fd, "x", 1), 1);
    EQUAL(ended(pid), 0);
    close(fd);
}

static void *opens_for_reading(void *result) {
    *(int *)result = open("gate", O_RDONLY);
    return NULL;
}

static int killed_while_it_waits(void) {
    return open("gate", O_RDONLY) < 0;
}

static void test_threads(void) {
    make();
    pthread_t thread;
    int reader = -1;
    char byte;
    EQUAL(pthread_create(&thread, NULL, opens_for_reading, &reader), 0);
    int writer = open("gate", O_WRONLY);
    EQUAL(pthread_join(thread, NULL), 0);
    CHECK(reader > 2 && writer > 2 && reader != writer);
    EQUAL(write(writer, "x", 1), 1);
    EQUAL(unlink("gate"), 0);
    EQUAL(read(reader, &byte, 1), 1);
    close(reader);
    close(writer);
    make();
    pid_t pid = start(killed_while_it_waits);
    int fd;
    while ((fd = open("gate", O_WRONLY | O_NONBLOCK)) < 0 && errno == ENXIO)
        pause_ms(5);
    close(fd);
    EQUAL(ended(pid), 0);
    pid = start(killed_while_it_waits);
    pause_ms(100);
    kill(pid, SIGKILL);
    EQUAL(ended(pid), 128 + SIGKILL);
    FAILS(open("gate", O_WRONLY | O_NONBLOCK), ENXIO);
}

static int copies(void) {
    static char block[3000];
    int fd = open("gate", O_WRONLY);
    for (int i = 0; i < 100; i++)
        if (write(fd, block, sizeof block) != sizeof block)
            return 1;
    return 0;
}

static void test_writers(void) {
    make();
    pid_t first = start(copies), second = start(copies);
    int fd = open("gate", O_RDONLY);
    static char block[10000];
    /* One may have come and gone before the other: it is the sum that counts. */
    long total = 0, count;
    while (total < 600000) {
        count = read(fd, block, sizeof block);
        if (count < 0)
            break;
        total += count;
        if (!count)
            pause_ms(2);
    }
    EQUAL(total, 600000);
    EQUAL(ended(first), 0);
    EQUAL(ended(second), 0);
    EQUAL(read(fd, block, 1), 0);
    close(fd);
    EQUAL(unlink("gate"), 0);
}

int main(void) {
    limit(60);
    test_meeting();
    test_nonblocking();
    test_signals();
    test_threads();
    test_writers();
    return finish("fifos");
}
