/* Calls on memory and the process that C libraries seldom make, each by its number, and what each changes. */
#include "check.h"
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <time.h>

#define PAGE 4096UL

static void test_pages(void) {
    char *a = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char resident[4] = {0};
    CHECK(a != MAP_FAILED);
    a[2 * PAGE] = 1;
    EQUAL(syscall(SYS_mincore, a + PAGE, 2 * PAGE, resident), 0);
    EQUAL(resident[0] & 1, 0); /* nobody has touched it */
    EQUAL(resident[1] & 1, 1);
    memset(a, 1, 4 * PAGE);
    EQUAL(syscall(SYS_mincore, a, 4 * PAGE, resident), 0);
    EQUAL(resident[0] & resident[1] & resident[2] & resident[3] & 1, 1);
    FAILS(syscall(SYS_mincore, a, 4 * PAGE, NULL), EFAULT);
    EQUAL(madvise(a, PAGE, MADV_DONTNEED), 0);
    EQUAL(syscall(SYS_mincore, a, PAGE, resident), 0);
    EQUAL(resident[0] & 1, 0);
    a[0] = 1;
    EQUAL(syscall(SYS_mlock, a, 2 * PAGE), 0);
    EQUAL(syscall(SYS_munlock, a, 2 * PAGE), 0);
    EQUAL(syscall(SYS_msync, a, 4 * PAGE, MS_SYNC), 0);
    EQUAL(a[0] + a[4 * PAGE - 1], 2); /* nothing of it touches the contents */
    FAILS(syscall(SYS_msync, a, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
    FAILS(syscall(SYS_msync, a + 1, PAGE, MS_SYNC), EINVAL);
    FAILS(syscall(SYS_mincore, a + 1, PAGE, resident), EINVAL);
    munmap(a + PAGE, PAGE);
    FAILS(syscall(SYS_mincore, a, 4 * PAGE, resident), ENOMEM);
    FAILS(syscall(SYS_mlock, a, 4 * PAGE), ENOMEM);
    FAILS(syscall(SYS_munlock, a, 4 * PAGE), ENOMEM);
    FAILS(syscall(SYS_msync, a, 4 * PAGE, MS_ASYNC), ENOMEM);
    munmap(a, 4 * PAGE);
}

static void test_limits(void) {
    struct rlimit limit, again;
    EQUAL(syscall(SYS_getrlimit, RLIMIT_NOFILE, &limit), 0);
    struct rlimit lower = {17, limit.rlim_max};
    EQUAL(syscall(SYS_setrlimit, RLIMIT_NOFILE, &lower), 0);
    EQUAL(syscall(SYS_getrlimit, RLIMIT_NOFILE, &again), 0);
    EQUAL(again.rlim_cur, 17);
    EQUAL(again.rlim_max, limit.rlim_max);
    FAILS(dup2(0, 17), EBADF); /* the limit is the table's end */
    EQUAL(dup2(0, 16), 16);
    close(16);
    lower = (struct rlimit){2, 1};
    FAILS(syscall(SYS_setrlimit, RLIMIT_NOFILE, &lower), EINVAL);
    FAILS(syscall(SYS_getrlimit, 99, &limit), EINVAL);
    EQUAL(syscall(SYS_setrlimit, RLIMIT_NOFILE, &limit), 0);
}

static void test_questions(void) {
    unsigned cpu = 99999, node = 99999;
    EQUAL(syscall(SYS_getcpu, &cpu, &node, NULL), 0);
    CHECK(cpu < 4096 && node < 1024);
    cpu = 99999;
    EQUAL(syscall(SYS_getcpu, NULL, NULL, NULL), 0);
    EQUAL(cpu, 99999);
#ifdef SYS_time
    long now = 0, returned = syscall(SYS_time, &now);
    EQUAL(now, returned);
    struct timespec precise;
    EQUAL(clock_gettime(CLOCK_REALTIME, &precise), 0);
    CHECK(precise.tv_sec - now >= 0 && precise.tv_sec - now < 60);
    CHECK(syscall(SYS_time, NULL) >= now);
#endif
#ifdef SYS_getpgrp
    EQUAL(syscall(SYS_getpgrp), getpgid(0));
#endif
    struct tms used = {-1, -1, -1, -1};
    CHECK(syscall(SYS_times, &used) > 0);
    CHECK(used.tms_utime >= 0 && used.tms_stime >= 0);
    EQUAL(used.tms_cutime, 0);
}

/* A signal that is blocked stays pending; one that is ignored is gone. */
static void test_pending(void) {
    unsigned long block = 1UL << (SIGUSR1 - 1) | 1UL << (SIGUSR2 - 1) | 1UL << (SIGTERM - 1), none = 0, pending = 1;
    pid_t self = getpid();
    EQUAL(syscall(SYS_rt_sigpending, &pending, 8), 0);
    EQUAL(pending, 0);
    EQUAL(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &block, NULL, 8), 0);
    EQUAL(syscall(SYS_kill, self, 0), 0);
    EQUAL(syscall(SYS_rt_sigpending, &pending, 8), 0);
    EQUAL(pending, 0);
    EQUAL(syscall(SYS_kill, self, SIGUSR1), 0);
    EQUAL(syscall(SYS_rt_sigpending, &pending, 8), 0);
    EQUAL(pending, 1UL << (SIGUSR1 - 1));
    EQUAL(syscall(SYS_tkill, self, SIGUSR2), 0);
    EQUAL(syscall(SYS_tgkill, self, self, SIGTERM), 0);
    EQUAL(syscall(SYS_rt_sigpending, &pending, 8), 0);
    EQUAL(pending, block);
    signal(SIGUSR1, SIG_IGN);
    EQUAL(syscall(SYS_rt_sigpending, &pending, 8), 0);
    EQUAL(pending, block & ~(1UL << (SIGUSR1 - 1)));
    signal(SIGUSR2, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    EQUAL(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8), 0);
    EQUAL(syscall(SYS_tkill, self, SIGUSR2), 0);
    EQUAL(syscall(SYS_rt_sigpending, &pending, 8), 0);
    EQUAL(pending, 0);
    FAILS(syscall(SYS_kill, self, 65), EINVAL);
    FAILS(syscall(SYS_tkill, 0, SIGUSR1), EINVAL);
    FAILS(syscall(SYS_tgkill, self, self, -1), EINVAL);
    FAILS(syscall(SYS_tgkill, 0x3fffffff, self, 0), ESRCH);
    FAILS(syscall(SYS_rt_sigpending, &pending, 16), EINVAL);
}

static void test_stack(void) {
    static char room[1 << 16];
    stack_t given, before, off;
    memset(&given, 0, sizeof given);
    EQUAL(syscall(SYS_sigaltstack, NULL, &before), 0);
    EQUAL(before.ss_flags, SS_DISABLE);
    given.ss_sp = room;
    given.ss_size = sizeof room;
    EQUAL(syscall(SYS_sigaltstack, &given, NULL), 0);
    EQUAL(syscall(SYS_sigaltstack, NULL, &before), 0);
    EQUAL(before.ss_sp == room && before.ss_size == sizeof room && before.ss_flags == 0, 1);
    given.ss_size = 16;
    FAILS(syscall(SYS_sigaltstack, &given, NULL), ENOMEM);
    given.ss_flags = 0x100;
    FAILS(syscall(SYS_sigaltstack, &given, NULL), EINVAL);
    memset(&off, 0, sizeof off);
    off.ss_flags = SS_DISABLE;
    EQUAL(syscall(SYS_sigaltstack, &off, &before), 0);
    EQUAL(before.ss_size, sizeof room);
    EQUAL(syscall(SYS_sigaltstack, NULL, &before), 0);
    EQUAL(before.ss_flags, SS_DISABLE);
}

int main(void) {
    test_pages();
    test_limits();
    test_questions();
    test_pending();
    test_stack();
    int status = finish("rows_process");
    fflush(stdout);
    syscall(SYS_exit, status); /* of the only thread: the end of the process */
    return 1;
}
