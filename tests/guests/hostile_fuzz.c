/* Random system calls with random and hostile arguments: arguments SEED CALLS NUMBER:KINDS..., the calls to make
   and a letter per argument: f fd, p path, x name of an attribute, b buffer, z size, s small size, o offset,
   a address, i number.
   Most arguments are of their kind, some are anything. Prints nothing; what counts is that it reaches its end. */
#include "check.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

enum { PAGE = 4096, ARENA = 64, FDS = 24 };
static char *arena; /* pages that calls may read, write, unmap and protect */
static char *text;  /* where names stand: two pages between pages that nobody can write */
static unsigned long state;

static unsigned long next(void) { /* xorshift64* (Vigna) */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1dUL;
}

static unsigned long below(unsigned long limit) { return (next() >> 11) % limit; }

static const char *const names[] = {
    "f", "d", "l", "d/x", "n", "absent/x", "", ".", "..", "/", "d/../f", "loop", "/proc/self/maps", "/proc/self/fd",
    "/dev/null", "/proc/self/fd/7", "/dev/fd/3/x", "./././f", "d//x/", "\xff\x80", "/proc/self/cwd", "/dev",
    "/proc/self/../self/cwd/f", "/proc/../dev/../f", "f", "d", "n", "m", "d/n",
};
static const char *const attributes[] = {"user.a", "user.b", "user.", "user", "trusted.b", "security.capability", "x.y"};

static char *buffer(void) {
    char *at = arena + below(ARENA) * PAGE;
    return below(3) ? at + below(PAGE) : at + PAGE - 1 - below(64);
}

/* A string somewhere in the arena, if its place can be written. */
static char *name(void) {
    size_t room = 2 * PAGE;
    switch (below(12)) {
    case 0: /* long components and paths */
        memset(text, 'a' + (int)below(3), room);
        for (size_t i = below(300); i < room; i += 1 + below(300))
            text[i] = '/';
        text[below(room)] = 0;
        text[room - 1] = 0;
        return text;
    case 1:
        snprintf(text, room, "g%lu", below(8));
        return text;
    default:
        return strcpy(text, names[below(sizeof names / sizeof *names)]);
    }
}

static unsigned long number(void) {
    static const unsigned long edges[] = {0,          1,          2,        7,          8,          16,     4095,  4096,
                                          4097,       65536,      1UL << 20, 1UL << 31,  1UL << 32,  1UL << 47,
                                          1UL << 63,  -1UL,       -2UL,     -100UL,     -4096UL,    0x7fffffff,
                                          0x80000000, 0xffffffff, 0x7fffffffffffffff, 0xfffffffffffff000};
    switch (below(6)) {
    case 0: return edges[below(sizeof edges / sizeof *edges)];
    case 1: return next();
    case 2: return next() & 0xffff;
    case 3: return 1UL << below(64);
    default: return below(64);
    }
}

static unsigned long argument(char kind) {
    static const unsigned long bad[] = {0, 8, -8UL, -4096UL, 0x7fffffffeff8, 0xdead0000beef0000, 1UL << 63, 4095};
    if (kind != 's' && below(10) == 0)
        kind = kind == 'a' ? "fbzoi!"[below(6)] : "fpxbzoai!"[below(9)]; /* the names' pages stay */
    switch (kind) {
    case 'f': return below(4) ? 3 + below(6) : below(2) ? -100UL : below(FDS); /* AT_FDCWD */
    case 'p': return (unsigned long)name();
    case 'x': return (unsigned long)strcpy(text + PAGE, attributes[below(sizeof attributes / sizeof *attributes)]);
    case 'b': return (unsigned long)buffer();
    case 'a': return (unsigned long)(arena + below(ARENA) * PAGE);
    case 'z': return below(8) ? below(3) ? below(4 * PAGE) : 8 * below(9) : number();
    case 's': return below(1 << 17);
    case 'o': return below(8) ? below(1 << 20) : number();
    case 'i': return below(2) ? 0 : below(4) ? below(9) : number();
    default: return bad[below(sizeof bad / sizeof *bad)];
    }
}

/* Structures of every sort by chance: numbers, pointers, small values in rows of 8 bytes. */
static void scribble(void) {
    for (int i = 0; i < 8; i++) {
        unsigned long *at = (unsigned long *)(arena + (below(ARENA * PAGE / 64) * 64));
        for (int j = 0; j < 8; j++)
            at[j] = below(2) ? number() : (unsigned long)buffer();
    }
}

static void renew(void) {
    char *at = mmap(arena, ARENA * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (at != arena)
        _exit(9);
    scribble();
    mprotect(arena + 8 * PAGE, PAGE, PROT_READ);
    mprotect(arena + 16 * PAGE, PAGE, PROT_NONE);
    munmap(arena + 24 * PAGE, PAGE);
    mkdir("d", 0755);
    symlink("loop", "loop");
    symlink("f", "l");
    for (int fd = 3; fd < 8; fd++) {
        static const int flags[] = {O_RDWR | O_CREAT, O_RDONLY, O_WRONLY | O_APPEND, O_RDONLY | O_DIRECTORY, O_PATH};
        static const char *const paths[] = {"f", "f", "f", "d", "f"};
        int made = open(paths[fd - 3], flags[fd - 3], 0644);
        if (made >= 0 && made != fd) {
            dup2(made, fd);
            close(made);
        }
    }
    for (int fd = 8; fd < FDS; fd++)
        close(fd);
}

static void ring(int signal) { (void)signal; }

/* Whatever waits, for the program itself or for years, ends with EINTR. */
static void limit_waits(void) {
    struct sigaction action = {.sa_handler = ring}; /* and no SA_RESTART */
    struct itimerval often = {{0, 10000}, {0, 10000}};
    signal(SIGPIPE, SIG_IGN);
    if (sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &often, NULL))
        _exit(9);
}

int main(int argc, char **argv) {
    if (argc < 4)
        return finish("hostile_fuzz");
    state = strtoul(argv[1], NULL, 0) * 2 + 1;
    unsigned long calls = strtoul(argv[2], NULL, 0);
    /* Much room behind the arena: what changes more of it than there is shall not meet the program. */
    char *all = mmap(NULL, 1UL << 33, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED || mprotect(all + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE))
        return 9;
    text = all + PAGE;
    arena = all + 4 * PAGE;
    limit_waits();
    unsigned long succeeded = 0;
    for (unsigned long i = 0; i < calls; i++) {
        if (i % 64 == 0)
            renew();
        char *kinds;
        long which = strtol(argv[3 + below((unsigned long)argc - 3)], &kinds, 0);
        unsigned long a[6] = {0};
        for (int j = 0; j < 6 && *++kinds; j++)
            a[j] = argument(*kinds);
        succeeded += syscall(which, a[0], a[1], a[2], a[3], a[4], a[5]) != -1;
    }
    _exit(succeeded > calls / 10 ? 7 : 8);
}
