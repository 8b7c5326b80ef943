/* Unix sockets with names: binding, listening, connecting and accepting, backlogs, who is at the other end, forks. */
#include "unix_names.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/time.h>

static struct name there;

static void test_making(void) {
    FAILS(socket(AF_UNIX, 0, 0), ESOCKTNOSUPPORT);
    FAILS(socket(AF_UNIX, SOCK_STREAM, 77), EPROTONOSUPPORT);
    FAILS(socket(AF_UNIX, 99, 0), EINVAL);
    FAILS(socket(250, SOCK_STREAM, 0), EAFNOSUPPORT);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, AF_UNIX);
    EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQUAL(fcntl(fd, F_GETFL), O_RDWR | O_NONBLOCK);
    char byte;
    FAILS(read(fd, &byte, 1), EINVAL);
    FAILS(write(fd, "x", 1), ENOTCONN);
    FAILS(recv(fd, &byte, 1, 0), EINVAL);
    FAILS(accept(fd, NULL, NULL), EINVAL);
    FAILS(listen(fd, 1), EINVAL);
    struct name none = name_of(fd);
    CHECK(none.size == 2 && none.address.sun_family == AF_UNIX);
    FAILS(getpeername(fd, (void *)&none.address, &none.size), ENOTCONN);
    struct ucred { pid_t pid; uid_t uid; gid_t gid; } peer;
    socklen_t size = sizeof peer;
    EQUAL(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size), 0);
    CHECK(peer.pid == 0 && peer.uid == (uid_t)-1 && peer.gid == (gid_t)-1);
    FAILS(getsockopt(fd, 6, 1, &size, &size), EOPNOTSUPP);
    FAILS(sendto(fd, "x", 1, 0, (void *)&none.address, 2), EOPNOTSUPP);
    close(fd);
    fd = open_socket(SOCK_SEQPACKET);
    FAILS(read(fd, &byte, 1), ENOTCONN);
    FAILS(write(fd, "x", 1), ENOTCONN);
    close(fd);
    fd = socket(AF_UNIX, SOCK_RAW, 0);
    int kind = 0;
    size = sizeof kind;
    EQUAL(getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size), 0);
    EQUAL(kind, SOCK_DGRAM);
    close(fd);
}

static void test_names(void) {
    int fd = open_socket(SOCK_STREAM), other = open_socket(SOCK_STREAM);
    struct name file = file_name("here"), abstract = abstract_name("names");
    FAILS(bind(fd, (void *)&file.address, 1), EINVAL);
    FAILS(bind(fd, (void *)&file.address, sizeof file.address + 1), EINVAL);
    FAILS(bind(fd, NULL, 20), EFAULT);
    file.address.sun_family = AF_INET;
    FAILS(bind_to(fd, file), EINVAL);
    FAILS(connect_to(fd, file), EINVAL);
    file.address.sun_family = AF_UNIX;
    FAILS(connect_to(fd, file), ENOENT);
    FAILS(connect_to(fd, abstract), ECONNREFUSED);
    FAILS(bind_to(fd, file_name("nowhere/here")), ENOENT);
    umask(027);
    EQUAL(bind_to(fd, file), 0);
    umask(022);
    struct stat status;
    EQUAL(stat("here", &status), 0);
    CHECK(S_ISSOCK(status.st_mode));
    EQUAL(status.st_mode & 07777, 0750);
    CHECK(same(name_of(fd), file));
    FAILS(bind_to(fd, file_name("there")), EINVAL);
    FAILS(bind_to(other, file), EADDRINUSE);
    FAILS(open("here", O_RDWR), ENXIO);
    FAILS(connect_to(other, file), ECONNREFUSED);
    EQUAL(listen(fd, 1), 0);
    int packets = open_socket(SOCK_SEQPACKET);
    FAILS(connect_to(packets, file), EPROTOTYPE);
    close(packets);
    EQUAL(connect_to(other, file), 0);
    FAILS(connect_to(other, file), EISCONN);
    FAILS(listen(other, 1), EINVAL);
    close(other);
    close(fd);
    other = open_socket(SOCK_STREAM);
    FAILS(bind_to(other, file), EADDRINUSE);
    FAILS(connect_to(other, file), ECONNREFUSED);
    EQUAL(unlink("here"), 0);
    EQUAL(close(open("here", O_CREAT | O_WRONLY, 0644)), 0);
    FAILS(bind_to(other, file), EADDRINUSE);
    FAILS(connect_to(other, file), ECONNREFUSED);
    EQUAL(unlink("here"), 0);
    FAILS(connect_to(other, file_name("/dev/null")), ECONNREFUSED);
    EQUAL(bind_to(other, abstract), 0);
    CHECK(same(name_of(other), abstract));
    fd = open_socket(SOCK_STREAM);
    FAILS(bind_to(fd, abstract), EADDRINUSE);
    close(other);
    EQUAL(bind_to(fd, abstract), 0);
    EQUAL(listen(fd, 0), 0);
    other = open_socket(SOCK_SEQPACKET); /* those of another type do not meet */
    FAILS(connect_to(other, abstract), ECONNREFUSED);
    EQUAL(bind_to(other, abstract), 0);
    close(other);
    close(fd);
}

static void test_automatic_names(void) {
    struct sockaddr_un any = {AF_UNIX, ""};
    int fd = open_socket(SOCK_STREAM), other = open_socket(SOCK_STREAM);
    EQUAL(bind(fd, (void *)&any, 2), 0);
    EQUAL(bind(other, (void *)&any, 2), 0);
    struct name one = name_of(fd), two = name_of(other);
    EQUAL(one.size, 8);
    CHECK(one.address.sun_path[0] == 0 && !same(one, two));
    EQUAL(bind(fd, (void *)&any, 2), 0);
    CHECK(same(name_of(fd), one));
    EQUAL(listen(fd, 3), 0);
    EQUAL(connect_to(other, one), 0);
    int taken = accept(fd, NULL, NULL);
    CHECK(same(peer_of(taken), two));
    CHECK(same(peer_of(other), one));
    close(taken);
    close(fd);
    close(other);
}

/* A whole conversation. */
static void test_talk(int kind, struct name name) {
    char text[20] = "";
    struct name from = {.size = sizeof from.address};
    int fd = listen_at(kind, name, 5), on = 7;
    socklen_t size = sizeof on;
    EQUAL(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &size), 0);
    EQUAL(on, 1);
    int own = reach(kind, name);
    EQUAL(write(own, "early", 5), 5);
    int taken = accept4(fd, (void *)&from.address, &from.size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    CHECK(taken > own);
    EQUAL(from.size, 2);
    EQUAL(fcntl(taken, F_GETFD), FD_CLOEXEC);
    EQUAL(fcntl(taken, F_GETFL), O_RDWR | O_NONBLOCK);
    EQUAL(getsockopt(taken, SOL_SOCKET, SO_ACCEPTCONN, &on, &size), 0);
    EQUAL(on, 0);
    CHECK(same(name_of(taken), name));
    CHECK(same(peer_of(own), name));
    EQUAL(name_of(own).size, 2);
    EQUAL(peer_of(taken).size, 2);
    EQUAL(read(taken, text, 20), 5);
    CHECK(!memcmp(text, "early", 5));
    FAILS(read(taken, text, 20), EAGAIN);
    EQUAL(send(taken, "answer", 6, 0), 6);
    from.size = sizeof from.address;
    EQUAL(recvfrom(own, text, 20, 0, (void *)&from.address, &from.size), 6);
    if (kind == SOCK_STREAM)
        CHECK(same(from, name));
    FAILS(accept4(fd, NULL, NULL, 1), EINVAL);
    EQUAL(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    FAILS(accept(fd, NULL, NULL), EAGAIN);
    FAILS(write(fd, "x", 1), ENOTCONN);
    FAILS(read(fd, text, 1), kind == SOCK_STREAM ? EINVAL : ENOTCONN);
    EQUAL(shutdown(own, SHUT_WR), 0);
    EQUAL(read(taken, text, 20), 0);
    EQUAL(write(taken, "still", 5), 5);
    EQUAL(read(own, text, 20), 5);
    close(own);
    FAILS(send(taken, "x", 1, MSG_NOSIGNAL), EPIPE);
    close(taken);
    close(fd);
    if (*name.address.sun_path)
        EQUAL(unlink(name.address.sun_path), 0);
}

static void test_backlog(void) {
    struct name name = abstract_name("backlog");
    int fd = listen_at(SOCK_STREAM, name, 1), own[3], again = open_socket(SOCK_STREAM | SOCK_NONBLOCK);
    own[0] = reach(SOCK_STREAM, name);
    own[1] = reach(SOCK_STREAM, name);
    FAILS(connect_to(again, name), EAGAIN);
    struct timeval limit = {0, 30000};
    own[2] = open_socket(SOCK_STREAM);
    EQUAL(setsockopt(own[2], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
    long long begin = now_ms();
    FAILS(connect_to(own[2], name), EAGAIN);
    CHECK(now_ms() - begin >= 25);
    int taken = accept(fd, NULL, NULL);
    CHECK(taken >= 0);
    close(taken);
    EQUAL(connect_to(again, name), 0);
    FAILS(connect_to(own[2], name), EAGAIN);
    EQUAL(listen(fd, 5), 0);
    EQUAL(connect_to(own[2], name), 0);
    close(fd);
    char byte;
    for (int i = 1; i < 3; i++) { /* nobody will ever accept them */
        CHECK(read(own[i], &byte, 1) <= 0);
        close(own[i]);
    }
    close(own[0]);
    close(again);
}

static int listening = -1;

static int connects_and_says(void) {
    close(listening);
    int fd = open_socket(SOCK_STREAM);
    if (connect_to(fd, there))
        return 1;
    char byte;
    return write(fd, "!", 1) != 1 || read(fd, &byte, 1) != 1 || byte != '?';
}

/* Who must wait for room does, and is let in by an accept. */
static void test_waiting_for_room(void) {
    there = abstract_name("room");
    int fd = listening = listen_at(SOCK_STREAM, there, 0);
    pid_t pids[4];
    for (int i = 0; i < 4; i++)
        pids[i] = start(connects_and_says);
    for (int i = 0; i < 4; i++) {
        pause_ms(10);
        char byte;
        int taken = accept(fd, NULL, NULL);
        EQUAL(read(taken, &byte, 1), 1);
        EQUAL(write(taken, "?", 1), 1);
        close(taken);
    }
    for (int i = 0; i < 4; i++)
        EQUAL(ended(pids[i]), 0);
    int own = reach(SOCK_STREAM, there);
    pid_t pid = start(connects_and_says); /* and is refused when the listener goes */
    pause_ms(20);
    close(fd);
    EQUAL(ended(pid), 1);
    close(own);
    listening = -1;
}

static int refused_itself(void) {
    int fd = open_socket(SOCK_STREAM);
    return connect_to(fd, there) == 0 ? 1 : errno == ECONNREFUSED ? 0 : 2;
}

/* Several processes accept, each connection goes to one of them. */
static int accepts_two(void) {
    for (int i = 0; i < 2; i++) {
        int fd = accept(listening, NULL, NULL);
        char byte;
        if (fd < 0 || read(fd, &byte, 1) != 1 || write(fd, "?", 1) != 1)
            return 1;
        close(fd);
    }
    return 0;
}

static void test_forks(void) {
    there = file_name("fork");
    listening = listen_at(SOCK_STREAM, there, 10);
    pid_t accepting[2], connecting[4];
    for (int i = 0; i < 2; i++)
        accepting[i] = start(accepts_two);
    for (int i = 0; i < 4; i++)
        connecting[i] = start(connects_and_says);
    for (int i = 0; i < 4; i++)
        EQUAL(ended(connecting[i]), 0);
    for (int i = 0; i < 2; i++)
        EQUAL(ended(accepting[i]), 0);
    close(listening);
    EQUAL(run(refused_itself), 0);
    unlink("fork");
}

static int bound;

static int listens_for_its_parent(void) {
    return bind_to(bound, there) || listen(bound, 3);
}

/* What one process does to a socket, the others see. */
static void test_shared_state(void) {
    there = abstract_name("shared");
    bound = open_socket(SOCK_STREAM);
    EQUAL(run(listens_for_its_parent), 0);
    CHECK(same(name_of(bound), there));
    int own = reach(SOCK_STREAM, there), taken = accept(bound, NULL, NULL);
    CHECK(taken >= 0);
    struct { pid_t pid; uid_t uid; gid_t gid; } peer;
    socklen_t size = sizeof peer;
    EQUAL(getsockopt(taken, SOL_SOCKET, SO_PEERCRED, &peer, &size), 0);
    CHECK(size == 12 && peer.pid == getpid() && peer.uid == geteuid() && peer.gid == getegid());
    EQUAL(getsockopt(own, SOL_SOCKET, SO_PEERCRED, &peer, &size), 0);
    CHECK(peer.pid > 0 && peer.pid != getpid() && peer.uid == geteuid());
    close(own);
    close(taken);
    close(bound);
}

static void test_polling(void) {
    struct name name = abstract_name("polling");
    int fd = listen_at(SOCK_STREAM | SOCK_NONBLOCK, name, 5);
    struct pollfd asked = {fd, POLLIN | POLLOUT, 0};
    EQUAL(poll(&asked, 1, 0), 0);
    int instance = epoll_create1(0);
    struct epoll_event event = {EPOLLIN | EPOLLET, {.u32 = 5}};
    EQUAL(epoll_ctl(instance, EPOLL_CTL_ADD, fd, &event), 0);
    EQUAL(epoll_wait(instance, &event, 1, 0), 0);
    int own = reach(SOCK_STREAM | SOCK_NONBLOCK, name), other = reach(SOCK_STREAM, name);
    EQUAL(poll(&asked, 1, 0), 1);
    EQUAL(asked.revents, POLLIN);
    EQUAL(epoll_wait(instance, &event, 1, -1), 1);
    CHECK(event.events == EPOLLIN && event.data.u32 == 5);
    int waiting;
    FAILS(ioctl(fd, FIONREAD, &waiting), EINVAL);
    int taken = accept(fd, NULL, NULL);
    close(accept(fd, NULL, NULL));
    EQUAL(poll(&asked, 1, 0), 0);
    struct pollfd both[2] = {{own, POLLIN | POLLOUT, 0}, {taken, POLLIN | POLLOUT, 0}};
    EQUAL(poll(both, 2, 0), 2);
    CHECK(both[0].revents == POLLOUT && both[1].revents == POLLOUT);
    EQUAL(write(own, "abc", 3), 3);
    EQUAL(poll(both + 1, 1, -1), 1);
    EQUAL(both[1].revents, POLLIN | POLLOUT);
    EQUAL(ioctl(taken, FIONREAD, &waiting), 0);
    EQUAL(waiting, 3);
    close(other);
    close(taken);
    EQUAL(poll(both, 1, -1), 1);
    CHECK(both[0].revents & POLLHUP);
    close(own);
    close(instance);
    close(fd);
}

static volatile int caught;

static void note(int signal) {
    caught = signal;
}

static void *shuts(void *fd) {
    pause_ms(20);
    shutdown((int)(long)fd, SHUT_RDWR);
    return NULL;
}

static void test_interrupted(void) {
    struct name name = abstract_name("signals");
    int fd = listen_at(SOCK_STREAM, name, 0);
    struct sigaction action = {.sa_handler = note};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval soon = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    FAILS(accept(fd, NULL, NULL), EINTR);
    EQUAL(caught, SIGALRM);
    int own = reach(SOCK_STREAM, name), other = open_socket(SOCK_STREAM);
    setitimer(ITIMER_REAL, &soon, NULL);
    FAILS(connect_to(other, name), EINTR);
    struct timeval limit = {0, 20000};
    EQUAL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    close(accept(fd, NULL, NULL));
    FAILS(accept(fd, NULL, NULL), EAGAIN);
    limit.tv_usec = 0;
    EQUAL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    pthread_t thread;
    pthread_create(&thread, NULL, shuts, (void *)(long)fd);
    FAILS(accept(fd, NULL, NULL), EINVAL);
    pthread_join(thread, NULL);
    FAILS(connect_to(other, name), ECONNREFUSED);
    close(own);
    close(other);
    close(fd);
    signal(SIGALRM, SIG_DFL);
    limit.tv_usec = 0;
}

/* A name goes with its file; who is connected stays so. */
static void test_unlinked(void) {
    struct name name = file_name("gone"), moved = file_name("moved");
    int fd = listen_at(SOCK_STREAM, name, 3), own = reach(SOCK_STREAM, name);
    EQUAL(rename("gone", "moved"), 0);
    int other = open_socket(SOCK_STREAM);
    FAILS(connect_to(other, name), ENOENT);
    EQUAL(connect_to(other, moved), 0);
    CHECK(same(peer_of(other), name));
    EQUAL(symlink("moved", "link"), 0);
    int third = reach(SOCK_STREAM, file_name("link"));
    EQUAL(unlink("moved"), 0);
    EQUAL(unlink("link"), 0);
    int next = listen_at(SOCK_STREAM, name, 1);
    for (int i = 0; i < 3; i++) {
        int taken = accept(fd, NULL, NULL);
        CHECK(taken >= 0);
        EQUAL(write(taken, "x", 1), 1);
        close(taken);
    }
    char byte;
    EQUAL(read(own, &byte, 1), 1);
    CHECK(same(name_of(fd), name) && same(name_of(next), name));
    close(next);
    close(third);
    close(other);
    close(own);
    close(fd);
    unlink("gone");
}

static void test_rights(void) {
    if (geteuid() == 0)
        return; /* root may do everything */
    struct name name = file_name("closed");
    int fd = listen_at(SOCK_STREAM, name, 3), other = open_socket(SOCK_STREAM);
    EQUAL(chmod("closed", 0555), 0);
    FAILS(connect_to(other, name), EACCES);
    EQUAL(chmod("closed", 0200), 0);
    EQUAL(connect_to(other, name), 0);
    close(fd);
    close(other);
    unlink("closed");
}

int main(void) {
    limit(30);
    test_making();
    test_names();
    test_automatic_names();
    test_talk(SOCK_STREAM, file_name("talk"));
    test_talk(SOCK_STREAM, abstract_name("talk"));
    test_talk(SOCK_SEQPACKET, file_name("packets"));
    test_talk(SOCK_SEQPACKET, abstract_name("packets"));
    test_backlog();
    test_waiting_for_room();
    test_forks();
    test_shared_state();
    test_polling();
    test_interrupted();
    test_unlinked();
    test_rights();
    return finish("unix_streams");
}
