/* Names of unix sockets, and sockets that have them. */
#include "children.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

struct name {
    struct sockaddr_un address;
    socklen_t size;
};

/* Of a file. */
__attribute__((unused)) static struct name file_name(const char *path) {
    struct name name = {{AF_UNIX, ""}, 0};
    strcpy(name.address.sun_path, path);
    name.size = offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
    return name;
}

/* Abstract, and no other process's. */
__attribute__((unused)) static struct name abstract_name(const char *text) {
    struct name name = {{AF_UNIX, ""}, 0};
    int size = snprintf(name.address.sun_path + 1, 100, "%s-%d", text, getpid());
    name.size = offsetof(struct sockaddr_un, sun_path) + 1 + size;
    return name;
}

static int bind_to(int fd, struct name name) {
    return bind(fd, (void *)&name.address, name.size);
}

static int connect_to(int fd, struct name name) {
    return connect(fd, (void *)&name.address, name.size);
}

__attribute__((unused)) static int same(struct name a, struct name b) {
    return a.size == b.size && !memcmp(&a.address, &b.address, a.size);
}

__attribute__((unused)) static struct name name_of(int fd) {
    struct name name = {.size = sizeof name.address};
    memset(&name.address, 7, sizeof name.address);
    EQUAL(getsockname(fd, (void *)&name.address, &name.size), 0);
    return name;
}

__attribute__((unused)) static struct name peer_of(int fd) {
    struct name name = {.size = sizeof name.address};
    EQUAL(getpeername(fd, (void *)&name.address, &name.size), 0);
    return name;
}

static int open_socket(int kind) {
    int fd = socket(AF_UNIX, kind, 0);
    CHECK(fd >= 0);
    return fd;
}

__attribute__((unused)) static int listen_at(int kind, struct name name, int backlog) {
    int fd = open_socket(kind);
    EQUAL(bind_to(fd, name), 0);
    EQUAL(listen(fd, backlog), 0);
    return fd;
}

__attribute__((unused)) static int reach(int kind, struct name name) {
    int fd = open_socket(kind);
    EQUAL(connect_to(fd, name), 0);
    return fd;
}
