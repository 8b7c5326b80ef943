/* UDP in the loopback: names, who hears whom, sizes, messages in batches, waiting. */
#include "inet.h"

static int datagrams(const char *host) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(fd >= 0);
    if (host)
        EQUAL(bind4(fd, host, 0), 0);
    return fd;
}

static long send_to(int fd, const char *text, int port) {
    struct sockaddr_in name = ip4("127.0.0.1", port);
    return sendto(fd, text, strlen(text), 0, (struct sockaddr *)&name, sizeof name);
}

static void test_there_and_back(void) {
    int one = datagrams("127.0.0.1"), two = datagrams(NULL);
    EQUAL(option(one, SOL_SOCKET, SO_PROTOCOL), IPPROTO_UDP);
    FAILS(send(two, "x", 1, 0), EDESTADDRREQ);
    FAILS(listen(two, 1), EOPNOTSUPP);
    EQUAL(send_to(two, "question", port_of(one)), 8);
    struct sockaddr_in sender;
    socklen_t size = sizeof sender;
    char text[100] = "";
    EQUAL(recvfrom(one, text, sizeof text, 0, (struct sockaddr *)&sender, &size), 8);
    CHECK(!memcmp(text, "question", 8));
    EQUAL(size, sizeof sender);
    EQUAL(ntohs(sender.sin_port), port_of(two));
    EQUAL(sendto(one, "", 0, 0, (struct sockaddr *)&sender, size), 0);
    EQUAL(recv(two, text, sizeof text, 0), 0);
    FAILS(recv(two, text, 1, MSG_DONTWAIT), EAGAIN);
    close(one);
    close(two);
}

static void test_connected(void) {
    int one = datagrams("127.0.0.1"), two = datagrams("127.0.0.1"), three = datagrams("127.0.0.1");
    char text[100];
    EQUAL(connect4(one, "127.0.0.1", port_of(two)), 0);
    EQUAL(send_to(three, "intruder", port_of(one)), 8);
    EQUAL(send_to(two, "peer", port_of(one)), 4);
    EQUAL(recv(one, text, sizeof text, 0), 4);
    EQUAL(send(one, "back", 4, 0), 4);
    EQUAL(recv(two, text, sizeof text, 0), 4);
    EQUAL(write(one, "written", 7), 7);
    EQUAL(read(two, text, sizeof text), 7);
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    EQUAL(connect(one, &nobody, sizeof nobody), 0);
    FAILS(send(one, "x", 1, 0), EDESTADDRREQ);
    close(two);
    close(three);
    close(one);
}

static void test_refusal(void) {
    int gone = datagrams("127.0.0.1"), port = port_of(gone), fd = datagrams(NULL);
    char byte;
    close(gone);
    EQUAL(connect4(fd, "127.0.0.1", port), 0);
    EQUAL(send(fd, "x", 1, 0), 1);
    FAILS(recv(fd, &byte, 1, 0), ECONNREFUSED);
    close(fd);
}

static void test_sizes(void) {
    static char large[70000];
    int one = datagrams("127.0.0.1"), two = datagrams(NULL);
    EQUAL(connect4(two, "127.0.0.1", port_of(one)), 0);
    FAILS(send(two, large, 65508, 0), EMSGSIZE);
    EQUAL(send(two, large, 65507, 0), 65507);
    int waiting = 0;
    CHECK(polled(one, POLLIN) & POLLIN);
    EQUAL(ioctl(one, FIONREAD, &waiting), 0);
    EQUAL(waiting, 65507);
    EQUAL(recv(one, large, sizeof large, 0), 65507);
    EQUAL(send(two, "0123456789", 10, 0), 10);
    EQUAL(recv(one, large, 4, MSG_PEEK | MSG_TRUNC), 10);
    struct iovec piece = {large, 4};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    EQUAL(recvmsg(one, &message, 0), 4);
    EQUAL(message.msg_flags, MSG_TRUNC);
    FAILS(recv(one, large, 1, MSG_DONTWAIT), EAGAIN);
    close(one);
    close(two);
}

static void test_batches(void) {
    enum { COUNT = 4 };
    int one = datagrams("127.0.0.1"), two = datagrams(NULL);
    EQUAL(connect4(two, "127.0.0.1", port_of(one)), 0);
    char sent[COUNT + 1] = "abcd", got[COUNT + 1][8];
    struct iovec pieces[COUNT + 1];
    struct mmsghdr messages[COUNT + 1];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < COUNT; i++) {
        pieces[i] = (struct iovec){sent + i, 1};
        messages[i].msg_hdr.msg_iov = pieces + i;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    EQUAL(sendmmsg(two, messages, COUNT, 0), COUNT);
    EQUAL(messages[3].msg_len, 1);
    for (int i = 0; i < COUNT; i++)
        CHECK(polled(one, POLLIN) & POLLIN);
    memset(messages, 0, sizeof messages);
    for (int i = 0; i <= COUNT; i++) {
        pieces[i] = (struct iovec){got[i], 8};
        messages[i].msg_hdr.msg_iov = pieces + i;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int count = 0;
    while (count < COUNT) {
        int now = recvmmsg(one, messages + count, (unsigned)(COUNT + 1 - count), MSG_WAITFORONE, NULL);
        count += now > 0 ? now : COUNT + 1;
    }
    EQUAL(count, COUNT);
    for (int i = 0; i < COUNT; i++)
        EQUAL(got[i][0], 'a' + i);
    close(one);
    close(two);
}

static void test_sharing(void) {
    int one = socket(AF_INET, SOCK_DGRAM, 0), two = socket(AF_INET, SOCK_DGRAM, 0);
    EQUAL(setsockopt(one, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    EQUAL(bind4(one, "127.0.0.1", 0), 0);
    FAILS(bind4(two, "127.0.0.1", port_of(one)), EADDRINUSE);
    EQUAL(setsockopt(two, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    EQUAL(bind4(two, "127.0.0.1", port_of(one)), 0);
    EQUAL(option(one, SOL_SOCKET, SO_REUSEADDR), 1);
    close(one);
    close(two);
}

int main(void) {
    limit(60);
    test_there_and_back();
    test_connected();
    test_refusal();
    test_sizes();
    test_batches();
    test_sharing();
    return finish("inet_datagrams");
}
