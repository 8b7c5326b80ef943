/* vfork, and posix_spawn that is made of it: the child borrows memory until it executes or ends. */
#include "children.h"
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>

extern char **environ;
static volatile int seen;
static char stack[65536] __attribute__((aligned(16)));

static int store(void *value) {
    seen = *(int *)value;
    return 5; /* the end of the thread of execution: exit */
}

static int slow_store(void *value) {
    pause_ms(50);
    seen = *(int *)value;
    _exit(6);
}

static int executes(void *path) {
    char *arguments[] = {path, "exit", "12", NULL};
    execve(path, arguments, environ);
    seen = errno; /* told through the parent's own memory */
    _exit(127);
}

static pid_t borrow(int (*act)(void *), void *value) {
    return clone(act, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, value);
}

static void test_borrowed_memory(char *self) {
    int value = 42;
    pid_t pid = borrow(store, &value);
    EQUAL(seen, 42); /* it has ended, the parent waited */
    EQUAL(ended(pid), 5);
    value = 43;
    pid = borrow(slow_store, &value);
    EQUAL(seen, 43);
    EQUAL(ended(pid), 6);
    seen = 0;
    pid = borrow(executes, "/missing/program");
    EQUAL(seen, ENOENT);
    EQUAL(ended(pid), 127);
    seen = 0;
    pid = borrow(executes, self);
    EQUAL(seen, 0);
    EQUAL(ended(pid), 12);
}

static int closes(void *fd) {
    close(*(int *)fd);
    if (chdir("/"))
        _exit(1);
    signal(SIGUSR1, SIG_IGN);
    _exit(0);
}

/* Memory is borrowed; descriptors, directory and handlers are the child's own. */
static void test_its_own(void) {
    int fd = open("file", O_CREAT | O_RDWR, 0600);
    EQUAL(ended(borrow(closes, &fd)), 0);
    EQUAL(write(fd, "x", 1), 1);
    EQUAL(access("file", F_OK), 0);
    struct sigaction action;
    EQUAL(sigaction(SIGUSR1, NULL, &action), 0);
    CHECK(action.sa_handler == SIG_DFL);
    close(fd);
    EQUAL(unlink("file"), 0);
}

static void test_vfork(char *self) {
    pid_t pid = vfork();
    if (pid == 0) {
        execl(self, self, "exit", "21", NULL);
        _exit(127);
    }
    EQUAL(ended(pid), 21);
    for (int n = 0; n < 20; n++) {
        pid = vfork();
        if (pid == 0)
            _exit(n);
        EQUAL(ended(pid), n);
    }
}

static void test_posix_spawn(char *self) {
    pid_t pid;
    char *arguments[] = {self, "cat", NULL};
    EQUAL(posix_spawn(&pid, "/missing/program", NULL, NULL, arguments, environ), ENOENT);
    EQUAL(posix_spawn(&pid, "/", NULL, NULL, arguments, environ), EACCES);
    FAILS(waitpid(-1, NULL, WNOHANG), ECHILD);
    put("in", "spawned");
    posix_spawn_file_actions_t actions;
    EQUAL(posix_spawn_file_actions_init(&actions), 0);
    EQUAL(posix_spawn_file_actions_addopen(&actions, 0, "in", O_RDONLY, 0), 0);
    EQUAL(posix_spawn_file_actions_addopen(&actions, 7, "out", O_WRONLY | O_CREAT, 0644), 0);
    EQUAL(posix_spawn_file_actions_adddup2(&actions, 7, 1), 0);
    EQUAL(posix_spawn_file_actions_addclose(&actions, 7), 0);
    EQUAL(posix_spawn(&pid, self, &actions, NULL, arguments, environ), 0);
    EQUAL(ended(pid), 0);
    CHECK(!strcmp(get("out"), "spawned"));
    EQUAL(posix_spawn_file_actions_addopen(&actions, 8, "missing", O_RDONLY, 0), 0);
    EQUAL(posix_spawn(&pid, self, &actions, NULL, arguments, environ), ENOENT);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_t attributes;
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    EQUAL(posix_spawnattr_init(&attributes), 0);
    EQUAL(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK), 0);
    EQUAL(posix_spawnattr_setpgroup(&attributes, 0), 0);
    EQUAL(posix_spawnattr_setsigmask(&attributes, &mask), 0);
    char *look[] = {self, "attributes", NULL};
    EQUAL(posix_spawn(&pid, self, NULL, &attributes, look, environ), 0);
    EQUAL(ended(pid), 0);
    EQUAL(unlink("in"), 0);
    EQUAL(unlink("out"), 0);
}

static int as_child(char **argv) {
    if (!strcmp(argv[1], "exit"))
        return atoi(argv[2]);
    if (!strcmp(argv[1], "cat")) {
        char text[100];
        ssize_t count = read(0, text, sizeof text);
        return count < 0 || write(1, text, count) != count || fcntl(7, F_GETFD) != -1;
    }
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    return getpgrp() != getpid() || !sigismember(&mask, SIGUSR2) || sigismember(&mask, SIGUSR1);
}

int main(int argc, char **argv) {
    char self[200];
    if (argc > 1)
        return as_child(argv);
    limit(60);
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(length > 0);
    self[length < 0 ? 0 : length] = 0;
    test_borrowed_memory(self);
    test_its_own();
    test_vfork(self);
    test_posix_spawn(self);
    return finish("spawn");
}
