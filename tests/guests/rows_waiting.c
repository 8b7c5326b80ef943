/* Calls that wait, wake and signal, and that C libraries seldom make or make by another number; each by its own. */
#include "check.h"
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <time.h>

#define USR1 (1UL << (SIGUSR1 - 1))

static void test_epoll(void) {
    int ends[2], epoll;
    struct epoll_event asked = {EPOLLIN, {.u64 = 0x123456789abcdef0UL}}, told[2] = {0};
    struct timespec soon = {0, 1000000}, bad = {0, 1000000000};
    unsigned long none = 0;
    EQUAL(pipe2(ends, O_CLOEXEC), 0);
#ifdef SYS_epoll_create
    FAILS(syscall(SYS_epoll_create, 0), EINVAL);
    epoll = (int)syscall(SYS_epoll_create, 1);
    EQUAL(fcntl(epoll, F_GETFD), 0); /* it cannot ask for FD_CLOEXEC */
#else
    epoll = (int)syscall(SYS_epoll_create1, 0);
#endif
    EQUAL(syscall(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, ends[0], &asked), 0);
    EQUAL(syscall(SYS_epoll_pwait2, epoll, told, 2, &soon, NULL, 8), 0);
    FAILS(syscall(SYS_epoll_pwait2, epoll, told, 2, &bad, NULL, 8), EINVAL);
    FAILS(syscall(SYS_epoll_pwait2, epoll, told, 0, &soon, NULL, 8), EINVAL);
    FAILS(syscall(SYS_epoll_pwait2, epoll, told, 2, &soon, &none, 4), EINVAL);
    EQUAL(write(ends[1], "x", 1), 1);
    EQUAL(syscall(SYS_epoll_pwait2, epoll, told, 2, NULL, &none, 8), 1);
    EQUAL(told[0].events, EPOLLIN);
    EQUAL(told[0].data.u64, 0x123456789abcdef0L);
#ifdef SYS_epoll_wait
    told[0].data.u64 = 0;
    EQUAL(syscall(SYS_epoll_wait, epoll, told, 2, -1), 1);
    EQUAL(told[0].data.u64, 0x123456789abcdef0L);
    FAILS(syscall(SYS_epoll_wait, ends[0], told, 2, -1), EINVAL);
#endif
    close(epoll);
    close(ends[0]);
    close(ends[1]);
}

/* The first generation of calls, without flags. */
static void test_event_fds(void) {
#ifdef SYS_eventfd
    unsigned long count = 0;
    int event = (int)syscall(SYS_eventfd, 3);
    EQUAL(fcntl(event, F_GETFD), 0);
    EQUAL(read(event, &count, 8), 8);
    EQUAL(count, 3);
    close(event);
#endif
#ifdef SYS_signalfd
    unsigned long block = USR1, before = 0;
    struct signalfd_siginfo info;
    EQUAL(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &block, &before, 8), 0);
    int signals = (int)syscall(SYS_signalfd, -1, &block, 8);
    EQUAL(fcntl(signals, F_GETFD), 0);
    EQUAL(kill(getpid(), SIGUSR1), 0);
    EQUAL(read(signals, &info, sizeof info), sizeof info);
    EQUAL(info.ssi_signo, SIGUSR1);
    EQUAL(info.ssi_pid, getpid());
    FAILS(syscall(SYS_signalfd, -1, &block, 4), EINVAL);
    FAILS(syscall(SYS_signalfd, 0, &block, 8), EINVAL);
    EQUAL(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, 8), 0);
    close(signals);
#endif
}

#ifdef SYS_alarm
static volatile sig_atomic_t caught;

static void catch(int number) { caught = number; }

static void test_alarm(void) {
    signal(SIGALRM, catch);
    EQUAL(syscall(SYS_alarm, 100), 0);
    long left = syscall(SYS_alarm, 1);
    CHECK(left == 100 || left == 99);
    caught = 0;
    FAILS(pause(), EINTR);
    EQUAL(caught, SIGALRM);
    EQUAL(syscall(SYS_alarm, 0), 0); /* it has gone off */
}
#endif

/* A signal with a value, to one thread. */
static void test_queued(void) {
    unsigned long block = USR1, before = 0;
    siginfo_t sent, got;
    pid_t self = getpid();
    memset(&sent, 0, sizeof sent);
    sent.si_code = SI_QUEUE;
    sent.si_pid = self;
    sent.si_uid = getuid();
    sent.si_value.sival_int = 77;
    EQUAL(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &block, &before, 8), 0);
    EQUAL(syscall(SYS_rt_tgsigqueueinfo, self, self, SIGUSR1, &sent), 0);
    memset(&got, 0, sizeof got);
    EQUAL(syscall(SYS_rt_sigtimedwait, &block, &got, NULL, 8), SIGUSR1);
    EQUAL(got.si_code, SI_QUEUE);
    EQUAL(got.si_pid, self);
    EQUAL(got.si_value.sival_int, 77);
    FAILS(syscall(SYS_rt_tgsigqueueinfo, self, 0x3fffffff, SIGUSR1, &sent), ESRCH);
    FAILS(syscall(SYS_rt_tgsigqueueinfo, self, 0, SIGUSR1, &sent), EINVAL);
    FAILS(syscall(SYS_rt_tgsigqueueinfo, self, self, 65, &sent), EINVAL);
    EQUAL(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, 8), 0);
}

static void test_robust_list(void) {
    struct {
        void *next;
        long offset;
        void *pending;
    } head = {&head, 0, NULL};
    void *found = NULL;
    unsigned long length = 0;
    EQUAL(syscall(SYS_set_robust_list, &head, sizeof head), 0);
    EQUAL(syscall(SYS_get_robust_list, 0, &found, &length), 0);
    CHECK(found == &head);
    EQUAL(length, sizeof head);
    FAILS(syscall(SYS_set_robust_list, &head, 8), EINVAL);
    FAILS(syscall(SYS_get_robust_list, 0x3fffffff, &found, &length), ESRCH);
    EQUAL(syscall(SYS_set_robust_list, NULL, sizeof head), 0);
}

static void test_memory_file(void) {
    char text[8] = {0};
    int file = (int)syscall(SYS_memfd_create, "named", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    EQUAL(write(file, "memory", 6), 6);
    char *mapped = mmap(NULL, 6, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(mapped != MAP_FAILED);
    memcpy(mapped, "MEM", 3);
    EQUAL(pread(file, text, 8, 0), 6);
    CHECK(!strcmp(text, "MEMory"));
    EQUAL(fcntl(file, F_GET_SEALS), 0);
    FAILS(syscall(SYS_memfd_create, "named", 0x8000), EINVAL);
    munmap(mapped, 6);
    close(file);
}

/* The program itself once more, by a descriptor and no path. */
static void run_again(int status) {
    char *arguments[] = {"again", status ? "1" : "0", NULL}, *environment[] = {NULL};
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CHECK(self >= 0);
    FAILS(syscall(SYS_execveat, self, "", arguments, environment, 0), ENOENT);
    FAILS(syscall(SYS_execveat, 99, "", arguments, environment, AT_EMPTY_PATH), EBADF);
    FAILS(syscall(SYS_execveat, self, "name", arguments, environment, 0), ENOTDIR);
    fflush(stdout);
    syscall(SYS_execveat, self, "", arguments, environment, AT_EMPTY_PATH);
    FAILS(-1, 0); /* it came back */
}

int main(int argc, char **argv) {
    if (argc == 2) {
        CHECK(!strcmp(argv[0], "again"));
        EQUAL(argv[1][0], '0');
        return finish("rows_waiting");
    }
    test_epoll();
    test_event_fds();
#ifdef SYS_alarm
    test_alarm();
#endif
    test_queued();
    test_robust_list();
    test_memory_file();
    run_again(failures);
    return finish("rows_waiting");
}
