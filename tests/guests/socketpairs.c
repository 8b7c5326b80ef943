/* socketpair of every type: data both ways, ends, waiting, time limits, options, descriptions passed along. */
#include "children.h"
#include "rights.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>

static int pair[2];

static void make(int kind) {
    EQUAL(socketpair(AF_UNIX, kind, 0, pair), 0);
}

static void drop(void) {
    close(pair[0]);
    close(pair[1]);
}

static void test_making(void) {
    make(SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK);
    EQUAL(fcntl(pair[0], F_GETFD), FD_CLOEXEC);
    EQUAL(fcntl(pair[1], F_GETFL), O_RDWR | O_NONBLOCK);
    struct stat status;
    EQUAL(fstat(pair[0], &status), 0);
    CHECK(S_ISSOCK(status.st_mode));
    FAILS(lseek(pair[0], 0, SEEK_SET), ESPIPE);
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", pair[0]);
    CHECK(readlink(path, text, sizeof text) > 8 && !strncmp(text, "socket:[", 8));
    drop();
    FAILS(socketpair(AF_UNIX, 0, 0, pair), ESOCKTNOSUPPORT);
    FAILS(socketpair(AF_UNIX, 99, 0, pair), EINVAL);
    FAILS(socketpair(AF_UNIX, SOCK_STREAM, 77, pair), EPROTONOSUPPORT);
    FAILS(socketpair(AF_INET, SOCK_STREAM, 0, pair), EOPNOTSUPP);
    FAILS(socketpair(250, SOCK_STREAM, 0, pair), EAFNOSUPPORT);
    FAILS(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 8), EFAULT);
    char byte;
    FAILS(recv(0, &byte, 1, 0), ENOTSOCK);
    FAILS(send(77, &byte, 1, 0), EBADF);
}

static void test_stream(void) {
    char text[20] = "";
    make(SOCK_STREAM);
    EQUAL(write(pair[0], "hello", 5), 5);
    EQUAL(send(pair[0], " you", 4, 0), 4);
    int waiting = 0;
    EQUAL(ioctl(pair[1], FIONREAD, &waiting), 0);
    EQUAL(waiting, 9);
    EQUAL(recv(pair[1], text, 20, MSG_PEEK), 9);
    EQUAL(read(pair[1], text, 3), 3);
    EQUAL(recv(pair[1], text, 20, 0), 6);
    CHECK(!memcmp(text, "lo you", 6));
    FAILS(recv(pair[1], text, 1, MSG_DONTWAIT), EAGAIN);
    struct sockaddr_un name;
    socklen_t size = sizeof name;
    memset(&name, 7, sizeof name);
    EQUAL(getsockname(pair[0], (void *)&name, &size), 0);
    CHECK(size == 2 && name.sun_family == AF_UNIX);
    size = 1;
    EQUAL(getpeername(pair[0], (void *)&name, &size), 0);
    EQUAL(size, 2);
    EQUAL(write(pair[1], "x", 1), 1);
    size = sizeof name;
    EQUAL(recvfrom(pair[0], text, 5, 0, (void *)&name, &size), 1);
    EQUAL(size, 0);
    FAILS(sendto(pair[0], "x", 1, 0, (void *)&name, sizeof name), EISCONN);
    EQUAL(shutdown(pair[0], SHUT_WR), 0);
    EQUAL(read(pair[1], text, 1), 0);
    FAILS(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    EQUAL(write(pair[1], "y", 1), 1);
    EQUAL(read(pair[0], text, 5), 1);
    FAILS(shutdown(pair[0], 9), EINVAL);
    close(pair[1]);
    EQUAL(read(pair[0], text, 1), 0);
    close(pair[0]);
}

static int writes_to_nobody(void) {
    close(pair[1]);
    struct pollfd gone = {pair[0], 0, 0}; /* POLLHUP: the parent has closed it, too */
    if (poll(&gone, 1, -1) != 1)
        return 3;
    return write(pair[0], "x", 1) == 1 ? 1 : 2;
}

static int sends_much(void) {
    static char block[1 << 20];
    memset(block, 'b', sizeof block);
    close(pair[0]);
    return send(pair[1], block, sizeof block, 0) != sizeof block;
}

static void test_waiting(void) {
    static char block[1 << 20];
    make(SOCK_STREAM);
    pid_t pid = fork();
    if (pid == 0)
        _exit(writes_to_nobody());
    close(pair[1]);
    EQUAL(ended(pid), 128 + SIGPIPE);
    close(pair[0]);
    make(SOCK_STREAM);
    pid = start(sends_much);
    close(pair[1]);
    EQUAL(recv(pair[0], block, sizeof block, MSG_WAITALL), sizeof block);
    EQUAL(block[sizeof block - 1], 'b');
    EQUAL(recv(pair[0], block, sizeof block, MSG_WAITALL), 0);
    EQUAL(ended(pid), 0);
    close(pair[0]);
    make(SOCK_STREAM);
    struct timeval limit = {0, 30000}, got;
    socklen_t size = sizeof got;
    EQUAL(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    EQUAL(getsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &got, &size), 0);
    CHECK(size == sizeof got && got.tv_sec == 0 && got.tv_usec >= 28000);
    long long begin = now_ms();
    FAILS(read(pair[0], block, 1), EAGAIN);
    FAILS(recv(pair[0], block, 1, 0), EAGAIN);
    CHECK(now_ms() - begin >= 50);
    EQUAL(write(pair[1], "abc", 3), 3);
    EQUAL(recv(pair[0], block, 10, MSG_WAITALL), 3);
    EQUAL(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
    long sent = 0, count;
    while ((count = write(pair[0], block, 50000)) > 0)
        sent += count;
    CHECK(count == -1 && errno == EAGAIN && sent > 50000);
    drop();
}

static void test_messages(int kind) {
    char text[20] = "";
    make(kind);
    struct iovec two[2] = {{"ab", 2}, {"cde", 3}};
    EQUAL(writev(pair[0], two, 2), 5);
    EQUAL(write(pair[0], "second", 6), 6);
    EQUAL(send(pair[0], "", 0, 0), 0);
    EQUAL(recv(pair[1], text, 2, MSG_PEEK | MSG_TRUNC), 5);
    struct iovec into = {text, 2};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_name = text + 10, .msg_namelen = 5};
    EQUAL(recvmsg(pair[1], &message, 0), 2);
    EQUAL(message.msg_flags & MSG_TRUNC, MSG_TRUNC);
    EQUAL(message.msg_namelen, 0);
    EQUAL(read(pair[1], text, 20), 6);
    EQUAL(recv(pair[1], text, 20, 0), 0);
    FAILS(recv(pair[1], text, 20, MSG_DONTWAIT), EAGAIN);
    static char large[1 << 20];
    FAILS(send(pair[0], large, sizeof large, 0), EMSGSIZE);
    int type;
    socklen_t size = sizeof type;
    EQUAL(getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &type, &size), 0);
    CHECK(type == kind && size == sizeof type);
    close(pair[1]);
    FAILS(send(pair[0], "x", 1, MSG_NOSIGNAL), kind == SOCK_DGRAM ? ECONNREFUSED : EPIPE);
    close(pair[0]);
}

static void test_polling(void) {
    make(SOCK_STREAM);
    struct pollfd asked = {pair[0], POLLIN | POLLOUT | POLLRDHUP, 0};
    EQUAL(poll(&asked, 1, 0), 1);
    EQUAL(asked.revents, POLLOUT);
    int instance = epoll_create1(0);
    struct epoll_event event = {EPOLLIN | EPOLLRDHUP, {.u32 = 5}};
    EQUAL(epoll_ctl(instance, EPOLL_CTL_ADD, pair[0], &event), 0);
    EQUAL(epoll_wait(instance, &event, 1, 0), 0);
    EQUAL(write(pair[1], "x", 1), 1);
    EQUAL(epoll_wait(instance, &event, 1, -1), 1);
    EQUAL(event.events, EPOLLIN);
    close(pair[1]);
    EQUAL(poll(&asked, 1, -1), 1);
    CHECK(asked.revents & POLLHUP && asked.revents & POLLRDHUP);
    close(instance);
    close(pair[0]);
}

static void test_options(void) {
    make(SOCK_STREAM);
    struct ucred { pid_t pid; uid_t uid; gid_t gid; } peer;
    socklen_t size = sizeof peer;
    EQUAL(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &size), 0);
    CHECK(size == 12 && peer.pid == getpid() && peer.uid == geteuid() && peer.gid == getegid());
    int value = 7;
    size = sizeof value;
    EQUAL(getsockopt(pair[0], SOL_SOCKET, SO_ERROR, &value, &size), 0);
    EQUAL(value, 0);
    value = 20000;
    EQUAL(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &value, sizeof value), 0);
    EQUAL(getsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &value, &size), 0);
    EQUAL(value, 40000);
    EQUAL(getsockopt(pair[0], SOL_SOCKET, SO_DOMAIN, &value, &size), 0);
    EQUAL(value, AF_UNIX);
    FAILS(getsockopt(pair[0], SOL_SOCKET, 9999, &value, &size), ENOPROTOOPT);
    FAILS(setsockopt(pair[0], SOL_SOCKET, 9999, &value, sizeof value), ENOPROTOOPT);
    FAILS(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &value, 1), EINVAL);
    drop();
}

static int answers(void) {
    int got[2], flags;
    close(pair[0]);
    if (take_some(pair[1], got, 2, MSG_CMSG_CLOEXEC, &flags) != 2)
        return 1;
    if (fcntl(got[0], F_GETFD) != FD_CLOEXEC || fcntl(got[0], F_GETFL) != (O_WRONLY | O_NONBLOCK))
        return 2;
    if (write(got[0], "from the child", 14) != 14)
        return 3;
    char text[9];
    return read(got[1], text, 9) == 6 && !memcmp(text, "parent", 6) ? 0 : 4;
}

static void test_passing(void) {
    int ends[2], other[2], got[8], flags;
    char text[20];
    make(SOCK_STREAM);
    EQUAL(pipe2(ends, O_NONBLOCK), 0);
    EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, other), 0);
    pid_t pid = start(answers);
    close(pair[1]);
    int both[2] = {ends[1], other[1]};
    EQUAL(pass(pair[0], both, 2), 1);
    close(ends[1]);
    close(other[1]);
    EQUAL(write(other[0], "parent", 6), 6);
    EQUAL(ended(pid), 0);
    EQUAL(read(ends[0], text, 20), 14);
    EQUAL(read(ends[0], text, 20), 0); /* the child's was the last */
    close(ends[0]);
    close(other[0]);
    close(pair[0]);
    make(SOCK_SEQPACKET);
    EQUAL(pipe(ends), 0);
    int three[3] = {ends[0], ends[1], pair[0]};
    EQUAL(pass(pair[0], three, 3), 1);
    EQUAL(take_some(pair[1], got, 1, 0, &flags), 1);
    EQUAL(flags & MSG_CTRUNC, MSG_CTRUNC);
    EQUAL(fcntl(got[0], F_GETFD), 0);
    close(got[0]);
    EQUAL(pass(pair[0], three, 3), 1);
    EQUAL(take_some(pair[1], got, 0, 0, &flags), 0);
    EQUAL(flags & MSG_CTRUNC, MSG_CTRUNC);
    EQUAL(pass(pair[0], three, 2), 1);
    EQUAL(read(pair[1], text, 5), 1); /* what came beside it is closed */
    close(ends[1]);
    EQUAL(read(ends[0], text, 1), 0);
    int bad = 99;
    FAILS(pass(pair[0], &bad, 1), EBADF);
    drop();
    close(ends[0]);
}

int main(void) {
    limit(60);
    test_making();
    test_stream();
    test_waiting();
    test_messages(SOCK_DGRAM);
    test_messages(SOCK_SEQPACKET);
    test_polling();
    test_options();
    test_passing();
    return finish("socketpairs");
}
