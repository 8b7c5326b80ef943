/* SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP: what their handlers are told, and how often. */
#include "children.h"
#include "faulting.h"
#include <sys/mman.h>

static volatile char *page;
static long page_size = 4096;

static void fresh(int protection) {
    if (page)
        munmap((void *)page, 2 * page_size);
    page = mmap(NULL, 2 * page_size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
}

static void test_access(void) {
    volatile int *null = (volatile int *)8;
    FAULTS(*null, SIGSEGV, SEGV_MAPERR, 8);
    FAULTS(*null = 1, SIGSEGV, SEGV_MAPERR, 8);
    fresh(PROT_READ);
    FAULTS(page[100] = 1, SIGSEGV, SEGV_ACCERR, page + 100);
    fresh(PROT_NONE);
    FAULTS(page[4097], SIGSEGV, SEGV_ACCERR, page + 4097);
    FAULTS(((void (*)(void))page)(), SIGSEGV, SEGV_ACCERR, page);
    fresh(PROT_READ | PROT_WRITE);
    FAULTS(((void (*)(void))page)(), SIGSEGV, SEGV_ACCERR, page);
    EQUAL(mprotect((void *)(page + page_size), page_size, PROT_READ), 0);
    page[4095] = 1;
    FAULTS(page[4096] = 1, SIGSEGV, SEGV_ACCERR, page + 4096);
    EQUAL(munmap((void *)(page + page_size), page_size), 0);
    FAULTS(page[4096], SIGSEGV, SEGV_MAPERR, page + 4096);
    FAULTS(((void (*)(void))(page + 4096))(), SIGSEGV, SEGV_MAPERR, page + 4096);
    for (int n = 0; n < 200; n++) { /* as a collector of garbage does it */
        EQUAL(mprotect((void *)page, page_size, PROT_READ), 0);
        FAULTS(page[n] = 1, SIGSEGV, SEGV_ACCERR, page + n);
        EQUAL(mprotect((void *)page, page_size, PROT_READ | PROT_WRITE), 0);
        page[n] = 2;
    }
}

static void test_bus(void) {
    int fd = open("file", O_RDWR | O_CREAT, 0600);
    EQUAL(ftruncate(fd, 5000), 0);
    volatile char *mapped = mmap(NULL, 3 * page_size, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(mapped != MAP_FAILED);
    EQUAL(mapped[8191], 0);
    FAULTS(mapped[8192], SIGBUS, BUS_ADRERR, mapped + 8192);
    munmap((void *)mapped, 3 * page_size);
    close(fd);
    EQUAL(unlink("file"), 0);
}

static void test_instructions(void) {
#ifdef __aarch64__
    FAULTS(__asm__ volatile("udf #0"), SIGILL, ILL_ILLOPC, told.si_addr);
    FAULTS(__asm__ volatile("brk #0"), SIGTRAP, TRAP_BRKPT, told.si_addr);
#else
    FAULTS(__asm__ volatile("ud2"), SIGILL, ILL_ILLOPN, told.si_addr);
    volatile int zero = 0, one = 1;
    FAULTS(one = one / zero, SIGFPE, FPE_INTDIV, told.si_addr);
    FAULTS(__asm__ volatile("int3"), SIGTRAP, SI_KERNEL, told.si_addr);
    FAULTS(__asm__ volatile("hlt"), SIGSEGV, SI_KERNEL, 0);
    FAULTS(*(volatile char *)0x8000000000000000, SIGSEGV, SI_KERNEL, 0);
#endif
}

/* A fault whose signal is blocked or ignored kills all the same. */
static int blocked(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, NULL);
    *(volatile int *)8 = 1;
    return 0;
}

static int ignored(void) {
    signal(SIGSEGV, SIG_IGN);
    *(volatile int *)8 = 1;
    return 0;
}

static void again(int number) {
    (void)number;
    *(volatile int *)8 = 1;
}

static int in_its_handler(void) {
    signal(SIGSEGV, again);
    *(volatile int *)8 = 1;
    return 0;
}

static volatile int repaired;

static void repairs(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    repaired++;
    mprotect((void *)((uintptr_t)info->si_addr & -page_size), page_size, PROT_READ | PROT_WRITE);
}

/* The instruction is tried again when the handler returns. */
static void test_retried(void) {
    struct sigaction action = {.sa_sigaction = repairs, .sa_flags = SA_SIGINFO};
    EQUAL(sigaction(SIGSEGV, &action, NULL), 0);
    for (int n = 0; n < 50; n++) {
        fresh(PROT_NONE);
        page[page_size - 1] = 5;
        page[page_size] = 6;
        EQUAL(page[page_size - 1] + page[page_size], 11);
    }
    EQUAL(repaired, 100);
    signal(SIGSEGV, SIG_DFL);
}

int main(void) {
    limit(60);
    int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    for (int n = 0; n < 5; n++)
        EQUAL(sigaction(numbers[n], &action, NULL), 0);
    test_access();
    test_bus();
    test_instructions();
    EQUAL(run(blocked), 128 + SIGSEGV);
    EQUAL(run(ignored), 128 + SIGSEGV);
    EQUAL(run(in_its_handler), 128 + SIGSEGV);
    test_retried();
    return finish("signal_faults");
}
