/* Dies of the fault that argv[1] names; the exit status (128 + signal) is the result. */
#include "check.h"
#include <sys/mman.h>

enum { PAGE = 4096 };

static const char constant[PAGE * 2] __attribute__((aligned(4096))) = "read-only";
static volatile unsigned char data[64] __attribute__((aligned(64)));

static char *map(int prot) {
    return mmap(NULL, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static __attribute__((noinline)) void jump(const volatile void *volatile target) {
    ((void (*)(void))(uintptr_t)target)();
}

static __attribute__((noinline)) int recurse(volatile char *above) {
    volatile char frame[2048];
    frame[0] = above[0];
    return above[0] ? recurse(frame) + frame[0] : 0;
}

static void write_file(const char *path, size_t size) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (ftruncate(fd, (off_t)size))
        exit(1);
    volatile char *m = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    exit(m[PAGE] == 0); /* beyond the last page of the file: SIGBUS */
}

static int fetch(const char *mode);

/* Loads and stores. 0: the mode is unknown. */
static int access_fault(const char *mode) {
    if (!strcmp(mode, "write-constant"))
        *(volatile char *)(uintptr_t)constant = 'x';
    else if (!strcmp(mode, "write-code"))
        *(volatile char *)(uintptr_t)fetch = 0;
    else if (!strcmp(mode, "write-readonly"))
        *(volatile char *)map(PROT_READ) = 1;
    else if (!strcmp(mode, "read-none"))
        exit(*(volatile char *)map(PROT_NONE));
    else if (!strcmp(mode, "read-null"))
        exit(*(volatile char *)8);
    else if (!strcmp(mode, "write-null"))
        *(volatile char *)8 = 1;
    else if (!strcmp(mode, "read-unmapped")) {
        char *a = map(PROT_READ);
        munmap(a, PAGE);
        exit(*(volatile char *)a);
    } else if (!strcmp(mode, "noncanonical"))
        exit(*(volatile char *)0x8000000000000000);
    else if (!strcmp(mode, "kernel-address"))
        exit(*(volatile char *)0xffff800000000000);
    else if (!strcmp(mode, "stack-overflow"))
        exit(recurse("x"));
    else if (!strcmp(mode, "bus"))
        write_file("short", 10);
    else if (!strcmp(mode, "crossing")) { /* a store of which only the second half is forbidden */
        char *a = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(a + PAGE, PAGE, PROT_READ);
        struct __attribute__((packed)) { volatile uint64_t value; } *odd = (void *)(a + PAGE - 4);
        odd->value = 1;
    } else
        return 0;
    return 1;
}

/* Jumps to where no code is. */
static int fetch(const char *mode) {
    if (!strcmp(mode, "jump-null"))
        jump(NULL);
    else if (!strcmp(mode, "jump-unmapped"))
        jump((void *)0x10000);
    else if (!strcmp(mode, "exec-data")) {
        data[0] = 0xc3;
        jump(data);
    } else if (!strcmp(mode, "exec-stack")) {
        volatile unsigned int code[4] = {0xc3c3c3c3, 0xd65f03c0};
        jump(code);
    } else if (!strcmp(mode, "exec-revoked")) {
        char *page = map(PROT_READ | PROT_WRITE);
#ifdef __x86_64__
        memset(page, 0xc3, 16);
#else
        *(unsigned int *)(void *)page = 0xd65f03c0;
#endif
        mprotect(page, PAGE, PROT_READ | PROT_EXEC);
        __builtin___clear_cache(page, page + 16);
        jump(page);
        mprotect(page, PAGE, PROT_READ);
        jump(page);
    } else
        return 0;
    return 1;
}

/* Instructions that a program must not execute, and abort(3). */
static int instruction_fault(const char *mode) {
    if (!strcmp(mode, "illegal")) {
#ifdef __x86_64__
        __asm__ volatile("ud2");
#else
        __asm__ volatile("udf #0");
#endif
    } else if (!strcmp(mode, "privileged")) {
#ifdef __x86_64__
        __asm__ volatile("hlt"); /* SIGSEGV: general protection */
#else
        __asm__ volatile("msr ttbr0_el1, x0"); /* SIGILL */
#endif
    } else if (!strcmp(mode, "breakpoint")) {
#ifdef __x86_64__
        __asm__ volatile("int3");
#else
        __asm__ volatile("brk #0");
#endif
    } else if (!strcmp(mode, "divide")) {
#ifdef __x86_64__
        __asm__ volatile("xor %%edx, %%edx; mov $1, %%eax; xor %%ecx, %%ecx; div %%ecx" ::: "rax", "rcx", "rdx");
#else
        exit(0); /* the architecture defines the quotient as 0 */
#endif
    } else if (!strcmp(mode, "abort"))
        abort();
    else
        return 0;
    return 1;
}

int main(int argc, char **argv) {
    printf("%s\n", argc > 1 ? argv[1] : "which?");
    fflush(stdout);
    if (argc < 2 || !(access_fault(argv[1]) || fetch(argv[1]) || instruction_fault(argv[1])))
        return 2;
    printf("survived\n");
    return 3;
}
