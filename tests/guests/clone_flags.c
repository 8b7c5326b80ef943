/* clone and clone3 with the flags that C libraries use, and what they refuse. */
#include "children.h"
#include <linux/sched.h>

static pid_t parent_tid, child_tid;

/* The raw calls: the arguments' order differs between the architectures. */
static long raw_clone(unsigned long flags) {
#ifdef __aarch64__
    return syscall(SYS_clone, flags, 0, &parent_tid, 0, &child_tid);
#else
    return syscall(SYS_clone, flags, 0, &parent_tid, &child_tid, 0);
#endif
}

static void test_tids(void) {
    fflush(stdout);
    parent_tid = child_tid = 0;
    long pid = raw_clone(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD);
    if (pid == 0)
        _exit(child_tid == getpid() ? 4 : 1);
    CHECK(pid > 0);
    EQUAL(parent_tid, pid);
    EQUAL(child_tid, 0);
    EQUAL(ended(pid), 4);
}

/* No exit signal: only __WALL or __WCLONE waits for it. */
static void test_without_signal(void) {
    long pid = raw_clone(0);
    if (pid == 0)
        _exit(5);
    FAILS(waitpid(pid, NULL, 0), ECHILD);
    int status = 0;
    EQUAL(waitpid(pid, &status, __WALL), pid);
    EQUAL(WEXITSTATUS(status), 5);
    signal(SIGUSR1, SIG_IGN);
    pid = raw_clone(SIGUSR1);
    if (pid == 0)
        _exit(6);
    EQUAL(waitpid(pid, &status, __WCLONE), pid);
    EQUAL(WEXITSTATUS(status), 6);
    signal(SIGUSR1, SIG_DFL);
}

static long raw_clone3(struct clone_args *arguments, size_t size) {
    return syscall(SYS_clone3, arguments, size);
}

static void handler(int number) { (void)number; }

static void test_clone3(void) {
    struct clone_args arguments = {.exit_signal = SIGCHLD};
    long pid = raw_clone3(&arguments, sizeof arguments);
    if (pid == -1 && errno == ENOSYS)
        return; /* an old kernel, or a filter: libraries fall back to clone */
    if (pid == 0)
        _exit(7);
    EQUAL(ended(pid), 7);
    arguments = (struct clone_args){
        .flags = CLONE_CLEAR_SIGHAND | CLONE_PARENT_SETTID,
        .parent_tid = (uintptr_t)&parent_tid,
        .exit_signal = SIGCHLD,
    };
    signal(SIGUSR1, handler);
    signal(SIGUSR2, SIG_IGN);
    pid = raw_clone3(&arguments, sizeof arguments);
    if (pid == 0) {
        struct sigaction first, second;
        sigaction(SIGUSR1, NULL, &first);
        sigaction(SIGUSR2, NULL, &second);
        _exit(first.sa_handler == SIG_DFL && second.sa_handler == SIG_IGN ? 8 : 1);
    }
    EQUAL(ended(pid), 8);
    EQUAL(parent_tid, pid);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGUSR2, SIG_DFL);
    FAILS(raw_clone3(&arguments, 8), EINVAL);
    FAILS(raw_clone3((void *)8, sizeof arguments), EFAULT);
    FAILS(raw_clone3(&arguments, 1 << 20), E2BIG);
    arguments.stack = 4096;
    FAILS(raw_clone3(&arguments, sizeof arguments), EINVAL); /* a stack without a size */
    arguments = (struct clone_args){.exit_signal = 100};
    FAILS(raw_clone3(&arguments, sizeof arguments), EINVAL);
    struct {
        struct clone_args known;
        unsigned long more[4];
    } larger = {.known = {.exit_signal = SIGCHLD}};
    pid = raw_clone3(&larger.known, sizeof larger);
    if (pid == 0)
        _exit(9);
    EQUAL(ended(pid), 9);
    larger.more[3] = 1;
    FAILS(raw_clone3(&larger.known, sizeof larger), E2BIG);
}

static void test_refused(void) {
    FAILS(raw_clone(CLONE_SIGHAND | SIGCHLD), EINVAL);
    FAILS(raw_clone(CLONE_THREAD | CLONE_VM), EINVAL);
    FAILS(raw_clone(CLONE_FS | CLONE_NEWNS | SIGCHLD), EINVAL);
    FAILS(waitpid(-1, NULL, __WALL), ECHILD);
}

int main(void) {
    limit(60);
    test_tids();
    test_without_signal();
    test_clone3();
    test_refused();
    return finish("clone_flags");
}
