/* Descriptions passed beside messages (SCM_RIGHTS): files with their offsets, sockets, FIFOs; over fork and exec. */
#include "unix_names.h"
#include "rights.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/timerfd.h>

static int pair[2];

static long pass_one(int fd, int passed) {
    return pass(fd, &passed, 1);
}

/* The fd that came, or -1. */
static int take(int fd, int flags) {
    int got, told;
    return take_some(fd, &got, 1, flags, &told) == 1 ? got : -1;
}

static int reads_on(void) {
    char text[9];
    int fd = take(pair[1], MSG_CMSG_CLOEXEC);
    if (fd < 0 || fcntl(fd, F_GETFD) != FD_CLOEXEC)
        return 1;
    if (read(fd, text, 3) != 3 || memcmp(text, "def", 3))
        return 2;
    if (fcntl(fd, F_SETFL, O_APPEND) || write(fd, "!", 1) != 1)
        return 3;
    return 0;
}

/* A file's offset and flags are the description's, whoever has it. */
static void test_files(void) {
    char text[20];
    EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    int fd = open("file", O_RDWR | O_CREAT, 0644);
    EQUAL(write(fd, "abcdefghi", 9), 9);
    EQUAL(lseek(fd, 0, SEEK_SET), 0);
    EQUAL(read(fd, text, 3), 3);
    pid_t pid = start(reads_on);
    EQUAL(pass_one(pair[0], fd), 1);
    EQUAL(ended(pid), 0);
    EQUAL(lseek(fd, 0, SEEK_CUR), 10);
    EQUAL(fcntl(fd, F_GETFL) & O_APPEND, O_APPEND);
    EQUAL(pread(fd, text, 20, 0), 10);
    EQUAL(pass_one(pair[0], fd), 1);
    close(fd);
    EQUAL(unlink("file"), 0);
    int own = take(pair[1], 0); /* its own, without any other fd or name meanwhile */
    EQUAL(pread(own, text, 20, 0), 10);
    EQUAL(lseek(own, 0, SEEK_CUR), 10);
    close(own);
    fd = open(".", O_RDONLY | O_DIRECTORY);
    EQUAL(pass_one(pair[0], fd), 1);
    close(fd);
    fd = take(pair[1], 0);
    EQUAL(close(openat(fd, "beneath", O_CREAT | O_WRONLY, 0600)), 0);
    EQUAL(unlink("beneath"), 0);
    close(fd);
    fd = open("file", O_RDONLY | O_CREAT, 0644);
    EQUAL(pass_one(pair[0], fd), 1);
    own = take(pair[1], MSG_PEEK);
    int again = take(pair[1], 0);
    CHECK(own >= 0 && again >= 0 && own != again);
    FAILS(write(again, "x", 1), EBADF);
    EQUAL(close(own), 0);
    struct stat one, two;
    EQUAL(fstat(fd, &one), 0);
    EQUAL(fstat(again, &two), 0);
    CHECK(one.st_ino == two.st_ino && one.st_dev == two.st_dev);
    close(again);
    close(fd);
    EQUAL(unlink("file"), 0);
}

static int sends_and_ends(void) {
    int fd = open("left", O_RDWR | O_CREAT, 0644);
    if (write(fd, "left behind", 11) != 11 || flock(fd, LOCK_EX))
        return 1;
    return pass_one(pair[0], fd) != 1;
}

/* What a process sent lives on when it has ended, and so do the description's locks. */
static void test_sender_ends(void) {
    char text[20];
    EQUAL(run(sends_and_ends), 0);
    int other = open("left", O_RDWR);
    FAILS(flock(other, LOCK_SH | LOCK_NB), EAGAIN);
    int fd = take(pair[1], 0);
    EQUAL(lseek(fd, 0, SEEK_CUR), 11);
    EQUAL(pread(fd, text, 20, 0), 11);
    FAILS(flock(other, LOCK_SH | LOCK_NB), EAGAIN);
    close(fd);
    EQUAL(flock(other, LOCK_SH | LOCK_NB), 0);
    close(other);
    EQUAL(unlink("left"), 0);
}

static struct name there;
static int listening;

/* Accepts at a listening socket that it was given, and gives the connection back. */
static int accepts(void) {
    int fd = take(pair[1], 0), taken = accept(fd, NULL, NULL);
    if (taken < 0)
        return 1;
    if (write(taken, "hello", 5) != 5)
        return 2;
    return pass_one(pair[1], taken) != 1;
}

static void test_sockets(void) {
    char text[20];
    there = abstract_name("passed");
    listening = listen_at(SOCK_STREAM, there, 3);
    pid_t pid = start(accepts);
    EQUAL(pass_one(pair[0], listening), 1);
    int own = reach(SOCK_STREAM, there);
    EQUAL(ended(pid), 0);
    int taken = take(pair[0], 0);
    EQUAL(read(own, text, 20), 5);
    EQUAL(write(taken, " you", 4), 4);
    EQUAL(read(own, text, 20), 4);
    CHECK(same(name_of(taken), there));
    close(taken);
    EQUAL(read(own, text, 20), 0);
    close(own);
    close(listening);
    own = open_socket(SOCK_STREAM); /* one that has no name yet */
    EQUAL(pass_one(pair[0], own), 1);
    taken = take(pair[1], 0);
    EQUAL(bind_to(taken, there), 0);
    CHECK(same(name_of(own), there));
    EQUAL(listen(own, 1), 0);
    int connecting = reach(SOCK_STREAM, there);
    close(own);
    own = accept(taken, NULL, NULL);
    EQUAL(write(connecting, "x", 1), 1);
    EQUAL(read(own, text, 1), 1);
    close(own);
    close(connecting);
    close(taken);
    own = open_socket(SOCK_DGRAM);
    EQUAL(bind_to(own, there), 0);
    EQUAL(pass_one(pair[0], own), 1);
    close(own);
    taken = take(pair[1], 0);
    own = open_socket(SOCK_DGRAM);
    EQUAL(sendto(own, "letter", 6, 0, (void *)&there.address, there.size), 6);
    EQUAL(recv(taken, text, 20, 0), 6);
    EQUAL(connect_to(own, there), 0);
    int fds[2] = {own, taken};
    EQUAL(pass(own, fds, 2), 1); /* beside a datagram */
    int moved = take(taken, 0);
    EQUAL(write(moved, "more", 4), 4);
    EQUAL(recv(taken, text, 20, 0), 4);
    close(moved);
    close(own);
    close(taken);
}

static int accepts_inet(void) {
    int fd = take(pair[1], 0), taken = accept(fd, NULL, NULL), value = 0;
    socklen_t size = sizeof value;
    if (getsockopt(taken, IPPROTO_TCP, TCP_NODELAY, &value, &size) || !value)
        return 1;
    return write(taken, "hello", 5) != 5 || pass_one(pair[1], taken) != 1;
}

static void test_inet(void) {
    char text[20];
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}, other;
    socklen_t size = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    EQUAL(bind(fd, (void *)&name, sizeof name), 0);
    EQUAL(listen(fd, 3), 0);
    EQUAL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    EQUAL(getsockname(fd, (void *)&name, &size), 0);
    pid_t pid = start(accepts_inet);
    EQUAL(pass_one(pair[0], fd), 1);
    close(fd);
    int own = socket(AF_INET, SOCK_STREAM, 0);
    EQUAL(connect(own, (void *)&name, sizeof name), 0);
    EQUAL(ended(pid), 0);
    int taken = take(pair[0], 0);
    EQUAL(recv(own, text, 20, 0), 5);
    EQUAL(write(taken, " you", 4), 4);
    EQUAL(read(own, text, 20), 4);
    EQUAL(getsockname(taken, (void *)&other, &size), 0);
    EQUAL(other.sin_port, name.sin_port);
    close(taken);
    EQUAL(read(own, text, 20), 0);
    close(own);
}

static void test_others(void) {
    char text[20];
    unsigned long long number = 0;
    int event = eventfd(3, EFD_NONBLOCK);
    EQUAL(pass_one(pair[0], event), 1);
    int got = take(pair[1], 0);
    EQUAL(read(got, &number, 8), 8);
    EQUAL(number, 3);
    EQUAL(fcntl(got, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    EQUAL(fcntl(got, F_SETFL, 0), 0);
    EQUAL(fcntl(event, F_GETFL) & O_NONBLOCK, 0);
    close(got);
    close(event);
    EQUAL(mkfifo("fifo", 0600), 0);
    int reader = open("fifo", O_RDONLY | O_NONBLOCK), writer = open("fifo", O_WRONLY);
    EQUAL(pass_one(pair[0], writer), 1);
    close(writer);
    got = take(pair[1], 0);
    EQUAL(write(got, "fifo", 4), 4);
    EQUAL(read(reader, text, 20), 4);
    close(got);
    EQUAL(read(reader, text, 20), 0);
    close(reader);
    EQUAL(unlink("fifo"), 0);
    int null = open("/dev/null", O_RDWR), master = posix_openpt(O_RDWR | O_NOCTTY);
    EQUAL(pass_one(pair[0], null), 1);
    close(null);
    null = take(pair[1], 0);
    EQUAL(write(null, "x", 1), 1);
    EQUAL(read(null, text, 1), 0);
    close(null);
    EQUAL(grantpt(master), 0);
    EQUAL(unlockpt(master), 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    EQUAL(pass_one(pair[0], slave), 1);
    EQUAL(pass_one(pair[0], master), 1);
    close(slave);
    slave = take(pair[1], 0);
    int typing = take(pair[1], 0);
    CHECK(isatty(slave) && !strcmp(ttyname(slave), ptsname(typing)));
    EQUAL(write(typing, "typed\n", 6), 6);
    EQUAL(read(slave, text, 20), 6);
    close(slave);
    close(typing);
    close(master);
    int many[254];
    for (int i = 0; i < 254; i++)
        many[i] = 1;
    FAILS(pass(pair[0], many, 254), EINVAL);
    many[1] = 99;
    FAILS(pass(pair[0], many, 3), EBADF);
    EQUAL(pass(pair[0], many, 1), 1);
    close(take(pair[1], 0));
}

/* An executed program has what it was passed, too. */
static int executes(const char *self) {
    int fd = take(pair[1], 0);
    char number[12];
    snprintf(number, sizeof number, "%d", fd);
    execl(self, self, number, NULL);
    return 9;
}

static void test_exec(const char *self) {
    int fd = open("script", O_RDWR | O_CREAT, 0600);
    EQUAL(write(fd, "contents", 8), 8);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(executes(self));
    EQUAL(pass_one(pair[0], fd), 1);
    EQUAL(ended(pid), 0);
    EQUAL(lseek(fd, 0, SEEK_CUR), 3);
    close(fd);
    EQUAL(unlink("script"), 0);
}

static int executed(int fd) {
    char text[20];
    return pread(fd, text, 20, 0) != 8 || lseek(fd, 3, SEEK_SET) != 3;
}

int main(int argc, char **argv) {
    limit(60);
    if (argc == 2)
        return executed(atoi(argv[1]));
    test_files();
    test_sender_ends();
    test_sockets();
    test_inet();
    test_others();
    test_exec("/proc/self/exe");
    return finish("unix_passing");
}
