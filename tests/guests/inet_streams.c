/* TCP in the loopback: names, connections, waiting and not waiting, ends, options, forks, several acceptors. */
#include "inet.h"

static int pair[2];

/* A connection: pair[0] connected, pair[1] accepted. */
static void make(void) {
    int listening = listener(0, 5);
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    EQUAL(connect4(pair[0], "127.0.0.1", port_of(listening)), 0);
    pair[1] = accept(listening, NULL, NULL);
    CHECK(pair[1] >= 0);
    close(listening);
}

static void drop(void) {
    close(pair[0]);
    close(pair[1]);
}

static void test_making(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQUAL(fcntl(fd, F_GETFL), O_RDWR | O_NONBLOCK);
    struct stat status;
    EQUAL(fstat(fd, &status), 0);
    CHECK(S_ISSOCK(status.st_mode));
    EQUAL(option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
    EQUAL(option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    EQUAL(option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    EQUAL(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
    char byte = 0;
    FAILS(recv(fd, &byte, 1, 0), ENOTCONN);
    FAILS(send(fd, &byte, 1, MSG_NOSIGNAL), EPIPE);
    FAILS(shutdown(fd, SHUT_WR), ENOTCONN);
    FAILS(accept(fd, NULL, NULL), EINVAL);
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    FAILS(getpeername(fd, (struct sockaddr *)&name, &size), ENOTCONN);
    EQUAL(getsockname(fd, (struct sockaddr *)&name, &size), 0);
    EQUAL(name.sin_port + name.sin_addr.s_addr, 0);
    close(fd);
    FAILS(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    FAILS(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
    FAILS(socket(AF_INET, 99, 0), EINVAL);
}

static void test_names(void) {
    int listening = listener(0, 5), port = port_of(listening);
    CHECK(port > 1023);
    EQUAL(option(listening, SOL_SOCKET, SO_ACCEPTCONN), 1);
    FAILS(bind4(listening, "127.0.0.1", 0), EINVAL);
    FAILS(connect4(listening, "127.0.0.1", port), EISCONN);
    int other = socket(AF_INET, SOCK_STREAM, 0);
    FAILS(bind4(other, "127.0.0.1", port), EADDRINUSE);
    FAILS(bind4(other, "0.0.0.0", port), EADDRINUSE);
    FAILS(bind4(other, "192.0.2.1", 0), EADDRNOTAVAIL);
    struct sockaddr_in name = ip4("127.0.0.1", 0);
    FAILS(bind(other, (struct sockaddr *)&name, 8), EINVAL);
    name.sin_family = AF_UNIX;
    FAILS(bind(other, (struct sockaddr *)&name, sizeof name), EAFNOSUPPORT);
    EQUAL(bind4(other, "127.0.0.5", 0), 0);
    int own = port_of(other);
    EQUAL(connect4(other, "127.0.0.1", port), 0);
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    int accepted = accept4(listening, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC);
    EQUAL(size, sizeof peer);
    EQUAL(peer.sin_addr.s_addr, ip4("127.0.0.5", 0).sin_addr.s_addr);
    EQUAL(ntohs(peer.sin_port), own);
    EQUAL(fcntl(accepted, F_GETFD), FD_CLOEXEC);
    EQUAL(port_of(accepted), port);
    EQUAL(getpeername(other, (struct sockaddr *)&peer, &size), 0);
    EQUAL(ntohs(peer.sin_port), port);
    size = 4;
    EQUAL(getpeername(other, (struct sockaddr *)&peer, &size), 0);
    EQUAL(size, sizeof peer);
    FAILS(listen(other, 1), EINVAL);
    FAILS(bind4(accepted, "127.0.0.1", 0), EINVAL);
    FAILS(connect4(other, "127.0.0.1", port), EISCONN);
    close(accepted);
    close(other);
    close(listening);
    int unbound = socket(AF_INET, SOCK_STREAM, 0);
    EQUAL(listen(unbound, 1), 0);
    CHECK(port_of(unbound) > 1023);
    port = port_of(unbound);
    close(unbound);
    int again = socket(AF_INET, SOCK_STREAM, 0);
    EQUAL(bind4(again, "127.0.0.1", port), 0);
    close(again);
}

static void test_bytes(void) {
    char text[100] = "";
    make();
    EQUAL(write(pair[0], "hello", 5), 5);
    EQUAL(send(pair[0], " you", 4, 0), 4);
    while (recv(pair[1], text, sizeof text, MSG_PEEK) < 9)
        ;
    int waiting = 0;
    EQUAL(ioctl(pair[1], FIONREAD, &waiting), 0);
    EQUAL(waiting, 9);
    EQUAL(read(pair[1], text, 3), 3);
    struct iovec pieces[2] = {{text, 2}, {text + 2, 50}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    EQUAL(recvmsg(pair[1], &message, 0), 6);
    CHECK(!memcmp(text, "lo you", 6));
    FAILS(recv(pair[1], text, 1, MSG_DONTWAIT), EAGAIN);
    pid_t child = fork();
    if (!child)
        _exit(write(pair[0], "sl", 2) != 2 || usleep(20000) || write(pair[0], "ow", 2) != 2);
    EQUAL(recv(pair[1], text, 4, MSG_WAITALL), 4);
    EQUAL(ended(child), 0);
    CHECK(!memcmp(text, "slow", 4));
    EQUAL(shutdown(pair[0], SHUT_WR), 0);
    FAILS(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    EQUAL(recv(pair[1], text, 1, 0), 0);
    EQUAL(write(pair[1], "still", 5), 5);
    EQUAL(recv(pair[0], text, 5, MSG_WAITALL), 5);
    close(pair[1]);
    EQUAL(recv(pair[0], text, 1, 0), 0);
    close(pair[0]);
}

static void test_refusal(void) {
    int listening = listener(0, 1), port = port_of(listening);
    close(listening);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    FAILS(connect4(fd, "127.0.0.1", port), ECONNREFUSED);
    FAILS(connect4(fd, "127.0.0.1", port), ECONNREFUSED);
    close(fd);
    int six = socket(AF_INET6, SOCK_STREAM, 0);
    FAILS(connect6(six, "::1", port), ECONNREFUSED);
    FAILS(connect4(six, "127.0.0.1", port), EINVAL);
    close(six);
}

static void test_not_waiting(void) {
    int listening = listener(SOCK_NONBLOCK, 5), port = port_of(listening);
    FAILS(accept(listening, NULL, NULL), EAGAIN);
    EQUAL(polled(listening, POLLIN) & POLLIN, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int result = connect4(fd, "127.0.0.1", port);
    CHECK(result == 0 || errno == EINPROGRESS);
    EQUAL(polled(fd, POLLOUT), POLLOUT);
    EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
    EQUAL(polled(listening, POLLIN), POLLIN);
    int accepted = accept(listening, NULL, NULL);
    CHECK(accepted >= 0);
    FAILS(read(fd, &result, 1), EAGAIN);
    char room[4096] = "";
    do
        while (write(fd, room, sizeof room) > 0)
            ;
    while (errno == EAGAIN && polled(fd, POLLOUT)); /* what is under way may make room for more */
    EQUAL(errno, EAGAIN);
    fcntl(accepted, F_SETFL, O_NONBLOCK);
    while (read(accepted, room, sizeof room) > 0)
        ;
    CHECK(polled(fd, POLLOUT) & POLLOUT);
    close(accepted);
    CHECK(polled(fd, POLLIN) & POLLIN);
    close(fd);
    close(listening);
}

static void test_time_limits(void) {
    make();
    char byte;
    struct timeval limit = {.tv_usec = 30000}, found;
    socklen_t size = sizeof found;
    EQUAL(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    EQUAL(getsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &found, &size), 0);
    CHECK(found.tv_sec == 0 && found.tv_usec >= 30000);
    FAILS(recv(pair[0], &byte, 1, 0), EAGAIN);
    drop();
}

static void test_options(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    EQUAL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    EQUAL(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    EQUAL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &off, sizeof off), 0);
    EQUAL(option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    EQUAL(option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    EQUAL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on), 0);
    EQUAL(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    FAILS(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, 1), EINVAL);
    FAILS(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, 1), EINVAL);
    int value = 77;
    socklen_t size = 1;
    EQUAL(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size), 0);
    EQUAL(size, 1);
    size = (socklen_t)-1;
    FAILS(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size), EINVAL);
    FAILS(setsockopt(fd, SOL_SOCKET, SO_TYPE, &on, sizeof on), ENOPROTOOPT);
    struct linger linger = {.l_onoff = 1, .l_linger = 3};
    EQUAL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    close(fd);
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    EQUAL(option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 0);
    EQUAL(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on), 0);
    EQUAL(option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    close(fd);
}

static void test_ipv6(void) {
    int listening = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 name = ip6("::", 0);
    EQUAL(bind(listening, (struct sockaddr *)&name, sizeof name), 0);
    EQUAL(listen(listening, 5), 0);
    int port = port_of(listening);
    int four = socket(AF_INET, SOCK_STREAM, 0), six = socket(AF_INET6, SOCK_STREAM, 0);
    EQUAL(connect4(four, "127.0.0.1", port), 0);
    EQUAL(connect6(six, "::1", port), 0);
    struct sockaddr_in6 peer;
    socklen_t size = sizeof peer;
    char text[INET6_ADDRSTRLEN];
    int accepted = accept(listening, (struct sockaddr *)&peer, &size);
    CHECK(!strcmp(inet_ntop(AF_INET6, &peer.sin6_addr, text, sizeof text), "::ffff:127.0.0.1"));
    close(accepted);
    accepted = accept(listening, (struct sockaddr *)&peer, &size);
    CHECK(!strcmp(inet_ntop(AF_INET6, &peer.sin6_addr, text, sizeof text), "::1"));
    close(accepted);
    int mapped = socket(AF_INET6, SOCK_STREAM, 0);
    EQUAL(connect6(mapped, "::ffff:127.0.0.1", port), 0);
    close(mapped);
    close(four);
    close(six);
    close(listening);
}

/* Children accept from one listening socket; each connection is answered once. */
static void test_several_acceptors(void) {
    enum { CHILDREN = 3, CONNECTIONS = 12 };
    int listening = listener(0, CONNECTIONS), port = port_of(listening);
    pid_t children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        if (!children[i])
            for (;;) {
                int fd = accept(listening, NULL, NULL);
                char byte;
                if (fd < 0 || read(fd, &byte, 1) != 1)
                    _exit(1);
                byte++;
                if (write(fd, &byte, 1) != 1 || close(fd))
                    _exit(1);
                if (byte == 1)
                    _exit(0);
            }
    }
    for (int i = 0; i < CONNECTIONS + CHILDREN; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        char sent = i < CONNECTIONS ? (char)(10 + i) : 0, got = 0;
        EQUAL(connect4(fd, "127.0.0.1", port), 0);
        EQUAL(write(fd, &sent, 1), 1);
        EQUAL(read(fd, &got, 1), 1);
        EQUAL(got, sent + 1);
        EQUAL(read(fd, &got, 1), 0);
        close(fd);
    }
    close(listening);
    for (int i = 0; i < CHILDREN; i++)
        EQUAL(ended(children[i]), 0);
}

static void test_epoll(void) {
    int listening = listener(SOCK_NONBLOCK, 5), ready = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listening}, got;
    EQUAL(epoll_ctl(ready, EPOLL_CTL_ADD, listening, &event), 0);
    EQUAL(epoll_wait(ready, &got, 1, 0), 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    EQUAL(connect4(fd, "127.0.0.1", port_of(listening)), 0);
    EQUAL(epoll_wait(ready, &got, 1, 1000), 1);
    EQUAL(got.data.fd, listening);
    int accepted = accept(listening, NULL, NULL);
    event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
    event.data.fd = accepted;
    EQUAL(epoll_ctl(ready, EPOLL_CTL_ADD, accepted, &event), 0);
    EQUAL(epoll_wait(ready, &got, 1, 0), 0);
    EQUAL(write(fd, "a", 1), 1);
    EQUAL(epoll_wait(ready, &got, 1, 1000), 1);
    EQUAL(got.events, EPOLLIN);
    EQUAL(epoll_wait(ready, &got, 1, 0), 0);
    EQUAL(write(fd, "b", 1), 1);
    EQUAL(epoll_wait(ready, &got, 1, 1000), 1);
    close(fd);
    EQUAL(epoll_wait(ready, &got, 1, 1000), 1);
    CHECK(got.events & EPOLLRDHUP);
    close(accepted);
    close(listening);
    close(ready);
}

int main(void) {
    limit(60);
    test_making();
    test_names();
    test_bytes();
    test_refusal();
    test_not_waiting();
    test_time_limits();
    test_options();
    test_ipv6();
    test_several_acceptors();
    test_epoll();
    return finish("inet_streams");
}
