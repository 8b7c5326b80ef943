/* What `farcall bench` runs as a guest: a loop, timed by itself. No libc, the same source for both architectures.

     bench null N             N getppid calls
     bench pread N PATH       N preads of 4096 bytes from the start of PATH
     bench crowd N PATH GUESTS  the same from beyond its first 64 KiB, N by each of so many processes at once
     bench compute N          SHA-256 over N times 16 KiB
     bench fork N             N children, one after the other, that end at once; forked and waited for
     bench spawn N PROG ARG...  N children that execute PROG; forked and waited for
     bench pipe N             N bytes to a child and back, by two pipes, on two processors if there are two
     bench tcp N              the same by one TCP connection of the loopback
     bench exit               nothing

   Prints the nanoseconds of the whole loop, in decimal; of CPU time for compute. */

typedef unsigned long u64;

#if defined(__x86_64__)
enum { SYS_PREAD = 17, SYS_WRITE = 1, SYS_OPENAT = 257, SYS_GETPPID = 110, SYS_CLOCK_GETTIME = 228, SYS_EXIT_GROUP = 231,
       SYS_READ = 0, SYS_CLOSE = 3, SYS_PIPE2 = 293, SYS_CLONE = 56, SYS_WAIT4 = 61, SYS_EXECVE = 59,
       SYS_SCHED_SETAFFINITY = 203, SYS_SCHED_GETAFFINITY = 204,
       SYS_SOCKET = 41, SYS_CONNECT = 42, SYS_ACCEPT4 = 288, SYS_LISTEN = 50, SYS_GETSOCKNAME = 51 };
__asm__(".globl _start\n_start: xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call start\n");

static inline long call(long number, u64 a, u64 b, u64 c, u64 d) {
    register u64 r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { SYS_PREAD = 67, SYS_WRITE = 64, SYS_OPENAT = 56, SYS_GETPPID = 173, SYS_CLOCK_GETTIME = 113, SYS_EXIT_GROUP = 94,
       SYS_READ = 63, SYS_CLOSE = 57, SYS_PIPE2 = 59, SYS_CLONE = 220, SYS_WAIT4 = 260, SYS_EXECVE = 221,
       SYS_SCHED_SETAFFINITY = 122, SYS_SCHED_GETAFFINITY = 123,
       SYS_SOCKET = 198, SYS_CONNECT = 203, SYS_ACCEPT4 = 242, SYS_LISTEN = 201, SYS_GETSOCKNAME = 204 };
__asm__(".globl _start\n_start: mov x29, #0\n mov x30, #0\n mov x0, sp\n bl start\n");

static inline long call(long number, u64 a, u64 b, u64 c, u64 d) {
    register long x8 __asm__("x8") = number;
    register u64 x0 __asm__("x0") = a;
    register u64 x1 __asm__("x1") = b;
    register u64 x2 __asm__("x2") = c;
    register u64 x3 __asm__("x3") = d;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return (long)x0;
}
#endif

enum { AT_FDCWD = -100, CLOCK_MONOTONIC = 1, CLOCK_PROCESS_CPUTIME_ID = 2, BLOCK_BYTES = 4096, WORDS = 2048, SIGCHLD = 17,
       NOT_EXECUTED = 127, AF_INET = 2, SOCK_STREAM = 1, BEYOND_BYTES = 65536 };

static char block[BLOCK_BYTES];
static u64 words[WORDS];

static u64 now(int clock) {
    u64 spec[2];
    call(SYS_CLOCK_GETTIME, (u64)clock, (u64)spec, 0, 0);
    return spec[0] * 1000000000UL + spec[1];
}

static u64 number(const char *text) {
    u64 value = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (u64)(*text - '0');
    return value;
}

static void print(u64 value) {
    char text[24];
    int at = sizeof text;
    text[--at] = '\n';
    do
        text[--at] = (char)('0' + value % 10);
    while (value /= 10);
    call(SYS_WRITE, 1, (u64)(text + at), sizeof text - (u64)at, 0);
}

static const unsigned sha_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define CHOOSE(x, y, z) (((x) & (y)) ^ (~(x) & (z)))
#define MAJORITY(x, y, z) (((x) & (y)) ^ ((x) & (z)) ^ ((y) & (z)))

/* One block of SHA-256 (FIPS 180-4, 6.2.2). */
static void sha_block(unsigned state[8], const unsigned message[16]) {
    unsigned w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = message[i];
    for (int i = 16; i < 64; i++) {
        unsigned a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (ROTATE(a, 7) ^ ROTATE(a, 18) ^ a >> 3) + w[i - 7] + (ROTATE(b, 17) ^ ROTATE(b, 19) ^ b >> 10);
    }
    for (int i = 0; i < 8; i++)
        s[i] = state[i];
    for (int i = 0; i < 64; i++) {
        unsigned e = s[4], a = s[0];
        unsigned one = s[7] + (ROTATE(e, 6) ^ ROTATE(e, 11) ^ ROTATE(e, 25)) + CHOOSE(e, s[5], s[6]) + sha_constants[i] + w[i];
        unsigned two = (ROTATE(a, 2) ^ ROTATE(a, 13) ^ ROTATE(a, 22)) + MAJORITY(a, s[1], s[2]);
        s[7] = s[6], s[6] = s[5], s[5] = e, s[4] = s[3] + one, s[3] = s[2], s[2] = s[1], s[1] = a, s[0] = one + two;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

static int compute(u64 rounds) {
    unsigned state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    while (rounds--)
        for (int i = 0; i < WORDS; i += 8)
            sha_block(state, (const unsigned *)(words + i));
    return state[0] == 0;
}

__attribute__((noreturn)) static void leave(int status) {
    for (;;)
        call(SYS_EXIT_GROUP, (u64)status, 0, 0, 0);
}

static long fork(void) {
    return call(SYS_CLONE, SIGCHLD, 0, 0, 0);
}

/* Whether the child ends otherwise than with status 0. */
static int failed_child(long child) {
    int status = -1;
    return child < 0 || call(SYS_WAIT4, (u64)child, (u64)&status, 0, 0) != child || status;
}

/* A child after the other; they end at once if arguments[0] is null, else execute it. */
static int spawn(u64 rounds, char **arguments, char **environment) {
    while (rounds--) {
        long child = fork();
        if (!child) {
            if (!arguments[0])
                leave(0);
            call(SYS_EXECVE, (u64)arguments[0], (u64)arguments, (u64)environment, 0);
            leave(NOT_EXECUTED);
        }
        if (failed_child(child))
            return 1;
    }
    return 0;
}

/* A byte to and fro. */
static int pass(u64 rounds, int in, int out, int first) {
    char byte = 0;
    while (rounds--) {
        if (first && call(SYS_WRITE, (u64)out, (u64)&byte, 1, 0) != 1)
            return 1;
        if (call(SYS_READ, (u64)in, (u64)&byte, 1, 0) != 1)
            return 1;
        if (!first && call(SYS_WRITE, (u64)out, (u64)&byte, 1, 0) != 1)
            return 1;
    }
    return 0;
}

/* On one processor alone, of those that it may run on: the lowest, or the highest. 0, or -errno. A scheduler puts the
   ends of a pipe on one processor or on two as it likes, which makes a round trip dear or cheap by a factor of ten. */
static long stay(int highest) {
    u64 mask[16] = {0};
    if (call(SYS_SCHED_GETAFFINITY, 0, sizeof mask, (u64)mask, 0) < 0)
        return 1;
    int found = -1;
    for (int i = 0; i < 64 * 16; i++)
        if (mask[i / 64] >> i % 64 & 1 && (highest || found < 0))
            found = i;
    for (int i = 0; i < 16; i++)
        mask[i] = i == found / 64 ? 1UL << found % 64 : 0;
    return call(SYS_SCHED_SETAFFINITY, 0, sizeof mask, (u64)mask, 0);
}

/* Nanoseconds of the round trips; 0: failed. The child's birth and end are not measured. */
static u64 ping_pong(u64 rounds, const int *ours, const int *theirs) {
    long child = fork();
    if (!child)
        leave(stay(1) || pass(rounds + 1, theirs[0], theirs[1], 0));
    if (stay(0) || pass(1, ours[0], ours[1], 1))
        return 0;
    u64 begin = now(CLOCK_MONOTONIC);
    int failed = pass(rounds, ours[0], ours[1], 1);
    u64 end = now(CLOCK_MONOTONIC);
    return failed | failed_child(child) ? 0 : end - begin;
}

static u64 by_pipes(u64 rounds) {
    int there[2], back[2];
    if (call(SYS_PIPE2, (u64)there, 0, 0, 0) || call(SYS_PIPE2, (u64)back, 0, 0, 0))
        return 0;
    return ping_pong(rounds, (int[]){back[0], there[1]}, (int[]){there[0], back[1]});
}

static u64 by_tcp(u64 rounds) {
    unsigned char name[16] = {0};
    int size = sizeof name;
    long listener = call(SYS_SOCKET, AF_INET, SOCK_STREAM, 0, 0);
    if (call(SYS_LISTEN, (u64)listener, 1, 0, 0) || call(SYS_GETSOCKNAME, (u64)listener, (u64)name, (u64)&size, 0))
        return 0;
    name[4] = 127, name[7] = 1;
    long near = call(SYS_SOCKET, AF_INET, SOCK_STREAM, 0, 0);
    if (call(SYS_CONNECT, (u64)near, (u64)name, sizeof name, 0))
        return 0;
    long far = call(SYS_ACCEPT4, (u64)listener, 0, 0, 0);
    if (far < 0)
        return 0;
    return ping_pong(rounds, (int[]){(int)near, (int)near}, (int[]){(int)far, (int)far});
}

static int read_blocks(u64 count, const char *path, u64 offset) {
    long fd = call(SYS_OPENAT, (u64)AT_FDCWD, (u64)path, 0, 0);
    int failed = 0;
    while (count-- && !failed)
        failed = call(SYS_PREAD, (u64)fd, (u64)block, BLOCK_BYTES, offset) != BLOCK_BYTES;
    return failed;
}

/* Says whether it failed. 0, or 1. */
static int report(int to, int failed) {
    char byte = (char)failed;
    return call(SYS_WRITE, (u64)to, (u64)&byte, 1, 0) != 1 || failed;
}

/* Whether one of so many reports is of a failure, or is missing. */
static int failed_report(int from, u64 count) {
    char byte = 0;
    while (count-- && !byte)
        if (call(SYS_READ, (u64)from, (u64)&byte, 1, 0) != 1)
            return 1;
    return byte;
}

/* Nanoseconds in which every child reads its blocks; 0: failed. Their births and ends are not measured: each reads
   one block, reports, waits for a byte, and reports again when it has read the others. */
static u64 crowd(u64 count, const char *path, u64 children) {
    int go[2], done[2];
    if (call(SYS_PIPE2, (u64)go, 0, 0, 0) || call(SYS_PIPE2, (u64)done, 0, 0, 0) || children > sizeof block)
        return 0;
    for (u64 i = 0; i < children; i++) {
        long child = fork();
        if (child < 0)
            return 0;
        if (!child) {
            char byte;
            call(SYS_CLOSE, (u64)go[1], 0, 0, 0);
            leave(report(done[1], read_blocks(1, path, BEYOND_BYTES)) || call(SYS_READ, (u64)go[0], (u64)&byte, 1, 0) != 1
                  || report(done[1], read_blocks(count, path, BEYOND_BYTES)));
        }
    }
    call(SYS_CLOSE, (u64)done[1], 0, 0, 0);
    if (failed_report(done[0], children))
        return 0;
    u64 begin = now(CLOCK_MONOTONIC);
    if (call(SYS_WRITE, (u64)go[1], (u64)block, children, 0) != (long)children || failed_report(done[0], children))
        return 0;
    return now(CLOCK_MONOTONIC) - begin;
}

static int is(const char *mode, const char *name) {
    while (*mode && *mode == *name)
        mode++, name++;
    return *mode == *name;
}

/* stack: argc, argv, a null, the environment. */
__attribute__((noreturn, used)) void start(u64 *stack) {
    u64 words_given = stack[0];
    char **arguments = (char **)(stack + 1), **environment = arguments + words_given + 1;
    const char *mode = words_given > 1 ? arguments[1] : "exit";
    u64 count = words_given > 2 ? number(arguments[2]) : 0, begin = now(CLOCK_MONOTONIC), spent = 0;
    int failed = 0;
    if (is(mode, "pread")) {
        long fd = words_given > 3 ? call(SYS_OPENAT, (u64)AT_FDCWD, (u64)arguments[3], 0, 0) : -1;
        begin = now(CLOCK_MONOTONIC);
        for (u64 i = 0; i < count && !failed; i++)
            failed = call(SYS_PREAD, (u64)fd, (u64)block, BLOCK_BYTES, 0) != BLOCK_BYTES;
    } else if (is(mode, "crowd")) {
        spent = words_given > 4 ? crowd(count, arguments[3], number(arguments[4])) : 0;
        failed = !spent;
    } else if (is(mode, "null")) {
        for (u64 i = 0; i < count; i++)
            call(SYS_GETPPID, 0, 0, 0, 0);
    } else if (is(mode, "fork") || (is(mode, "spawn") && words_given > 3)) {
        failed = spawn(count, arguments + (words_given > 3 ? 3 : words_given), environment);
    } else if (is(mode, "pipe")) {
        spent = by_pipes(count);
        failed = !spent;
    } else if (is(mode, "tcp")) {
        spent = by_tcp(count);
        failed = !spent;
    } else if (is(mode, "compute")) {
        begin = now(CLOCK_PROCESS_CPUTIME_ID);
        failed = compute(count);
        spent = now(CLOCK_PROCESS_CPUTIME_ID) - begin;
    } else {
        leave(!is(mode, "exit"));
    }
    print(spent ? spent : now(CLOCK_MONOTONIC) - begin);
    leave(failed);
}
