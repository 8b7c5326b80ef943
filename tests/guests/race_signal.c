/* A signal against a blocking read: it is handled once, and the read neither hangs nor loses a byte.
   The argument is the number of rounds. */
#include "children.h"

static volatile sig_atomic_t handled;

static void handler(int number) {
    handled += number == SIGUSR1;
}

/* Sends a signal and then a byte, `total` times, each when the last was answered. */
static int sends(int data, int answers, pid_t parent, int total) {
    char byte = 0;
    for (int n = 0; n < total; n++) {
        if (kill(parent, SIGUSR1) || write(data, &byte, 1) != 1 || read(answers, &byte, 1) != 1)
            return 1;
        byte++;
    }
    return 0;
}

static void race(int total, int flags) {
    int data[2], answers[2];
    EQUAL(pipe(data), 0);
    EQUAL(pipe(answers), 0);
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
    handled = 0;
    fflush(stdout);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        _exit(sends(data[1], answers[0], parent, total));
    int interrupted = 0, wrong = 0;
    for (int n = 0; n < total; n++) {
        char byte = 1;
        ssize_t got;
        while ((got = read(data[0], &byte, 1)) == -1 && errno == EINTR)
            interrupted++;
        wrong += got != 1 || byte != (char)n;
        wrong += handled != n + 1; /* the signal came before the byte */
        if (write(answers[1], &byte, 1) != 1)
            wrong++;
    }
    EQUAL(wrong, 0);
    EQUAL(handled, total);
    CHECK(!(flags & SA_RESTART) || interrupted == 0);
    CHECK(interrupted <= total);
    EQUAL(ended(pid), 0);
    for (int n = 0; n < 2; n++) {
        close(data[n]);
        close(answers[n]);
    }
}

int main(int argc, char **argv) {
    limit(300);
    race(rounds(argc, argv), 0);
    race(rounds(argc, argv), SA_RESTART);
    return finish("race_signal");
}
