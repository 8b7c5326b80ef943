/* Carries out a script of system calls from standard input, and prints what each gave: tests/hostile writes it.

   A line is `FLAGS NUMBER ARGUMENT...`. Flags: m (the call changes the tree: it is laid out anew after), f (a result
   is a new fd: close it), p (it made some: close them), c (the working directory may change), - (none). An argument is `=N`, `a` (a mapped page
   of its own), or a pointer: n NULL, u unmapped, w near 2^64, t near the top of user space, and, with content
   behind a colon, g good, r read-only, x crossing from a mapped page into an unmapped one, e ending with its page.
   Content is pieces joined by commas: hHEX bytes, zN zeros, iN 64 bits, or the 64-bit address of a buffer that is
   B good, R read-only, X crossing, or n, u, w, t. The line's output is the raw result and the state of the tree. */
#include "check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/xattr.h>

#define PAGE 4096
enum { BASE = 20, FILE_F, FILE_O, DIRECTORY, EPOLL, TIMER, COUNTER, READER, WRITER, SENDER, RECEIVER, ITSELF };
enum { FDS = 600, SCRIPT_BYTES = 4 << 20 };
static char script[SCRIPT_BYTES];
static char *areas; /* per argument: two writable pages, an unmapped one, one to be made read-only */
static int calls, changed;

static long raw(long number, const unsigned long *a) {
#ifdef __x86_64__
    register unsigned long r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = a[5];
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#else
    register unsigned long x0 __asm__("x0") = a[0], x1 __asm__("x1") = a[1], x2 __asm__("x2") = a[2];
    register unsigned long x3 __asm__("x3") = a[3], x4 __asm__("x4") = a[4], x5 __asm__("x5") = a[5];
    register unsigned long x8 __asm__("x8") = (unsigned long)number;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5), "r"(x8) : "memory");
    return (long)x0;
#endif
}

static void die(const char *what) {
    printf("FAILED: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void fresh(const char *name, int fd) {
    int made = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (made < 0 || dup2(made, fd) != fd || close(made) || fchmod(fd, 0644))
        die(name);
    if (write(fd, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 64) != 64)
        die("write");
}

static void place(int fd, int number) {
    if (fd < 0 || dup2(fd, number) != number || close(fd))
        die("descriptor");
}

/* What the calls that wait are about: a counter that is ready, an epoll instance that has it, a timer. */
static void waitable(void) {
    place(epoll_create1(0), EPOLL);
    place(timerfd_create(CLOCK_MONOTONIC, 0), TIMER);
    place(eventfd(1, 0), COUNTER);
    int timer = -1; /* the first one's number is 0 */
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &timer) || timer)
        die("timer_create");
    int ends[2];
    if (pipe(ends))
        die("pipe");
    place(ends[0], READER);
    place(ends[1], WRITER);
    if (write(WRITER, "some bytes for splice", 21) != 21)
        die("write");
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        die("socketpair");
    place(ends[0], SENDER);
    place(ends[1], RECEIVER);
    static char waiting[16384]; /* more than will ever be received */
    if (write(SENDER, waiting, sizeof waiting) != sizeof waiting)
        die("write");
    place((int)syscall(SYS_pidfd_open, getpid(), 0), ITSELF);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(EPOLL, EPOLL_CTL_ADD, COUNTER, &event))
        die("epoll_ctl");
}

/* The tree as every call finds it: files f and o, directory d, empty directory e, symlink l. */
static void lay_out(void) {
    const char *gone[] = {"n", "f", "o", "l"};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        if (unlink(gone[i]) && errno == EISDIR)
            rmdir(gone[i]);
    fresh("f", FILE_F);
    fresh("o", FILE_O);
    mkdir("d", 0755);
    mkdir("e", 0755);
    if (symlink("././././f", "l") || setxattr("f", "user.a", "a long value", 12, 0))
        die("symlink, setxattr");
    int d = open("d", O_RDONLY | O_DIRECTORY);
    if (d < 0 || dup2(d, DIRECTORY) != DIRECTORY || close(d))
        die("d");
}

static char *page(int argument, int number) { return areas + (argument * 4 + number) * PAGE; }

static unsigned long place_of(char kind, int argument) {
    switch (kind) {
    case 'n': return 0;
    case 'u': return (unsigned long)page(argument, 2) + 128;
    case 'w': return -8UL;
    case 't': return 0x7fffffffeff8UL;
    case 'B': return (unsigned long)page(6, 0);
    case 'R': return (unsigned long)page(6, 3);
    case 'X': return (unsigned long)page(6, 2) - 8;
    }
    printf("FAILED: the script names a place %c\n", kind);
    exit(2);
}

static size_t content(const char *text, int argument, char *out) {
    char *start = out;
    while (*text && *text != ' ') {
        char kind = *text++;
        unsigned long value;
        if (kind == 'h') {
            for (unsigned byte; *text && *text != ',' && *text != ' '; text += 2, *out++ = (char)byte)
                if (sscanf(text, "%2x", &byte) != 1)
                    die("hex");
        } else if (kind == 'z') {
            size_t zeros = strtoul(text, (char **)&text, 0);
            memset(out, 0, zeros);
            out += zeros;
        } else {
            value = kind == 'i' ? strtoul(text, (char **)&text, 0) : place_of(kind, argument);
            memcpy(out, &value, 8);
            out += 8;
        }
        text += *text == ',';
    }
    return (size_t)(out - start);
}

static unsigned long resolve(const char *token, int argument) {
    static char bytes[2 * PAGE];
    if (*token == '=')
        return token[1] == '-' ? (unsigned long)strtol(token + 1, NULL, 0) : strtoul(token + 1, NULL, 0);
    if (*token == 'a')
        return (unsigned long)page(argument, 0);
    if (token[1] != ':')
        return place_of(*token, argument);
    size_t length = content(token + 2, argument, bytes);
    char *at = page(argument, 0) + 256;
    memset(page(argument, 0), 0, 2 * PAGE);
    if (*token == 'x' || *token == 'e') {
        size_t inside = *token == 'e' ? length : length / 2;
        at = page(argument, 2) - inside;
        memcpy(at, bytes, inside);
        return (unsigned long)at;
    }
    if (*token == 'r') {
        at = page(argument, 3);
        if (mprotect(at, PAGE, PROT_READ | PROT_WRITE))
            die("mprotect");
    }
    memcpy(at, bytes, length);
    if (*token == 'r' && mprotect(at, PAGE, PROT_READ))
        die("mprotect");
    return (unsigned long)at;
}

/* Offsets, sizes and names: a call that failed must have left them alone. */
static void print_state(long result, int changes) {
    printf("%d %ld %ld %ld", calls, result, (long)lseek(FILE_F, 0, SEEK_CUR), (long)lseek(FILE_O, 0, SEEK_CUR));
    if (changes) {
        struct stat f, o;
        const char *names[] = {"f", "o", "n", "e", "l"};
        fstat(FILE_F, &f);
        fstat(FILE_O, &o);
        printf(" %ld %ld %o %ld ", (long)f.st_size, (long)o.st_size, f.st_mode, (long)f.st_nlink);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            putchar(faccessat(AT_FDCWD, names[i], F_OK, AT_SYMLINK_NOFOLLOW) ? '-' : *names[i]);
    }
    putchar('\n');
}

static void run(char *line) {
    char *tokens[8], *flags = strtok(line, " ");
    int count = 0;
    for (char *token; count < 8 && (token = strtok(NULL, " "));)
        tokens[count++] = token;
    unsigned long arguments[6] = {0};
    int changes = strchr(flags, 'm') != NULL;
    if (changed)
        lay_out();
    changed = changes;
    for (int i = 1; i < count; i++)
        arguments[i - 1] = resolve(tokens[i], i - 1);
    lseek(FILE_F, 0, SEEK_SET);
    lseek(FILE_O, 0, SEEK_SET);
    lseek(DIRECTORY, 0, SEEK_SET);
    long result = raw(strtol(tokens[0], NULL, 0), arguments);
    if (strchr(flags, 'f') && result >= 0)
        close((int)result);
    if (strchr(flags, 'p') && result >= 0) /* it made two fds, the lowest */
        for (int fd = 3; fd < BASE; fd++)
            close(fd);
    if (strchr(flags, 'c') && fchdir(BASE))
        die("fchdir");
    print_state(result, changes);
    calls++;
}

static int open_fds(void) {
    int count = 0;
    for (int fd = 0; fd < FDS; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static long mapped_pages(void) { return atol(get("/proc/self/statm")); }

static void prepare(void) {
    areas = mmap(NULL, 28 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int base = open(".", O_RDONLY | O_DIRECTORY);
    if (areas == MAP_FAILED || dup2(base, BASE) != BASE || close(base))
        die("areas");
    for (int i = 0; i < 7; i++)
        if (munmap(page(i, 2), PAGE))
            die("munmap");
    mprotect(page(6, 3), PAGE, PROT_READ);
    waitable();
    lay_out();
}

int main(void) {
    size_t length = 0;
    for (ssize_t got; length < sizeof script - 1 && (got = read(0, script + length, sizeof script - 1 - length)) > 0;)
        length += (size_t)got;
    setvbuf(stdout, NULL, _IOFBF, 0);
    prepare();
    volatile char deep[64 << 10]; /* the stack's growth is no leak */
    deep[0] = deep[sizeof deep - 1] = 0;
    for (char *warm = page(0, 0); warm < page(0, 2); warm += PAGE)
        *warm = deep[0];
    int fds = open_fds();
    long pages = mapped_pages();
    for (char *line = script, *end; *line; line = end) {
        end = strchr(line, '\n');
        *end++ = 0;
        run(line);
    }
    EQUAL(open_fds(), fds);
    EQUAL(mapped_pages(), pages);
    lay_out();
    EQUAL(strcmp(get("l"), "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"), 0);
    CHECK(strtod("1.5", NULL) * 2 == 3); /* the processor is in order, too */
    if (calls)
        printf("%d calls made\n", calls);
    return finish("hostile");
}
