/* farcall's first program: no libc, the same source for both architectures. It greets, says what machine it
   believes to run on, lists its arguments, and shows each file that they name: the bytes came from a server. */

typedef unsigned long u64;

#if defined(__x86_64__)
enum { SYS_READ = 0, SYS_WRITE = 1, SYS_OPENAT = 257, SYS_UNAME = 63, SYS_EXIT_GROUP = 231 };
__asm__(".globl _start\n_start: xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call start\n");

static long call(long number, u64 a, u64 b, u64 c, u64 d) {
    register u64 r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { SYS_READ = 63, SYS_WRITE = 64, SYS_OPENAT = 56, SYS_UNAME = 160, SYS_EXIT_GROUP = 94 };
__asm__(".globl _start\n_start: mov x29, #0\n mov x30, #0\n mov x0, sp\n bl start\n");

static long call(long number, u64 a, u64 b, u64 c, u64 d) {
    register long x8 __asm__("x8") = number;
    register u64 x0 __asm__("x0") = a;
    register u64 x1 __asm__("x1") = b;
    register u64 x2 __asm__("x2") = c;
    register u64 x3 __asm__("x3") = d;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return (long)x0;
}
#endif

enum { AT_FDCWD = -100, NAME_BYTES = 65, BLOCK_BYTES = 4096 };

static void write_all(const char *text, u64 length) {
    while (length) {
        long written = call(SYS_WRITE, 1, (u64)text, length, 0);
        if (written <= 0)
            call(SYS_EXIT_GROUP, 1, 0, 0, 0);
        text += written;
        length -= (u64)written;
    }
}

static void print(const char *text) {
    u64 length = 0;
    while (text[length])
        length++;
    write_all(text, length);
}

/* 0 if the whole file was shown. */
static int show(const char *path) {
    char block[BLOCK_BYTES];
    long fd = call(SYS_OPENAT, (u64)AT_FDCWD, (u64)path, 0, 0), length = fd;
    while (fd >= 0 && (length = call(SYS_READ, (u64)fd, (u64)block, BLOCK_BYTES, 0)) > 0)
        write_all(block, (u64)length);
    if (length < 0)
        print("cannot be read\n");
    return length < 0;
}

/* stack: argc, then argv. */
__attribute__((noreturn, used)) void start(u64 *stack) {
    static char name[6][NAME_BYTES];
    int failed = 0;
    call(SYS_UNAME, (u64)name, 0, 0, 0);
    print("Hello from a guest of farcall: ");
    print(name[0]);
    print(" on ");
    print(name[4]);
    print("\n");
    for (u64 i = 1; i < stack[0]; i++) {
        print("--- ");
        print((const char *)stack[1 + i]);
        print("\n");
        failed |= show((const char *)stack[1 + i]);
    }
    call(SYS_EXIT_GROUP, (u64)failed, 0, 0, 0);
    __builtin_unreachable();
}
