/* System call numbers from standard input, one a line, each with every register set to a pattern: prints the
   result, and fails if another register is not as the instruction leaves it. */
#include "check.h"

#ifdef __x86_64__
/* rax rbx rcx rdx rsi rdi rbp r8 .. r15, flags, rsp, then xmm0 .. xmm15. */
enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8, R11 = R8 + 3, FLAGS = 15, RSP, XMM = 17, WORDS = XMM + 32 };
__attribute__((used)) static unsigned long before[WORDS], after[WORDS], stack, behind;

static void call(void) {
    __asm__ volatile(
        "push %%rbx; push %%rbp; push %%r12; push %%r13; push %%r14; push %%r15\n"
        "mov %%rsp, stack(%%rip); lea 1f(%%rip), %%rax; mov %%rax, behind(%%rip)\n"
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
        "movdqu 136+16*\\n+before(%%rip), %%xmm\\n\n"
        ".endr\n"
        "push 120+before(%%rip); popfq\n"
        "mov 0+before(%%rip), %%rax; mov 8+before(%%rip), %%rbx; mov 16+before(%%rip), %%rcx\n"
        "mov 24+before(%%rip), %%rdx; mov 32+before(%%rip), %%rsi; mov 40+before(%%rip), %%rdi\n"
        "mov 48+before(%%rip), %%rbp; mov 56+before(%%rip), %%r8; mov 64+before(%%rip), %%r9\n"
        "mov 72+before(%%rip), %%r10; mov 80+before(%%rip), %%r11; mov 88+before(%%rip), %%r12\n"
        "mov 96+before(%%rip), %%r13; mov 104+before(%%rip), %%r14; mov 112+before(%%rip), %%r15\n"
        "syscall\n"
        "1: mov %%rax, 0+after(%%rip); mov %%rbx, 8+after(%%rip); mov %%rcx, 16+after(%%rip)\n"
        "mov %%rdx, 24+after(%%rip); mov %%rsi, 32+after(%%rip); mov %%rdi, 40+after(%%rip)\n"
        "mov %%rbp, 48+after(%%rip); mov %%r8, 56+after(%%rip); mov %%r9, 64+after(%%rip)\n"
        "mov %%r10, 72+after(%%rip); mov %%r11, 80+after(%%rip); mov %%r12, 88+after(%%rip)\n"
        "mov %%r13, 96+after(%%rip); mov %%r14, 104+after(%%rip); mov %%r15, 112+after(%%rip)\n"
        "mov %%rsp, 128+after(%%rip); pushfq; pop 120+after(%%rip)\n"
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
        "movdqu %%xmm\\n, 136+16*\\n+after(%%rip)\n"
        ".endr\n"
        "cld; pop %%r15; pop %%r14; pop %%r13; pop %%r12; pop %%rbp; pop %%rbx\n"
        :
        :
        : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3",
          "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static long test(unsigned long number) {
    for (int i = 0; i < WORDS; i++)
        before[i] = 0x0101010101010101 * (unsigned long)(i + 1);
    before[RAX] = number;
    before[FLAGS] = 0xad7; /* C P A Z S O, and the interrupt flag that every program sees */
    call();
    for (int i = RBX; i < WORDS; i++)
        if (i != RCX && i != R11 && i != RSP)
            EQUAL(after[i], before[i]);
    EQUAL(after[RCX], behind); /* the return address */
    EQUAL(after[R11], before[FLAGS]);
    EQUAL(after[RSP], stack);
    return (long)after[RAX];
}
#else
/* x0 .. x30, sp, nzcv, fpcr, then q0 .. q31. */
enum { X8 = 8, X30 = 30, SP, NZCV, FPCR, Q, WORDS = Q + 64 };
__attribute__((used)) static unsigned long before[WORDS], after[WORDS], stack;

#define LOAD(a, b, at) "ldp x" #a ", x" #b ", [x30, #" #at "]\n"
#define STORE(a, b, at) "stp x" #a ", x" #b ", [x30, #" #at "]\n"
#define PAIRS(F) F(0, 1, 0) F(2, 3, 16) F(4, 5, 32) F(6, 7, 48) F(8, 9, 64) F(10, 11, 80) F(12, 13, 96) \
    F(14, 15, 112) F(16, 17, 128) F(18, 19, 144) F(20, 21, 160) F(22, 23, 176) F(24, 25, 192) F(26, 27, 208)
#define VECTORS "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"

static void call(void) {
    register unsigned long *b __asm__("x0") = before, *a __asm__("x1") = after, *s __asm__("x2") = &stack;
    __asm__ volatile(
        "stp x29, x30, [sp, #-16]!\n stp x19, x20, [sp, #-16]!\n stp x21, x22, [sp, #-16]!\n"
        "stp x23, x24, [sp, #-16]!\n stp x25, x26, [sp, #-16]!\n stp x27, x28, [sp, #-16]!\n"
        "stp x18, x1, [sp, #-16]!\n" /* the array to fill lies at sp + 8 */
        "mov x3, sp\n str x3, [x2]\n"
        "mov x30, x0\n"
        "add x3, x30, #272\n"
        ".irp n, " VECTORS "\n ldr q\\n, [x3], #16\n .endr\n"
        "ldr x3, [x30, #256]\n msr nzcv, x3\n"
        PAIRS(LOAD)
        "ldr x28, [x30, #224]\n ldr x29, [x30, #232]\n ldr x30, [x30, #240]\n"
        "svc #0\n"
        "stp x29, x30, [sp, #-16]!\n"
        "ldr x30, [sp, #24]\n"
        PAIRS(STORE)
        "str x28, [x30, #224]\n ldp x0, x1, [sp], #16\n stp x0, x1, [x30, #232]\n"
        "mov x0, sp\n str x0, [x30, #248]\n mrs x0, nzcv\n str x0, [x30, #256]\n"
        "mrs x0, fpcr\n str x0, [x30, #264]\n"
        "add x3, x30, #272\n"
        ".irp n, " VECTORS "\n str q\\n, [x3], #16\n .endr\n"
        "ldp x18, x1, [sp], #16\n ldp x27, x28, [sp], #16\n ldp x25, x26, [sp], #16\n"
        "ldp x23, x24, [sp], #16\n ldp x21, x22, [sp], #16\n ldp x19, x20, [sp], #16\n ldp x29, x30, [sp], #16\n"
        : "+r"(b), "+r"(a), "+r"(s)
        :
        : "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "memory",
          "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15",
          "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
}

static long test(unsigned long number) {
    for (int i = 0; i < WORDS; i++)
        before[i] = 0x0101010101010101 * (unsigned long)(i + 1);
    before[X8] = number;
    before[NZCV] = 0x60000000;
    before[FPCR] = 0;
    call();
    for (int i = 1; i < WORDS; i++)
        if (i != SP)
            EQUAL(after[i], before[i]);
    EQUAL(after[SP], stack);
    return (long)after[0];
}
#endif

int main(void) {
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long number = strtoul(line, NULL, 0);
        printf("%lu %ld\n", number, test(number));
    }
    return finish("hostile_numbers");
}
