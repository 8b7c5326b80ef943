/* SIGCHLD against wait: every child is told of and reaped once, whoever is first. Argument: rounds. */
#include "children.h"

static volatile sig_atomic_t told, reaped, wrong;

static void take(int options) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, options)) > 0) {
        reaped++;
        wrong += !WIFEXITED(status) || WEXITSTATUS(status) != (pid & 63);
    }
}

static void counts(int number) {
    (void)number;
    int saved = errno;
    told++;
    errno = saved;
}

static void reaps(int number) {
    int saved = errno;
    counts(number);
    take(WNOHANG);
    errno = saved;
}

static void set(void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    EQUAL(sigaction(SIGCHLD, &action, NULL), 0);
    told = reaped = wrong = 0;
}

static pid_t child(void) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(getpid() & 63);
    return pid;
}

/* One child at a time, waited for by its pid while the signal comes. */
static void by_pid(int total) {
    set(counts, SA_RESTART);
    for (int n = 0; n < total; n++) {
        pid_t pid = child();
        int status = 0;
        wrong += waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != (pid & 63);
        wrong += told != n + 1; /* the signal of a child comes no later than its status */
    }
    EQUAL(wrong, 0);
    EQUAL(told, total);
}

/* Bursts that only the handler reaps, while the parent sleeps without a gap between look and sleep. */
static void by_handler(int total) {
    sigset_t block, none;
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGCHLD);
    sigprocmask(SIG_BLOCK, &block, NULL);
    set(reaps, 0);
    for (int made = 0; made < total;) {
        for (int n = 0; n < 5 && made < total; n++, made++)
            child();
        while (reaped < made)
            sigsuspend(&none);
    }
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    EQUAL(wrong, 0);
    EQUAL(reaped, total);
    CHECK(told > 0 && told <= total);
}

/* Handler and program race for the same children. */
static void by_both(int total) {
    set(reaps, SA_RESTART);
    for (int n = 0; n < total; n++) {
        pid_t pid = child();
        int status = 0;
        pid_t got = waitpid(pid, &status, 0);
        if (got == pid) {
            reaped++;
            wrong += WEXITSTATUS(status) != (pid & 63);
        } else if (got != -1 || errno != ECHILD)
            wrong++;
    }
    EQUAL(wrong, 0);
    EQUAL(reaped, total);
    FAILS(waitpid(-1, NULL, 0), ECHILD);
}

int main(int argc, char **argv) {
    limit(480);
    by_pid(rounds(argc, argv));
    by_handler(rounds(argc, argv));
    by_both(rounds(argc, argv));
    return finish("race_children");
}
