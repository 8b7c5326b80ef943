/* Datagrams between unix sockets with names; several messages in one call; who has sent what (SCM_CREDENTIALS). */
#include "unix_names.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/uio.h>

struct credentials { pid_t pid; uid_t uid; gid_t gid; };
static struct name there;

static long send_to(int fd, const char *text, struct name name) {
    return sendto(fd, text, strlen(text), 0, (void *)&name.address, name.size);
}

/* Receives what must be that text; who has sent it. */
static struct name expect(int fd, const char *text) {
    char got[100];
    struct name from = {.size = sizeof from.address};
    memset(&from.address, 7, sizeof from.address);
    EQUAL(recvfrom(fd, got, 100, MSG_DONTWAIT, (void *)&from.address, &from.size), strlen(text));
    CHECK(!memcmp(got, text, strlen(text)));
    return from;
}

static int receiver(struct name name) {
    int fd = open_socket(SOCK_DGRAM);
    EQUAL(bind_to(fd, name), 0);
    return fd;
}

static void test_names(struct name name) {
    char text[20];
    int fd = receiver(name), sender = open_socket(SOCK_DGRAM);
    FAILS(recv(fd, text, 1, MSG_DONTWAIT), EAGAIN);
    FAILS(write(sender, "x", 1), ENOTCONN);
    FAILS(send_to(sender, "x", abstract_name("nobody")), ECONNREFUSED);
    FAILS(send_to(sender, "x", file_name("nobody")), ENOENT);
    EQUAL(send_to(sender, "nameless", name), 8);
    EQUAL(expect(fd, "nameless").size, 0);
    struct name own = abstract_name("own");
    EQUAL(bind_to(sender, own), 0);
    EQUAL(send_to(sender, "named", name), 5);
    struct name from = expect(fd, "named");
    CHECK(same(from, own));
    EQUAL(send_to(fd, "back", from), 4);
    CHECK(same(expect(sender, "back"), name));
    EQUAL(connect_to(sender, name), 0);
    CHECK(same(peer_of(sender), name));
    EQUAL(write(sender, "connected", 9), 9);
    CHECK(same(expect(fd, "connected"), own));
    EQUAL(send_to(sender, "both", name), 4);
    expect(fd, "both");
    int other = receiver(abstract_name("other")), stranger = open_socket(SOCK_DGRAM);
    FAILS(send_to(stranger, "x", own), EPERM);
    FAILS(connect_to(stranger, own), EPERM);
    EQUAL(connect_to(sender, abstract_name("other")), 0);
    EQUAL(write(sender, "x", 1), 1);
    expect(other, "x");
    struct sockaddr nobody = {AF_UNSPEC};
    EQUAL(connect(sender, &nobody, sizeof nobody), 0);
    FAILS(write(sender, "x", 1), ENOTCONN);
    EQUAL(send_to(stranger, "now", own), 3);
    expect(sender, "now");
    EQUAL(connect_to(stranger, abstract_name("other")), 0);
    close(other);
    FAILS(write(stranger, "x", 1), ECONNREFUSED);
    FAILS(write(stranger, "x", 1), ENOTCONN);
    FAILS(listen(fd, 1), EOPNOTSUPP);
    FAILS(accept(fd, NULL, NULL), EOPNOTSUPP);
    int stream = listen_at(SOCK_STREAM, file_name("stream"), 1);
    FAILS(send_to(sender, "x", file_name("stream")), EPROTOTYPE);
    unlink("stream");
    close(stream);
    close(stranger);
    close(fd);
    FAILS(send_to(sender, "x", name), ECONNREFUSED);
    close(sender);
    if (*name.address.sun_path)
        EQUAL(unlink(name.address.sun_path), 0);
}

static void test_sizes(void) {
    char text[20] = "";
    struct name name = abstract_name("sizes");
    int fd = receiver(name), sender = open_socket(SOCK_DGRAM), waiting = 7;
    EQUAL(connect_to(sender, name), 0);
    EQUAL(ioctl(fd, FIONREAD, &waiting), 0);
    EQUAL(waiting, 0);
    struct iovec parts[2] = {{"ab", 2}, {"cde", 3}};
    EQUAL(writev(sender, parts, 2), 5);
    EQUAL(send(sender, "", 0, 0), 0);
    EQUAL(send(sender, "last", 4, 0), 4);
    EQUAL(ioctl(fd, FIONREAD, &waiting), 0);
    EQUAL(waiting, 5);
    EQUAL(recv(fd, text, 2, MSG_PEEK | MSG_TRUNC), 5);
    EQUAL(recv(fd, text, 3, MSG_PEEK), 3);
    struct name from = {.size = 0};
    struct iovec into = {text, 2};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_name = &from.address, .msg_namelen = 110};
    EQUAL(recvmsg(fd, &message, 0), 2);
    EQUAL(message.msg_flags, MSG_TRUNC);
    EQUAL(message.msg_namelen, 0);
    EQUAL(recv(fd, text, 20, 0), 0);
    EQUAL(read(fd, text, 20), 4);
    static char large[1 << 20];
    FAILS(send(sender, large, sizeof large, 0), EMSGSIZE);
    EQUAL(send(sender, large, 50000, 0), 50000);
    EQUAL(recv(fd, large, sizeof large, 0), 50000);
    long sent = 0, got = 0;
    while (send(sender, &sent, sizeof sent, MSG_DONTWAIT) == sizeof sent)
        sent++;
    CHECK(errno == EAGAIN && sent >= 10);
    long number;
    while (recv(fd, &number, sizeof number, MSG_DONTWAIT) == sizeof number)
        got += number == got;
    CHECK(got == sent);
    EQUAL(send(sender, "again", 5, MSG_DONTWAIT), 5);
    EQUAL(recv(fd, text, 20, 0), 5);
    EQUAL(shutdown(sender, SHUT_WR), 0);
    FAILS(send(sender, "x", 1, MSG_NOSIGNAL), EPIPE);
    close(sender);
    close(fd);
}

static int sends_much(void) {
    int fd = open_socket(SOCK_DGRAM);
    if (connect_to(fd, there))
        return 1;
    for (long i = 0; i < 1000; i++)
        if (write(fd, &i, sizeof i) != sizeof i)
            return 2;
    return 0;
}

static void test_waiting(void) {
    there = file_name("mailbox");
    int fd = receiver(there);
    pid_t pid = start(sends_much);
    pause_ms(20);
    int right = 0;
    for (long i = 0, number; i < 1000; i++)
        right += read(fd, &number, sizeof number) == sizeof number && number == i;
    EQUAL(right, 1000);
    EQUAL(ended(pid), 0);
    struct timeval limit = {0, 20000};
    EQUAL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    char byte;
    FAILS(read(fd, &byte, 1), EAGAIN);
    struct pollfd asked = {fd, POLLIN | POLLOUT, 0};
    EQUAL(poll(&asked, 1, 0), 1);
    EQUAL(asked.revents, POLLOUT);
    int instance = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.u32 = 3}};
    EQUAL(epoll_ctl(instance, EPOLL_CTL_ADD, fd, &event), 0);
    int sender = open_socket(SOCK_DGRAM);
    EQUAL(send_to(sender, "ready", there), 5);
    EQUAL(epoll_wait(instance, &event, 1, -1), 1);
    EQUAL(event.events, EPOLLIN);
    expect(fd, "ready");
    EQUAL(epoll_wait(instance, &event, 1, 0), 0);
    close(instance);
    close(sender);
    close(fd);
    unlink("mailbox");
}

/* The system call: musl's function makes several of sendmsg. */
static long send_many(int fd, struct mmsghdr *messages, unsigned count) {
    return syscall(SYS_sendmmsg, fd, messages, count, 0);
}

static void test_many(void) {
    struct name name = abstract_name("many"), own = abstract_name("sender");
    int fd = receiver(name), sender = receiver(own);
    char texts[5][9], got[5][8];
    struct iovec out[5], in[5];
    struct name from[5];
    struct mmsghdr sent[5], received[5];
    memset(sent, 0, sizeof sent);
    memset(received, 0, sizeof received);
    for (int i = 0; i < 5; i++) {
        sprintf(texts[i], "text%.*s", i, "-----");
        out[i] = (struct iovec){texts[i], 4 + i};
        in[i] = (struct iovec){got[i], 8};
        sent[i].msg_hdr = (struct msghdr){
            .msg_iov = out + i, .msg_iovlen = 1, .msg_name = &name.address, .msg_namelen = name.size};
        received[i].msg_hdr = (struct msghdr){
            .msg_iov = in + i, .msg_iovlen = 1, .msg_name = &from[i].address, .msg_namelen = sizeof from[i].address};
    }
    EQUAL(send_many(sender, sent, 5), 5);
    EQUAL(sent[3].msg_len, 7);
    EQUAL(recvmmsg(fd, received, 3, 0, NULL), 3);
    struct timespec limit = {5, 0};
    EQUAL(recvmmsg(fd, received + 3, 2, MSG_WAITFORONE, &limit), 2);
    CHECK(limit.tv_sec <= 5);
    for (int i = 0; i < 5; i++) {
        EQUAL(received[i].msg_len, 4 + i);
        CHECK(!memcmp(got[i], texts[i], 4 + i));
        from[i].size = received[i].msg_hdr.msg_namelen;
        CHECK(same(from[i], own));
    }
    FAILS(recvmmsg(fd, received, 5, MSG_DONTWAIT, NULL), EAGAIN);
    EQUAL(send_many(sender, sent, 2), 2);
    EQUAL(recvmmsg(fd, received, 5, MSG_WAITFORONE, NULL), 2);
    limit.tv_nsec = -1;
    FAILS(recvmmsg(fd, received, 5, 0, &limit), EINVAL);
    sent[1].msg_hdr.msg_iov = (void *)8;
    EQUAL(send_many(sender, sent, 3), 1);
    FAILS(send_many(sender, sent + 1, 2), EFAULT);
    EQUAL(send_many(sender, sent, 0), 0);
    close(sender);
    close(fd);
}

/* Receives one message, and the credentials beside it: 0 if there are none. */
static pid_t sender_of(int fd, int *flags) {
    char control[CMSG_SPACE(sizeof(struct credentials)) + 8], byte;
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(struct credentials))};
    EQUAL(recvmsg(fd, &message, 0), 1);
    *flags = message.msg_flags;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header)
        return 0;
    struct credentials who;
    CHECK(header->cmsg_level == SOL_SOCKET && header->cmsg_type == 2 /* SCM_CREDENTIALS */);
    EQUAL(header->cmsg_len, CMSG_LEN(sizeof who));
    memcpy(&who, CMSG_DATA(header), sizeof who);
    CHECK(who.uid == getuid() && who.gid == getgid());
    return who.pid;
}

static long send_as(int fd, pid_t pid) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(struct credentials))];
    } control = {
        {.cmsg_len = CMSG_LEN(sizeof(struct credentials)), .cmsg_level = SOL_SOCKET, .cmsg_type = 2}};
    struct credentials who = {pid, getuid(), getgid()};
    memcpy(CMSG_DATA(&control.header), &who, sizeof who);
    struct iovec data = {"!", 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof who)};
    return sendmsg(fd, &message, 0);
}

static int connected;

static int says_something(void) {
    return write(connected, "!", 1) != 1;
}

static int sends_by_name(void) {
    return send_to(open_socket(SOCK_DGRAM), "!", there) != 1;
}

static void test_credentials(void) {
    int pair[2], flags, on = 1, got = 7;
    EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    EQUAL(write(pair[0], "!", 1), 1);
    EQUAL(sender_of(pair[1], &flags), 0);
    EQUAL(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    socklen_t size = sizeof got;
    EQUAL(getsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &got, &size), 0);
    EQUAL(got, 1);
    EQUAL(write(pair[0], "!", 1), 1);
    EQUAL(sender_of(pair[1], &flags), getpid());
    EQUAL(flags, 0);
    connected = pair[0];
    pid_t pid = start(says_something);
    EQUAL(ended(pid), 0); /* its name outlives it */
    EQUAL(sender_of(pair[1], &flags), pid);
    EQUAL(send_as(pair[0], getpid()), 1);
    EQUAL(sender_of(pair[1], &flags), getpid());
    char byte;
    EQUAL(write(pair[0], "!", 1), 1);
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    EQUAL(recvmsg(pair[1], &message, 0), 1);
    EQUAL(message.msg_flags, MSG_CTRUNC);
    close(pair[0]);
    close(pair[1]);
    there = file_name("journal");
    int fd = receiver(there);
    EQUAL(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    pid = start(sends_by_name);
    EQUAL(sender_of(fd, &flags), pid);
    EQUAL(ended(pid), 0);
    close(fd);
    unlink("journal");
    struct name name = abstract_name("inherits");
    fd = listen_at(SOCK_SEQPACKET, name, 1);
    EQUAL(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    int own = reach(SOCK_SEQPACKET, name);
    EQUAL(write(own, "!", 1), 1); /* before anybody accepts it */
    int taken = accept(fd, NULL, NULL);
    EQUAL(sender_of(taken, &flags), getpid());
    close(own);
    close(taken);
    close(fd);
}

int main(void) {
    limit(60);
    signal(SIGPIPE, SIG_IGN);
    test_names(file_name("letters"));
    test_names(abstract_name("letters"));
    test_sizes();
    test_waiting();
    test_many();
    test_credentials();
    return finish("unix_datagrams");
}
