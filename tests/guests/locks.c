/* flock and fcntl record locks: who is kept out, who waits, deadlock, and what frees them. */
#include "children.h"
#include <sys/file.h>

static int fd, ready[2], go[2];

static struct flock record(int type, long start_at, long length) {
    return (struct flock){.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start_at, .l_len = length};
}

static int set(int command, int type, long start_at, long length) {
    struct flock lock = record(type, start_at, length);
    return fcntl(fd, command, &lock);
}

static void tell(void) { CHECK(write(ready[1], "x", 1) == 1); }

static void told(void) {
    char byte;
    EQUAL(read(ready[0], &byte, 1), 1);
}

static void let_go(void) { CHECK(write(go[1], "x", 1) == 1); }

static int tries_flock(void) {
    int own = open("file", O_RDWR);
    return flock(own, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
}

static int shares_flock(void) {
    int own = open("file", O_RDWR);
    return flock(own, LOCK_SH | LOCK_NB) == 0 ? 0 : errno;
}

static int unlocks_inherited(void) { return flock(fd, LOCK_UN); }
static int closes_inherited(void) { return close(fd); }

static int waits_flock(void) {
    int own = open("file", O_RDWR);
    tell();
    return flock(own, LOCK_EX) == 0 ? 0 : errno;
}

static void test_flock(void) {
    EQUAL(flock(fd, LOCK_EX), 0);
    EQUAL(run(tries_flock), EWOULDBLOCK);
    EQUAL(run(closes_inherited), 0); /* the description is still open here */
    EQUAL(run(shares_flock), EWOULDBLOCK);
    EQUAL(flock(fd, LOCK_SH), 0);
    EQUAL(run(shares_flock), 0);
    EQUAL(run(tries_flock), EWOULDBLOCK);
    EQUAL(run(unlocks_inherited), 0); /* one lock, of the description that both have */
    EQUAL(run(tries_flock), 0);
    EQUAL(flock(fd, LOCK_EX), 0);
    pid_t pid = start(waits_flock);
    told();
    pause_ms(20);
    EQUAL(waitpid(pid, NULL, WNOHANG), 0);
    EQUAL(flock(fd, LOCK_UN), 0);
    EQUAL(ended(pid), 0);
    int copy = dup(fd);
    EQUAL(flock(fd, LOCK_EX), 0);
    EQUAL(flock(copy, LOCK_EX | LOCK_NB), 0); /* its own */
    EQUAL(close(copy), 0);
    EQUAL(run(tries_flock), EWOULDBLOCK);
    EQUAL(flock(fd, LOCK_UN), 0);
    FAILS(flock(fd, LOCK_SH | LOCK_EX), EINVAL);
    FAILS(flock(999, LOCK_SH), EBADF);
}

static int tries_records(void) {
    if (set(F_SETLK, F_WRLCK, 15, 10) != -1 || errno != EAGAIN)
        return 1;
    if (set(F_SETLK, F_RDLCK, 0, 10) || set(F_SETLK, F_WRLCK, 20, 0))
        return 2;
    struct flock lock = record(F_RDLCK, 0, 0);
    lock.l_start = 5;
    lock.l_len = 100;
    if (fcntl(fd, F_GETLK, &lock))
        return 3;
    return lock.l_type == F_WRLCK && lock.l_start == 10 && lock.l_len == 10 && lock.l_pid == getppid() ? 0 : 4;
}

static int asks_where(void) {
    struct flock lock = record(F_WRLCK, 0, 0);
    return fcntl(fd, F_GETLK, &lock) ? 255 : lock.l_type == F_UNLCK ? 0 : (int)lock.l_start;
}

static void test_records(void) {
    EQUAL(set(F_SETLK, F_WRLCK, 10, 10), 0);
    EQUAL(run(tries_records), 0);
    EQUAL(set(F_SETLK, F_WRLCK, 12, 3), 0);
    EQUAL(set(F_SETLK, F_UNLCK, 10, 5), 0); /* splits what is left */
    EQUAL(run(asks_where), 15);
    EQUAL(set(F_SETLK, F_RDLCK, 15, 2), 0);
    EQUAL(set(F_SETLK, F_UNLCK, 0, 0), 0);
    EQUAL(run(asks_where), 0);
    EQUAL(set(F_SETLK, F_WRLCK, 30, 5), 0);
    EQUAL(run(closes_inherited), 0); /* a child's close frees its own locks, and it has none */
    pid_t pid = vfork();
    if (pid == 0) {
        close(fd);
        _exit(0);
    }
    EQUAL(ended(pid), 0);
    EQUAL(run(asks_where), 30);
    int other = open("file", O_RDONLY);
    EQUAL(close(other), 0); /* any close of the file frees the process's locks */
    EQUAL(run(asks_where), 0);
    other = open("file", O_RDONLY);
    struct flock lock = record(F_WRLCK, 0, 1);
    FAILS(fcntl(other, F_SETLK, &lock), EBADF);
    lock = record(F_RDLCK, -1, 1);
    FAILS(fcntl(fd, F_SETLK, &lock), EINVAL);
    lock = record(77, 0, 1);
    FAILS(fcntl(fd, F_SETLK, &lock), EINVAL);
    FAILS(fcntl(fd, F_SETLK, (void *)8), EFAULT);
    EQUAL(close(other), 0);
    lock = record(F_WRLCK, -5, 5);
    lock.l_whence = SEEK_END;
    EQUAL(fcntl(fd, F_SETLK, &lock), 0);
    EQUAL(run(asks_where), 95);
    lock = record(F_WRLCK, 50, -10);
    EQUAL(fcntl(fd, F_SETLK, &lock), 0);
    EQUAL(run(asks_where), 40);
    EQUAL(set(F_SETLK, F_UNLCK, 0, 0), 0);
}

static int holds(void) {
    if (set(F_SETLK, F_WRLCK, 0, 10))
        return 1;
    tell();
    char byte;
    if (read(go[0], &byte, 1) != 1)
        return 2;
    pause_ms(30);
    return 0;
}

/* One waits until the owner ends; a child inherits none. */
static void test_waiting(void) {
    pid_t pid = start(holds);
    told();
    FAILS(set(F_SETLK, F_WRLCK, 5, 1), EAGAIN);
    let_go();
    EQUAL(set(F_SETLKW, F_WRLCK, 5, 1), 0);
    EQUAL(ended(pid), 0);
    EQUAL(set(F_SETLK, F_UNLCK, 0, 0), 0);
    pid = start(holds);
    told();
    EQUAL(kill(pid, SIGKILL), 0);
    EQUAL(set(F_SETLKW, F_WRLCK, 0, 0), 0);
    EQUAL(ended(pid), 128 + SIGKILL);
    EQUAL(run(asks_where) == 0 && run(tries_records) != 0, 1);
    EQUAL(set(F_SETLK, F_UNLCK, 0, 0), 0);
}

static int crosses(void) {
    if (set(F_SETLK, F_WRLCK, 20, 1))
        return 1;
    tell();
    int result = set(F_SETLKW, F_WRLCK, 10, 1) == 0 ? 0 : errno;
    set(F_SETLK, F_UNLCK, 0, 0);
    return result;
}

/* Of two that would wait for each other for ever, one is refused. */
static void test_deadlock(void) {
    for (int n = 0; n < 5; n++) {
        EQUAL(set(F_SETLK, F_WRLCK, 10, 1), 0);
        pid_t pid = start(crosses);
        told();
        int mine = set(F_SETLKW, F_WRLCK, 20, 1) == 0 ? 0 : errno;
        EQUAL(set(F_SETLK, F_UNLCK, 0, 0), 0);
        int theirs = ended(pid);
        CHECK((mine == EDEADLK && theirs == 0) || (mine == 0 && theirs == EDEADLK));
    }
}

/* Locks of an open file description: not of the process, kept by a child's copy. */
static void test_of_descriptions(void) {
    struct flock lock = record(F_WRLCK, 0, 10);
    int other = open("file", O_RDWR);
    EQUAL(fcntl(fd, F_OFD_SETLK, &lock), 0);
    FAILS(fcntl(other, F_OFD_SETLK, &lock), EAGAIN);
    EQUAL(fcntl(other, F_OFD_GETLK, &lock), 0);
    CHECK(lock.l_type == F_WRLCK && lock.l_pid == -1);
    lock = record(F_UNLCK, 0, 0);
    EQUAL(fcntl(fd, F_OFD_SETLK, &lock), 0);
    lock = record(F_WRLCK, 0, 10);
    EQUAL(fcntl(other, F_OFD_SETLK, &lock), 0);
    lock.l_pid = 1;
    FAILS(fcntl(other, F_OFD_SETLK, &lock), EINVAL);
    EQUAL(close(other), 0);
}

/* A pipe can be locked as any file: make does it, so that its jobs do not mix their output. */
static void test_pipe(void) {
    int file = fd, ends[2];
    EQUAL(pipe(ends), 0);
    fd = ends[1];
    pid_t pid = start(holds);
    told();
    FAILS(set(F_SETLK, F_WRLCK, 5, 1), EAGAIN);
    struct flock lock = record(F_RDLCK, 5, 1);
    EQUAL(fcntl(ends[0], F_GETLK, &lock), 0);
    CHECK(lock.l_type == F_WRLCK && lock.l_start == 0 && lock.l_len == 10);
    let_go();
    EQUAL(set(F_SETLKW, F_WRLCK, 5, 1), 0);
    EQUAL(ended(pid), 0);
    EQUAL(run(asks_where), 5);
    EQUAL(close(dup(fd)), 0);
    EQUAL(run(asks_where), 0);
    lock = record(F_WRLCK, 0, 0);
    FAILS(fcntl(ends[0], F_SETLK, &lock), EBADF);
    EQUAL(fcntl(fd, F_OFD_SETLK, &lock), 0);
    FAILS(set(F_SETLK, F_WRLCK, 0, 0), EAGAIN);
    EQUAL(flock(fd, LOCK_EX), 0);
    FAILS(flock(ends[0], LOCK_SH | LOCK_NB), EWOULDBLOCK);
    EQUAL(close(ends[0]) + close(fd), 0);
    fd = file;
}

int main(void) {
    limit(60);
    fd = open("file", O_RDWR | O_CREAT, 0600);
    EQUAL(ftruncate(fd, 100), 0);
    EQUAL(pipe(ready) + pipe(go), 0);
    test_flock();
    test_records();
    test_waiting();
    test_deadlock();
    test_of_descriptions();
    test_pipe();
    EQUAL(close(fd), 0);
    EQUAL(unlink("file"), 0);
    return finish("locks");
}
