/* What the inet guests share. Nothing here knows a port that others might use: every one is given by the kernel. */
#include "children.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

static const int on = 1, off = 0;

__attribute__((unused)) static struct sockaddr_in ip4(const char *host, int port) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &name.sin_addr);
    return name;
}

__attribute__((unused)) static struct sockaddr_in6 ip6(const char *host, int port) {
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    inet_pton(AF_INET6, host, &name.sin6_addr);
    return name;
}

/* Port of a socket; -1: it has no name. */
__attribute__((unused)) static int port_of(int fd) {
    struct sockaddr_in6 name;
    socklen_t size = sizeof name;
    return getsockname(fd, (struct sockaddr *)&name, &size) ? -1 : ntohs(name.sin6_port);
}

__attribute__((unused)) static int bind4(int fd, const char *host, int port) {
    struct sockaddr_in name = ip4(host, port);
    return bind(fd, (struct sockaddr *)&name, sizeof name);
}

__attribute__((unused)) static int connect4(int fd, const char *host, int port) {
    struct sockaddr_in name = ip4(host, port);
    return connect(fd, (struct sockaddr *)&name, sizeof name);
}

__attribute__((unused)) static int connect6(int fd, const char *host, int port) {
    struct sockaddr_in6 name = ip6(host, port);
    return connect(fd, (struct sockaddr *)&name, sizeof name);
}

/* A socket that listens at 127.0.0.1, at a port of its own. */
__attribute__((unused)) static int listener(int flags, int backlog) {
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    CHECK(fd >= 0);
    EQUAL(bind4(fd, "127.0.0.1", 0), 0);
    EQUAL(listen(fd, backlog), 0);
    return fd;
}

/* poll(2) of one descriptor for a second: what came of it; 0: nothing. */
__attribute__((unused)) static int polled(int fd, int events) {
    struct pollfd wanted = {.fd = fd, .events = (short)events};
    return poll(&wanted, 1, 1000) == 1 ? wanted.revents : 0;
}

__attribute__((unused)) static int option(int fd, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    return getsockopt(fd, level, name, &value, &size) ? -1 : value;
}
