/* Two processes append to one file, by descriptions of their own and by one they share. Argument: rounds. */
#include "children.h"

enum { LENGTH = 37 };

static int appends(int fd, char letter, int total) {
    char line[LENGTH];
    memset(line, letter, LENGTH - 1);
    line[LENGTH - 1] = '\n';
    for (int n = 0; n < total; n++)
        if (write(fd, line, LENGTH) != LENGTH)
            return 1;
    return 0;
}

static void check(int total) {
    int fd = open("log", O_RDONLY), counts[2] = {0, 0}, wrong = 0;
    char line[LENGTH];
    while (read(fd, line, LENGTH) == LENGTH) {
        for (int n = 1; n < LENGTH - 1; n++)
            wrong += line[n] != line[0];
        wrong += line[LENGTH - 1] != '\n' || (line[0] != 'a' && line[0] != 'b');
        counts[line[0] == 'b']++;
    }
    EQUAL(wrong, 0);
    EQUAL(counts[0], total);
    EQUAL(counts[1], total);
    EQUAL(lseek(fd, 0, SEEK_END), 2L * total * LENGTH);
    close(fd);
    EQUAL(unlink("log"), 0);
}

static void race(int total, int flags, int own) {
    int fd = open("log", O_WRONLY | O_CREAT | flags, 0600);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(appends(own ? open("log", O_WRONLY | flags) : fd, 'a', total));
    EQUAL(appends(fd, 'b', total), 0);
    EQUAL(ended(pid), 0);
    close(fd);
    check(total);
}

int main(int argc, char **argv) {
    limit(300);
    race(rounds(argc, argv), O_APPEND, 1);
    race(rounds(argc, argv), O_APPEND, 0);
    race(rounds(argc, argv), 0, 0); /* one offset, moved with each write */
    return finish("race_append");
}
