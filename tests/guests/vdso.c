/* The vDSO (vdso(7)): found by its auxiliary vector entry, read as a loader reads it, and its functions called. */
#include "check.h"
#include <elf.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>

#ifdef __x86_64__
#define PREFIX "__vdso_"
#define VERSION "LINUX_2.6"
#else
#define PREFIX "__kernel_"
#define VERSION "LINUX_2.6.39"
#endif

static const char *base, *strings;
static const Elf64_Sym *symbols;
static const Elf64_Half *versions;
static const Elf64_Verdef *definitions;
static unsigned long count;

/* Of ELF's System V hash table, or of the GNU one: how many symbols there are. */
static unsigned long gnu_count(const unsigned *table) {
    const unsigned *buckets = table + 4 + 2 * table[2], *chains = buckets + table[0];
    unsigned last = 0;
    for (unsigned i = 0; i < table[0]; i++)
        last = buckets[i] > last ? buckets[i] : last;
    while (last && !(chains[last - table[1]] & 1))
        last++;
    return last + 1;
}

static void read_object(void) {
    base = (const char *)getauxval(AT_SYSINFO_EHDR);
    if (!base || memcmp(base, ELFMAG, SELFMAG)) {
        CHECK(!"no object there");
        return;
    }
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)base;
    EQUAL(header->e_type, ET_DYN);
    const Elf64_Phdr *parts = (const Elf64_Phdr *)(base + header->e_phoff);
    const Elf64_Dyn *dynamic = NULL;
    for (int i = 0; i < header->e_phnum; i++)
        if (parts[i].p_type == PT_DYNAMIC)
            dynamic = (const Elf64_Dyn *)(base + parts[i].p_vaddr);
    CHECK(dynamic);
    unsigned long name = 0;
    for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
        const char *at = base + dynamic->d_un.d_ptr;
        switch (dynamic->d_tag) {
        case DT_STRTAB: strings = at; break;
        case DT_SYMTAB: symbols = (const Elf64_Sym *)at; break;
        case DT_VERSYM: versions = (const Elf64_Half *)at; break;
        case DT_VERDEF: definitions = (const Elf64_Verdef *)at; break;
        case DT_HASH: count = ((const unsigned *)at)[1]; break;
        case DT_GNU_HASH: count = count ? count : gnu_count((const unsigned *)at); break;
        case DT_SONAME: name = dynamic->d_un.d_val; break;
        }
    }
    CHECK(strings && symbols && versions && definitions && count);
    CHECK(strings && !strcmp(strings + name, "linux-vdso.so.1"));
}

static int has_version(unsigned long index) {
    const Elf64_Verdef *definition = definitions;
    while (definition->vd_ndx != (versions[index] & 0x7fff) || definition->vd_flags & VER_FLG_BASE) {
        if (!definition->vd_next)
            return 0;
        definition = (const Elf64_Verdef *)((const char *)definition + definition->vd_next);
    }
    const Elf64_Verdaux *named = (const Elf64_Verdaux *)((const char *)definition + definition->vd_aux);
    return !strcmp(strings + named->vda_name, VERSION);
}

static void *find(const char *name) {
    for (unsigned long i = 1; i < count; i++)
        if (!strcmp(strings + symbols[i].st_name, name) && symbols[i].st_shndx != SHN_UNDEF && has_version(i))
            return (void *)(base + symbols[i].st_value);
    printf("%s is missing\n", name);
    failures++;
    return NULL;
}

static long long asked(clockid_t clock) {
    struct timespec t;
    return syscall(SYS_clock_gettime, clock, &t) ? -1 : t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(void) {
    read_object();
    int (*gettime)(clockid_t, struct timespec *) = find(PREFIX "clock_gettime");
    int (*getres)(clockid_t, struct timespec *) = find(PREFIX "clock_getres");
    int (*timeofday)(struct timeval *, struct timezone *) = find(PREFIX "gettimeofday");
    if (failures)
        return finish("vdso");
    clockid_t clocks[] = {CLOCK_REALTIME,        CLOCK_MONOTONIC,        CLOCK_PROCESS_CPUTIME_ID,
                          CLOCK_MONOTONIC_RAW,   CLOCK_REALTIME_COARSE,  CLOCK_MONOTONIC_COARSE,
                          CLOCK_THREAD_CPUTIME_ID, CLOCK_BOOTTIME,       CLOCK_TAI};
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        struct timespec told, resolution;
        EQUAL(gettime(clocks[i], &told), 0);
        CHECK(told.tv_nsec >= 0 && told.tv_nsec < 1000000000);
        EQUAL(getres(clocks[i], &resolution), 0);
        CHECK(resolution.tv_sec == 0 && resolution.tv_nsec > 0);
    }
    /* Both ways to ask tell one clock. */
    for (int round = 0; round < 1000; round++) {
        clockid_t clock = round & 1 ? CLOCK_MONOTONIC : CLOCK_REALTIME;
        struct timespec t;
        long long before = asked(clock);
        gettime(clock, &t);
        long long told = t.tv_sec * 1000000000LL + t.tv_nsec, after = asked(clock);
        if (before > told || told > after) {
            CHECK(!"between two system calls");
            break;
        }
    }
    struct timeval v = {0, -1};
    long long before = asked(CLOCK_REALTIME) / 1000;
    EQUAL(timeofday(&v, NULL), 0);
    CHECK(v.tv_usec >= 0 && v.tv_usec < 1000000);
    CHECK(v.tv_sec * 1000000LL + v.tv_usec >= before);
    struct timezone zone = {1, 1};
    EQUAL(timeofday(&v, &zone), 0);
    EQUAL(timeofday(NULL, NULL), 0);
    struct timespec t;
    EQUAL(gettime(99, &t), -EINVAL);
    EQUAL(gettime(-1, &t), -EINVAL);
#ifdef __x86_64__
    time_t (*seconds)(time_t *) = find(PREFIX "time");
    long (*processor)(unsigned *, unsigned *, void *) = find(PREFIX "getcpu");
    if (!failures) {
        time_t stored = 0, now = seconds(&stored);
        CHECK(now == stored && now >= before / 1000000 && seconds(NULL) >= now);
        unsigned cpu = -1;
        EQUAL(processor(&cpu, NULL, NULL), 0);
        CHECK(cpu < 4096);
    }
#else
    CHECK(find(PREFIX "rt_sigreturn"));
#endif
    return finish("vdso");
}
