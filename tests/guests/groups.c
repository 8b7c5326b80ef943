/* Process groups and sessions: who may join, whom a signal to a group reaches. */
#include "children.h"

static int fds[2], go[2];

static void hold(void) {
    char byte;
    close(go[1]);
    if (read(go[0], &byte, 1) != 0)
        _exit(9);
}

/* A child that waits in the group (0: its own) until it is killed, or `go` ends. */
static pid_t member(pid_t group) {
    pid_t pid = fork();
    if (pid == 0) {
        if (setpgid(0, group) || write(fds[1], "x", 1) != 1)
            _exit(8);
        hold();
        _exit(3);
    }
    char byte;
    EQUAL(read(fds[0], &byte, 1), 1);
    return pid;
}

static void test_groups(void) {
    pid_t leader = member(0), second = member(leader), other = member(0);
    EQUAL(getpgid(leader), leader);
    EQUAL(getpgid(second), leader);
    EQUAL(getpgid(other), other);
    EQUAL(getsid(second), getsid(0));
    EQUAL(kill(-leader, 0), 0);
    EQUAL(kill(-leader, SIGTERM), 0);
    int status;
    pid_t one = waitpid(-leader, &status, 0), two = waitpid(-leader, &status, 0);
    CHECK(one + two == leader + second && one != two);
    EQUAL(WTERMSIG(status), SIGTERM);
    FAILS(waitpid(-leader, &status, 0), ECHILD);
    FAILS(kill(-leader, 0), ESRCH);
    EQUAL(setpgid(other, getpgrp()), 0); /* a parent moves its child */
    EQUAL(getpgid(other), getpgrp());
    EQUAL(setpgid(other, other), 0);
    EQUAL(killpg(other, SIGINT), 0);
    EQUAL(ended(other), 128 + SIGINT);
}

static int refused(void) {
    FAILS(setpgid(0, -1), EINVAL);
    FAILS(setpgid(-1, 0), EINVAL);
    FAILS(setpgid(1 << 29, 0), ESRCH);
    FAILS(setpgid(getppid(), 0), ESRCH); /* not a child */
    FAILS(setpgid(0, 1 << 29), EPERM);
    EQUAL(setpgid(0, 0), 0);
    FAILS(setsid(), EPERM); /* the leader of a group */
    pid_t pid = fork();
    if (pid == 0) {
        EQUAL(setsid(), getpid());
        EQUAL(getsid(0), getpid());
        EQUAL(getpgrp(), getpid());
        FAILS(setpgid(0, 0), EPERM); /* the leader of a session */
        FAILS(setpgid(0, getppid()), EPERM);
        _exit(failures);
    }
    EQUAL(ended(pid), 0);
    FAILS(getpgid(1 << 29), ESRCH);
    FAILS(getsid(1 << 29), ESRCH);
    FAILS(kill(1 << 29, 0), ESRCH);
    FAILS(kill(getpid(), 65), EINVAL);
    FAILS(kill(getpid(), -1), EINVAL);
    return failures;
}

/* kill(0) reaches the group, the sender too; one that blocks it has it pending. */
static int to_all_of_us(void) {
    setpgid(0, 0);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    pid_t children[3];
    for (int n = 0; n < 3; n++)
        if ((children[n] = fork()) == 0) {
            siginfo_t info;
            if (sigwaitinfo(&mask, &info) != SIGUSR1)
                _exit(1);
            _exit(info.si_pid == getppid() && info.si_code == SI_USER ? 20 + n : 2);
        }
    EQUAL(kill(0, SIGUSR1), 0);
    for (int n = 0; n < 3; n++)
        EQUAL(ended(children[n]), 20 + n);
    siginfo_t info;
    EQUAL(sigwaitinfo(&mask, &info), SIGUSR1);
    EQUAL(info.si_pid, getpid());
    return failures;
}

static int executes(void) {
    char self[200] = "";
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return 1;
    char number[20];
    snprintf(number, sizeof number, "%d", fds[1]);
    execl(self, self, number, NULL);
    return 2;
}

/* Once a child has executed, its parent may no longer move it. */
static void test_after_exec(void) {
    pid_t pid = start(executes);
    char byte;
    EQUAL(read(fds[0], &byte, 1), 1);
    FAILS(setpgid(pid, pid), EACCES);
    EQUAL(kill(pid, SIGKILL), 0);
    EQUAL(ended(pid), 128 + SIGKILL);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        if (write(atoi(argv[1]), "x", 1) != 1)
            return 1;
        for (;;)
            pause();
    }
    limit(60);
    EQUAL(pipe(fds), 0);
    EQUAL(pipe(go), 0);
    test_groups();
    EQUAL(run(refused), 0);
    EQUAL(run(to_all_of_us), 0);
    test_after_exec();
    return finish("groups");
}
