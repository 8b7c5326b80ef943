/* What a process has used (getrusage, times), and how many there are (sysinfo). */
#include "check.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>

static long long cpu_us(const struct rusage *used) {
    return (used->ru_utime.tv_sec + used->ru_stime.tv_sec) * 1000000LL + used->ru_utime.tv_usec + used->ru_stime.tv_usec;
}

static void test_usage(void) {
    struct rusage before, after;
    FAILS(getrusage(7, &before), EINVAL);
    FAILS(syscall(SYS_getrusage, RUSAGE_SELF, (void *)8), EFAULT);
    EQUAL(getrusage(RUSAGE_SELF, &before), 0);
    CHECK(before.ru_maxrss > 0 && before.ru_minflt > 0);
    EQUAL(before.ru_ixrss + before.ru_idrss + before.ru_isrss + before.ru_nswap + before.ru_msgsnd, 0);
    struct timespec moment = {0, 2000000};
    for (int i = 0; i < 5; i++)
        nanosleep(&moment, NULL);
    size_t size = 512 * 4096;
    char *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(pages, size, MADV_NOHUGEPAGE);
    memset(pages, 1, size);
    do
        getrusage(RUSAGE_SELF, &after);
    while (cpu_us(&after) < cpu_us(&before) + 20000);
    CHECK(after.ru_nvcsw >= before.ru_nvcsw + 5);
    CHECK(after.ru_minflt >= before.ru_minflt + 400);
    CHECK(after.ru_maxrss >= before.ru_maxrss);
    CHECK(after.ru_utime.tv_usec < 1000000 && after.ru_stime.tv_usec < 1000000);
    EQUAL(getrusage(RUSAGE_THREAD, &after), 0);
    CHECK(cpu_us(&after) > 0 && after.ru_maxrss > 0);
    struct tms ticks;
    CHECK(times(&ticks) != (clock_t)-1 && ticks.tms_utime + ticks.tms_stime > 0);
    EQUAL(getrusage(RUSAGE_CHILDREN, &after), 0);
    EQUAL(cpu_us(&after), 0);
}

static void test_machine(void) {
    struct sysinfo before, after;
    EQUAL(sysinfo(&before), 0);
    CHECK(before.totalram > 0 && before.freeram <= before.totalram && before.mem_unit > 0 && before.uptime > 0);
    CHECK(before.procs >= 1);
    int pair[2], status;
    EQUAL(pipe(pair), 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(pair[1]);
        _exit((int)read(pair[0], &byte, 1));
    }
    EQUAL(sysinfo(&after), 0);
    CHECK(after.procs >= 2);
    close(pair[1]);
    EQUAL(waitpid(child, &status, 0), child);
    EQUAL(status, 0);
}

int main(void) {
    test_usage();
    test_machine();
    return finish("usage");
}
