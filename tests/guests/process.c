/* Who the process is: ids, groups, limits, names; and that nothing of it changes by being asked. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static void test_ids(void) {
    pid_t pid = getpid();
    CHECK(pid > 0);
    EQUAL(syscall(SYS_gettid), pid);
    CHECK(getppid() >= 0 && getppid() != pid);
    CHECK(getpgid(0) >= 0 && getsid(0) >= 0);
    EQUAL(getpgid(0), getpgid(pid));
    FAILS(getpgid(-1), ESRCH);
    uid_t r, e, s;
    EQUAL(getresuid(&r, &e, &s), 0);
    EQUAL(r == getuid() && e == geteuid() && s == geteuid(), 1);
    gid_t rg, eg, sg;
    EQUAL(getresgid(&rg, &eg, &sg), 0);
    EQUAL(rg == getgid() && eg == getegid() && sg == getegid(), 1);
    gid_t groups[65];
    int count = getgroups(0, NULL);
    CHECK(count >= 0 && count <= 64);
    EQUAL(getgroups(65, groups), count);
    CHECK(count < 2 || (getgroups(1, groups) == -1 && errno == EINVAL));
    FAILS(getgroups(-1, groups), EINVAL);
    CHECK(syscall(SYS_set_tid_address, &pid) == getpid());
}

/* Ids a process has already may be set: no C library between, which would tell other threads. */
static void test_set_ids(void) {
    long u = getuid(), g = getgid(), none = -1;
    EQUAL(syscall(SYS_setuid, u), 0);
    EQUAL(syscall(SYS_setgid, g), 0);
    EQUAL(syscall(SYS_setreuid, u, none), 0);
    EQUAL(syscall(SYS_setregid, none, g), 0);
    EQUAL(syscall(SYS_setresuid, none, u, none), 0);
    EQUAL(syscall(SYS_setresgid, g, none, none), 0);
    EQUAL(syscall(SYS_setresuid, none, none, none), 0);
    FAILS(syscall(SYS_setuid, none), EINVAL);
    FAILS(syscall(SYS_setgid, none), EINVAL);
    EQUAL(syscall(SYS_setfsuid, none), u);
    EQUAL(syscall(SYS_setfsuid, u), u);
    EQUAL(syscall(SYS_setfsgid, none), g);
    EQUAL(syscall(SYS_setfsgid, g), g);
    gid_t groups[65];
    int count = getgroups(65, groups);
    if (u == 0) {
        EQUAL(syscall(SYS_setgroups, count, groups), 0);
        FAILS(syscall(SYS_setgroups, 65537, groups), EINVAL);
        FAILS(syscall(SYS_setgroups, -1, groups), EINVAL);
        FAILS(syscall(SYS_setgroups, 1, (void *)8), EFAULT);
    } else {
        FAILS(syscall(SYS_setuid, u + 1), EPERM);
        FAILS(syscall(SYS_setresgid, none, g + 1, none), EPERM);
        FAILS(syscall(SYS_setgroups, count, groups), EPERM);
    }
    EQUAL(getuid() == u && geteuid() == u && getgid() == g && getegid() == g, 1);
    EQUAL(getgroups(65, groups), count);
}

static void test_limits(void) {
    struct rlimit limit, again;
    EQUAL(prlimit(0, RLIMIT_NOFILE, NULL, &limit), 0);
    CHECK(limit.rlim_cur >= 16 && limit.rlim_cur <= limit.rlim_max);
    struct rlimit lower = {16, limit.rlim_max};
    EQUAL(prlimit(0, RLIMIT_NOFILE, &lower, &again), 0);
    EQUAL(again.rlim_cur, limit.rlim_cur);
    EQUAL(getrlimit(RLIMIT_NOFILE, &again), 0);
    EQUAL(again.rlim_cur, 16);
    EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    lower = (struct rlimit){20, 10};
    FAILS(setrlimit(RLIMIT_NOFILE, &lower), EINVAL);
    FAILS(prlimit(0, 99, NULL, &again), EINVAL);
    FAILS(prlimit(-5, RLIMIT_NOFILE, NULL, &again), ESRCH);
    FAILS(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, (void *)8, NULL), EFAULT);
    EQUAL(getrlimit(RLIMIT_STACK, &limit), 0);
    struct rusage usage;
    EQUAL(getrusage(RUSAGE_SELF, &usage), 0);
    CHECK(usage.ru_utime.tv_sec >= 0 && usage.ru_maxrss > 0);
    FAILS(getrusage(99, &usage), EINVAL);
    errno = 0;
    CHECK(getpriority(PRIO_PROCESS, 0) >= -20 && errno == 0);
}

static void *other_thread(void *found) {
    EQUAL(sched_getaffinity(0, sizeof(cpu_set_t), found), 0);
    return NULL;
}

/* The last of the processors of `all` alone; in threads, too. */
static void one_processor(cpu_set_t all) {
    int last = CPU_SETSIZE - 1;
    while (!CPU_ISSET(last, &all))
        last--;
    cpu_set_t one, seen;
    CPU_ZERO(&one);
    FAILS(sched_setaffinity(0, sizeof one, &one), EINVAL);
    FAILS(sched_setaffinity(0, 0, &one), EINVAL);
    FAILS(syscall(SYS_sched_setaffinity, 0, sizeof one, (void *)8), EFAULT);
    CPU_SET(last, &one);
    EQUAL(sched_setaffinity(getpid(), sizeof one, &one), 0);
    EQUAL(sched_getaffinity(0, sizeof seen, &seen), 0);
    CHECK(CPU_EQUAL(&one, &seen));
    unsigned cpu = 99999;
    EQUAL(syscall(SYS_getcpu, &cpu, NULL, NULL), 0);
    EQUAL(cpu, last);
    CPU_ZERO(&seen);
    pthread_t thread;
    EQUAL(pthread_create(&thread, NULL, other_thread, &seen), 0);
    EQUAL(pthread_join(thread, NULL), 0);
    CHECK(CPU_EQUAL(&one, &seen));
    EQUAL(sched_setaffinity(0, sizeof all, &all), 0);
    EQUAL(sched_getaffinity(0, sizeof seen, &seen), 0);
    CHECK(CPU_EQUAL(&all, &seen));
}

static void test_system(void) {
    struct utsname name;
    EQUAL(uname(&name), 0);
    EQUAL(strcmp(name.sysname, "Linux"), 0);
    CHECK(atoi(name.release) >= 4);
#ifdef __x86_64__
    EQUAL(strcmp(name.machine, "x86_64"), 0);
#else
    EQUAL(strcmp(name.machine, "aarch64"), 0);
#endif
    FAILS(syscall(SYS_uname, (void *)8), EFAULT);
    struct sysinfo info;
    EQUAL(sysinfo(&info), 0);
    CHECK(info.totalram > 0 && info.freeram <= info.totalram && info.mem_unit >= 1 && info.procs >= 1);
    CHECK(info.uptime > 0);
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= 1);
    FAILS(syscall(SYS_sched_getaffinity, 0, 1, &set), EINVAL);
    one_processor(set);
    EQUAL(sched_yield(), 0);
    char text[16] = "";
    EQUAL(prctl(PR_SET_NAME, "a-very-long-process-name"), 0);
    EQUAL(prctl(PR_GET_NAME, text), 0);
    EQUAL(strcmp(text, "a-very-long-pro"), 0);
    FAILS(prctl(123456), EINVAL);
    EQUAL(umask(0), 022);
    EQUAL(umask(01777), 0);
    EQUAL(umask(022), 0777);
}

static void test_random(void) {
    unsigned char a[64] = {0}, b[64] = {0};
    EQUAL(syscall(SYS_getrandom, a, sizeof a, 0), sizeof a);
    EQUAL(syscall(SYS_getrandom, b, sizeof b, 1), sizeof b);
    CHECK(memcmp(a, b, sizeof a) != 0);
    EQUAL(syscall(SYS_getrandom, a, 0, 0), 0);
    FAILS(syscall(SYS_getrandom, a, 1, 64), EINVAL);
    FAILS(syscall(SYS_getrandom, (void *)8, 1, 0), EFAULT);
    static unsigned char large[100000];
    EQUAL(syscall(SYS_getrandom, large, sizeof large, 0), sizeof large);
    int histogram[256] = {0}, low = 0;
    for (size_t i = 0; i < sizeof large; i++)
        histogram[large[i]]++;
    for (int i = 0; i < 256; i++)
        low += histogram[i] < 250;
    EQUAL(low, 0);
}

static void test_signal_state(void) {
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_IGN;
    EQUAL(sigaction(SIGUSR1, &action, &old), 0);
    EQUAL(old.sa_handler == SIG_DFL, 1);
    EQUAL(sigaction(SIGUSR1, NULL, &old), 0);
    EQUAL(old.sa_handler == SIG_IGN, 1);
    FAILS(syscall(SYS_rt_sigaction, SIGKILL, &action, NULL, 8), EINVAL);
    FAILS(syscall(SYS_rt_sigaction, 65, NULL, &old, 8), EINVAL);
    FAILS(syscall(SYS_rt_sigaction, SIGUSR1, NULL, &old, 4), EINVAL);
    unsigned long mask = 1UL << (SIGUSR2 - 1) | 1UL << (SIGKILL - 1), before;
    EQUAL(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &mask, &before, 8), 0);
    EQUAL(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, &mask, 8), 0);
    EQUAL(mask, before | 1UL << (SIGUSR2 - 1)); /* SIGKILL cannot be blocked */
    FAILS(syscall(SYS_rt_sigprocmask, 99, &mask, NULL, 8), EINVAL);
    FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &mask, NULL, 4), EINVAL);
}

int main(void) {
    test_ids();
    test_set_ids();
    test_limits();
    test_system();
    test_random();
    test_signal_state();
    return finish("process");
}
