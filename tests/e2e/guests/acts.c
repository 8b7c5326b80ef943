/* A guest that does what its arguments say, for tests of a run's life: whoever ends whom. No native oracle is
   asked, so it stands apart from tests/guests. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static void say(const char *text) {
    if (write(1, text, strlen(text)) < 0)
        _exit(99);
}

int main(int argc, char **argv) {
    const char *act = argc > 1 ? argv[1] : "";
    char byte, line[128];
    if (!strcmp(act, "exit"))
        return atoi(argv[2]);
    if (!strcmp(act, "die")) {
        kill(getpid(), atoi(argv[2]));
        return 98;
    }
    if (!strcmp(act, "fault")) {
        *(volatile int *)8 = 1;
        return 98;
    }
    if (!strcmp(act, "wait")) { /* until the end of stdin */
        say("up\n");
        while (read(0, &byte, 1) == 1)
            ;
        return 7;
    }
    if (!strcmp(act, "spin")) {
        say("up\n");
        for (volatile unsigned long turn = 0;; turn++)
            ;
    }
    if (!strcmp(act, "touch")) { /* a directory for each byte of stdin, and its errno */
        say("up\n");
        while (read(0, &byte, 1) == 1) {
            char path[] = {'/', byte, 0};
            snprintf(line, sizeof line, "%c %d\n", byte, mkdir(path, 0755) ? errno : 0);
            say(line);
        }
        return 0;
    }
    if (!strcmp(act, "who")) {
        mode_t mask = umask(0);
        snprintf(line, sizeof line, "%d %d %03o %s\n", (int)getuid(), (int)getgid(), mask, getcwd(0, 0));
        say(line);
        return 0;
    }
    if (!strcmp(act, "env")) { /* NAME: its value, or "unset" */
        const char *value = getenv(argv[2]);
        say(value ? value : "unset");
        return 0;
    }
    if (!strcmp(act, "count")) { /* arguments, their bytes; environment, its bytes */
        size_t arguments = 0, variables = 0, count = 0;
        for (int at = 0; at < argc; at++)
            arguments += strlen(argv[at]);
        for (; environ[count]; count++)
            variables += strlen(environ[count]);
        snprintf(line, sizeof line, "%d %zu %zu %zu\n", argc, arguments, count, variables);
        say(line);
        return 0;
    }
    if (!strcmp(act, "random")) {
        unsigned char bytes[16];
        if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
            return 97;
        for (size_t at = 0; at < sizeof bytes; at++)
            snprintf(line + 2 * at, 3, "%02x", bytes[at]);
        say(line);
        return 0;
    }
    return 96;
}
