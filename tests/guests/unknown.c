/* A system call number that nobody has: -ENOSYS, and every other register as the instruction leaves it. */
#include "check.h"

#ifdef __x86_64__
/* rax, then rbx rcx rdx rsi rdi rbp r8 .. r15 and the flags, after `syscall` with each preset to a pattern. */
static unsigned long regs[17], stack, after;

static void call(unsigned long number) {
    __asm__ volatile(
        "push %%rbx; push %%rbp; push %%r12; push %%r13; push %%r14; push %%r15\n"
        "mov %%rsp, stack(%%rip)\n"
        "mov $0xb0b0b0b0b0b0b0b0, %%rbx; mov $0xd0d0d0d0d0d0d0d0, %%rdx\n"
        "mov $0x5151515151515151, %%rsi; mov $0xd1d1d1d1d1d1d1d1, %%rdi; mov $0xbbbbbbbbbbbbbbbb, %%rbp\n"
        "mov $0x8888888888888888, %%r8; mov $0x9999999999999999, %%r9; mov $0x1010101010101010, %%r10\n"
        "mov $0x1212121212121212, %%r12; mov $0x1313131313131313, %%r13; mov $0x1414141414141414, %%r14\n"
        "mov $0x1515151515151515, %%r15; mov $0xcccccccccccccccc, %%rcx; mov $0x1111111111111111, %%r11\n"
        "stc\n" /* a flag that must survive */
        "syscall\n"
        "1: mov %%rax, regs(%%rip); mov %%rbx, 8+regs(%%rip); mov %%rcx, 16+regs(%%rip); mov %%rdx, 24+regs(%%rip)\n"
        "mov %%rsi, 32+regs(%%rip); mov %%rdi, 40+regs(%%rip); mov %%rbp, 48+regs(%%rip); mov %%r8, 56+regs(%%rip)\n"
        "mov %%r9, 64+regs(%%rip); mov %%r10, 72+regs(%%rip); mov %%r11, 80+regs(%%rip); mov %%r12, 88+regs(%%rip)\n"
        "mov %%r13, 96+regs(%%rip); mov %%r14, 104+regs(%%rip); mov %%r15, 112+regs(%%rip); mov %%rsp, 120+regs(%%rip)\n"
        "pushfq; pop %%rax; mov %%rax, 128+regs(%%rip); lea 1b(%%rip), %%rax; mov %%rax, after(%%rip)\n"
        "pop %%r15; pop %%r14; pop %%r13; pop %%r12; pop %%rbp; pop %%rbx\n"
        : "+m"(regs), "+m"(stack), "+m"(after)
        : "a"(number)
        : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
}

static void test(unsigned long number) {
    call(number);
    EQUAL(regs[0], -ENOSYS);
    EQUAL(regs[1], 0xb0b0b0b0b0b0b0b0);
    EQUAL(regs[2], after); /* rcx: the address behind the instruction */
    EQUAL(regs[3], 0xd0d0d0d0d0d0d0d0);
    EQUAL(regs[4], 0x5151515151515151);
    EQUAL(regs[5], 0xd1d1d1d1d1d1d1d1);
    EQUAL(regs[6], 0xbbbbbbbbbbbbbbbb);
    EQUAL(regs[7], 0x8888888888888888);
    EQUAL(regs[8], 0x9999999999999999);
    EQUAL(regs[9], 0x1010101010101010);
    EQUAL(regs[10] & 0xcd5, regs[16] & 0xcd5); /* r11: the flags */
    EQUAL(regs[11], 0x1212121212121212);
    EQUAL(regs[12], 0x1313131313131313);
    EQUAL(regs[13], 0x1414141414141414);
    EQUAL(regs[14], 0x1515151515151515);
    EQUAL(regs[15], stack);
    EQUAL(regs[16] & 1, 1);
}
#else
static unsigned long regs[33], stack;

static void call(unsigned long number) {
    register unsigned long x0 __asm__("x0") = number;
    register unsigned long *x1 __asm__("x1") = regs;
    __asm__ volatile(
        "stp x29, x30, [sp, #-16]!\n stp x19, x20, [sp, #-16]!\n stp x21, x22, [sp, #-16]!\n"
        "stp x23, x24, [sp, #-16]!\n stp x25, x26, [sp, #-16]!\n stp x27, x28, [sp, #-16]!\n"
        "stp x18, x1, [sp, #-16]!\n"
        "mov x8, x0\n"
        ".irp n, 0,1,2,3,4,5,6,7,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30\n"
        "mov x\\n, #(0x100 + \\n)\n"
        ".endr\n"
        "cmp x0, x0\n" /* Z and C: they must survive */
        "svc #0\n"
        "str x30, [sp, #-16]!\n ldr x30, [sp, #24]\n" /* the array */
        "str x0, [x30]\n"
        ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29\n"
        "str x\\n, [x30, #(8 * \\n)]\n"
        ".endr\n"
        "ldr x0, [sp], #16\n str x0, [x30, #240]\n mov x0, sp\n str x0, [x30, #248]\n"
        "mrs x0, nzcv\n str x0, [x30, #256]\n"
        "ldp x18, x1, [sp], #16\n"
        "ldp x27, x28, [sp], #16\n ldp x25, x26, [sp], #16\n ldp x23, x24, [sp], #16\n"
        "ldp x21, x22, [sp], #16\n ldp x19, x20, [sp], #16\n mov x2, sp\n ldp x29, x30, [sp], #16\n"
        "str x2, %[stack]\n"
        : "+r"(x0), "+r"(x1), [stack] "=m"(stack)
        :
        : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
          "memory", "cc");
}

static void test(unsigned long number) {
    call(number);
    EQUAL(regs[0], -ENOSYS);
    for (unsigned long i = 1; i < 31; i++)
        if (i != 8)
            EQUAL(regs[i], 0x100 + i);
    EQUAL(regs[8], number);
    EQUAL(regs[31], stack - 96);
    EQUAL(regs[32] >> 28, 6); /* Z, C */
}
#endif

int main(void) {
    unsigned long numbers[] = {600, 1023, 4000, 1UL << 29, 0x7fffffff};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        test(numbers[i]);
    return finish("unknown");
}
