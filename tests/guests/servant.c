/* Does what each byte of its standard input says, and prints a line before and after, so that a test can stop
   or kill a server in between and see the call wait. Ends at the end of the input; the argument is a file. */
#include "check.h"
#include <sys/mman.h>

enum { MAPPINGS = 8, SIZE = 64 << 20, PAGE = 4096 };

static unsigned char *mappings[MAPPINGS];
static int mapped;

static void say(const char *word, int number) {
    char line[64];
    int length = number < 0 ? snprintf(line, sizeof line, "%s\n", word)
                            : snprintf(line, sizeof line, "%s %d\n", word, number);
    if (write(1, line, length) != length)
        _exit(99);
}

/* 64 MiB with a mark of its own in the first and last page; an errno. */
static int more(void) {
    if (mapped == MAPPINGS)
        return E2BIG;
    unsigned char *made = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return errno;
    made[0] = made[SIZE - 1] = (unsigned char)(mapped + 1);
    mappings[mapped++] = made;
    return 0;
}

static int less(void) {
    return mapped == 0 ? ENOENT : munmap(mappings[--mapped], SIZE) ? errno : 0;
}

/* How many mappings still hold what was written there. */
static int intact(void) {
    int count = 0;
    for (int at = 0; at < mapped; at++)
        count += mappings[at][0] == at + 1 && mappings[at][SIZE - 1] == at + 1 && mappings[at][PAGE] == 0;
    return count;
}

static int look(const char *path) {
    struct stat status;
    return stat(path, &status) ? errno : 0;
}

/* Nobody but the server can open a file; what stat(2) says may be known already. */
static int opened(const char *path) {
    int fd = open(path, O_RDONLY);
    return fd < 0 || close(fd) ? errno : 0;
}

int main(int argc, char **argv) {
    char byte;
    say("up", -1);
    while (read(0, &byte, 1) == 1) {
        if (byte == 's') {
            say("stat", -1);
            say("stat", look(argc > 1 ? argv[1] : "/"));
        } else if (byte == 'o') {
            say("open", -1);
            say("open", opened(argc > 1 ? argv[1] : "/"));
        } else if (byte == 'm') {
            say("mmap", -1);
            say("mmap", more());
        } else if (byte == 'u') {
            say("munmap", -1);
            say("munmap", less());
        } else if (byte == 'i') {
            say("intact", intact());
        }
    }
    return 0;
}
