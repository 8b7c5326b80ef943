/* What the kernel puts on the initial stack: argv, envp, auxiliary vector (getauxval(3), execve(2)). */
#include "check.h"
#include <elf.h>
#include <sys/auxv.h>

extern char **environ;

static unsigned long entry_of(unsigned long type, int *found) {
    char **end = environ;
    while (*end)
        end++;
    *found = 0;
    for (Elf64_auxv_t *aux = (Elf64_auxv_t *)(end + 1); aux->a_type != AT_NULL; aux++)
        if (aux->a_type == type) {
            *found = 1;
            return aux->a_un.a_val;
        }
    return 0;
}

static int has(unsigned long type) {
    int found;
    entry_of(type, &found);
    return found;
}

/* The program headers, where the kernel says they are, are those of this file in memory. */
static void test_headers(void) {
    const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
    unsigned long count = getauxval(AT_PHNUM), loads = 0, bias = 0, covers_entry = 0;
    CHECK(headers != NULL && count > 0 && count < 64);
    for (unsigned long i = 0; i < count; i++)
        if (headers[i].p_type == PT_PHDR)
            bias = (unsigned long)headers - headers[i].p_vaddr;
    for (unsigned long i = 0; i < count; i++) {
        if (headers[i].p_type != PT_LOAD)
            continue;
        loads++;
        unsigned long start = bias + headers[i].p_vaddr, entry = getauxval(AT_ENTRY);
        if (entry >= start && entry < start + headers[i].p_memsz)
            covers_entry = headers[i].p_flags & PF_X;
    }
    CHECK(loads >= 2);
    CHECK(covers_entry);
    EQUAL(bias % 4096, 0);
}

static void test_machine(void) {
    const unsigned char *random = (const unsigned char *)getauxval(AT_RANDOM);
    int zeros = 0;
    CHECK(random != NULL);
    for (int i = 0; i < 16; i++)
        zeros += random[i] == 0;
    CHECK(zeros < 8);
    CHECK((char *)random > (char *)environ);

    const char *name = (const char *)getauxval(AT_EXECFN), *platform = (const char *)getauxval(AT_PLATFORM);
    CHECK(name != NULL && strlen(name) > 0);
    CHECK(access(name, X_OK) == 0);
    CHECK(platform != NULL);
    printf("platform %s\n", platform);
#ifdef __x86_64__
    CHECK(getauxval(AT_HWCAP) & (1 << 0));  /* FPU */
    CHECK(getauxval(AT_HWCAP) & (1 << 26)); /* SSE2: CPUID.1:EDX, no program runs without */
#else
    EQUAL(getauxval(AT_HWCAP) & 3, 3); /* FP, ASIMD */
#endif
    /* The stack pointer is aligned to 16 at entry, hence in every frame. */
    EQUAL((unsigned long)__builtin_frame_address(0) % 16, 0);
}

int main(int argc, char **argv) {
    EQUAL(argc, 1);
    CHECK(argv[argc] == NULL);
    CHECK((void **)environ == (void **)(argv + argc + 1));
    CHECK((char *)environ > (char *)&argc);

    EQUAL(getauxval(AT_PAGESZ), 4096);
    EQUAL(getauxval(AT_CLKTCK), 100);
    EQUAL(getauxval(AT_PHENT), sizeof(Elf64_Phdr));
    EQUAL(getauxval(AT_UID), getuid());
    EQUAL(getauxval(AT_EUID), geteuid());
    EQUAL(getauxval(AT_GID), getgid());
    EQUAL(getauxval(AT_EGID), getegid());
    EQUAL(getauxval(AT_SECURE), 0);
    EQUAL(getauxval(AT_FLAGS), 0);
    EQUAL(getauxval(AT_BASE), 0);
    CHECK(has(AT_SECURE) && has(AT_FLAGS) && has(AT_BASE) && has(AT_HWCAP));
    test_headers();
    test_machine();

    EQUAL(strcmp(getenv("GUEST_VARIABLE") ? getenv("GUEST_VARIABLE") : "", "a b=c"), 0);
    int variables = 0;
    for (char **e = environ; *e; e++) {
        variables++;
        printf("%s\n", *e);
    }
    EQUAL(variables, 1);
    return finish("auxv");
}
