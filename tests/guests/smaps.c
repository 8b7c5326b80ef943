/* /proc/self/{smaps,smaps_rollup,statm}: what is in memory, and who else has it. */
#include "slurp.h"
#include <sys/mman.h>
#include <sys/wait.h>

/* kB of one row of the paragraph about the mapping that holds the address; -1: there is none. */
static long counted(const char *path, unsigned long address, const char *row) {
    char name[64];
    int inside = 0;
    slurp(path, 4096);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long start, end;
        long size;
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            inside = address >= start && address < end;
        else if (inside && sscanf(line, "%63[^:]: %ld kB", name, &size) == 2 && !strcmp(name, row))
            return size;
    }
    return -1;
}

static long resident_pages(void) {
    long size = 0, resident = 0, shared = 0;
    slurp("/proc/self/statm", 4096);
    EQUAL(sscanf(text, "%ld %ld %ld", &size, &resident, &shared), 3);
    CHECK(size >= resident && resident > shared && shared > 0);
    return resident;
}

static void test_smaps(void) {
    const char *smaps = "/proc/self/smaps";
    char *a = mmap(NULL, 3 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned long middle = (unsigned long)a + 4096;
    EQUAL(mprotect(a + 4096, 4096, PROT_READ | PROT_WRITE), 0);
    EQUAL(counted(smaps, middle, "Size"), 4);
    EQUAL(counted(smaps, middle, "KernelPageSize"), 4);
    EQUAL(counted(smaps, middle, "Rss"), 0);
    a[4096] = 1;
    EQUAL(counted(smaps, middle, "Rss"), 4);
    EQUAL(counted(smaps, middle, "Anonymous"), 4);
    EQUAL(counted(smaps, middle, "Private_Dirty"), 4);
    EQUAL(counted(smaps, middle, "Shared_Dirty"), 0);
    EQUAL(counted(smaps, middle, "Swap"), 0);
    EQUAL(counted(smaps, (unsigned long)a, "Rss"), 0);
    CHECK(counted(smaps, (unsigned long)test_smaps, "Rss") > 0);
    EQUAL(counted(smaps, (unsigned long)test_smaps, "Anonymous"), 0);
    char *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared[0] = 1;
    EQUAL(counted(smaps, (unsigned long)shared, "Rss"), 4);
    EQUAL(counted(smaps, (unsigned long)shared, "Anonymous"), 0);
    long rss = counted("/proc/self/smaps_rollup", middle, "Rss"), before = resident_pages();
    CHECK(rss > 0);
    char *more = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(more, 1, 1 << 20);
    CHECK(counted("/proc/self/smaps_rollup", middle, "Rss") >= rss + 1024);
    CHECK(resident_pages() >= before + 256);
    pid_t child = fork();
    if (!child) {
        if (counted(smaps, middle, "Shared_Dirty") != 4 || counted(smaps, middle, "Private_Dirty"))
            _exit(2);
        a[4096] = 2; /* its own page now */
        _exit(counted(smaps, middle, "Shared_Dirty") == 0 && counted(smaps, middle, "Private_Dirty") == 4 ? 0 : 1);
    }
    int status = 1;
    EQUAL(waitpid(child, &status, 0), child);
    EQUAL(status, 0);
    munmap(more, 1 << 20);
    munmap(shared, 8192);
    munmap(a, 3 * 4096);
}

int main(void) {
    test_smaps();
    return finish("smaps");
}
