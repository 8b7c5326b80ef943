/* Children and their statuses; time limits. A child reports by its exit status, which its parent checks. */
#include "check.h"
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

/* Ends the program, children and all, if it hangs: SIGALRM's default action. */
__attribute__((unused)) static void limit(unsigned seconds) {
    alarm(seconds);
}

/* A child, or the end of the program: kill(-1) of one that could not be made would be the end of much more. */
__attribute__((unused)) static pid_t checked_fork(void) {
    pid_t pid = fork();
    if (pid < 0) {
        printf("FAILED: fork: %s\n", strerror(errno));
        fflush(stdout);
        _exit(1);
    }
    return pid;
}
#define fork checked_fork

/* A child that runs `act` and exits with what it returns. */
__attribute__((unused)) static pid_t start(int (*act)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(act());
    return pid;
}

/* Waits for the child: exit status, or 128 + signal, as a shell tells it; -1: there is none. */
__attribute__((unused)) static int ended(pid_t pid) {
    int status;
    pid_t got;
    while ((got = waitpid(pid, &status, 0)) == -1 && errno == EINTR)
        ;
    return got == -1 ? -1 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

__attribute__((unused)) static int run(int (*act)(void)) {
    return ended(start(act));
}

__attribute__((unused)) static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

__attribute__((unused)) static void pause_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&t, &t) == -1 && errno == EINTR)
        ;
}

/* How often a racing program tries: its first argument. */
__attribute__((unused)) static int rounds(int argc, char **argv) {
    return argc > 1 ? atoi(argv[1]) : 1000;
}
