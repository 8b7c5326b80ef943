/* Three processes and one file, which two of them have mapped: each does what its standard input says, and answers
   with a line, so that a test can kill and start servers in between. A command is three bytes: who (p: the parent,
   which has it mapped; m: a child with a mapping of its own; n: a child that only has it open), what, and a letter,
   whose place it is done to. Ends at the end of the input. */
#include "children.h"
#include <sys/mman.h>

enum { LETTERS = 26, STEP = 700, SIZE = 20000, SHORT = 10000, SEGMENT = 1 << 20 };

static int fd;
static unsigned char *file, *anonymous, *made;

static int place(char letter) {
    return (letter - 'a') * STEP;
}

static void say(const char *text) {
    char line[80];
    int length = snprintf(line, sizeof line, "%s\n", text);
    if (write(1, line, length) != length)
        _exit(99);
}

static void result(int failed) {
    say(failed ? strerror(errno) : "ok");
}

/* What stands in each letter's place. */
static void show(const unsigned char *bytes, size_t size) {
    char text[LETTERS + 1] = {0};
    for (int at = 0; at < LETTERS && (size_t)at * STEP < size; at++)
        text[at] = bytes[at * STEP] ? (char)bytes[at * STEP] : '.';
    say(text);
}

static void read_all(void) {
    static unsigned char bytes[SIZE];
    ssize_t got = pread(fd, bytes, SIZE, 0);
    if (got < 0)
        result(1);
    else
        show(bytes, (size_t)got);
}

/* Zeros that are shared with a child, which stores and ends: both get what they need of the memory server. */
static void share_anew(char letter) {
    if (made)
        munmap(made, SEGMENT);
    made = mmap(0, SEGMENT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) {
        made = 0;
        result(1);
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        made[place(letter)] = (unsigned char)letter;
        anonymous[place(letter)] = (unsigned char)letter;
        _exit(0);
    }
    say(ended(pid) == 0 && made[place(letter)] == letter ? "ok" : "not shared");
}

static void act(char what, char letter) {
    unsigned char byte = (unsigned char)letter;
    switch (what) {
    case 's': file[place(letter)] = byte; say("ok"); break;
    case 'l': show(file, SIZE); break;
    case 'r': read_all(); break;
    case 'w': result(pwrite(fd, &byte, 1, place(letter)) != 1); break;
    case 'f': result(fsync(fd)); break;
    case 'y': result(msync(file, SIZE, MS_SYNC)); break;
    case 't': result(ftruncate(fd, SHORT)); break;
    case 'g': result(ftruncate(fd, SIZE)); break;
    case 'S': anonymous[place(letter)] = byte; say("ok"); break;
    case 'L': show(anonymous, SIZE); break;
    case 'M': share_anew(letter); break;
    case 'u': result(munmap(file, SIZE)); break;
    case 'k': kill(getpid(), SIGKILL); break;
    case 'x': say("ok"); _exit(0);
    default: say("what?");
    }
}

static void map(void) {
    file = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (file == MAP_FAILED) {
        result(1);
        _exit(1);
    }
}

/* A child that opens the file itself, and does what comes by the pipe whose end is returned. It is ready then: the
   server may be gone the next moment. */
static int child(int maps) {
    int ends[2], ready[2];
    char byte;
    if (pipe(ends) || pipe(ready))
        exit(98);
    if (fork() == 0) {
        char command[3];
        close(ends[1]);
        close(ready[0]);
        fd = open("sharers-file", O_RDWR);
        if (maps)
            map();
        if (write(ready[1], "", 1) != 1)
            _exit(97);
        close(ready[1]);
        while (read(ends[0], command, 3) == 3)
            act(command[1], command[2]);
        _exit(0);
    }
    close(ends[0]);
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        exit(97);
    close(ready[0]);
    return ends[1];
}

int main(void) {
    char command[3];
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    fd = open("sharers-file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || ftruncate(fd, SIZE)) {
        result(1);
        return 1;
    }
    anonymous = mmap(0, SEGMENT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int mapper = child(1), opener = child(0);
    map();
    say("up");
    while (read(0, command, 3) == 3) {
        int pipe = command[0] == 'm' ? mapper : opener;
        if (command[0] == 'p')
            act(command[1], command[2]);
        else if (write(pipe, command, 3) != 3)
            result(1);
    }
    return 0;
}
