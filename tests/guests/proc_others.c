/* /proc as it shows other processes, threads and the machine. */
#include "children.h"
#include <dirent.h>
#include <pthread.h>

static const char *of(pid_t pid, const char *name) {
    static char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return path;
}

static int is_listed(const char *directory, pid_t pid) {
    char name[16];
    snprintf(name, sizeof name, "%d", pid);
    DIR *dir = opendir(directory);
    struct dirent *entry;
    int found = 0;
    while ((entry = readdir(dir)))
        found += !strcmp(entry->d_name, name) && entry->d_type == DT_DIR;
    closedir(dir);
    return found;
}

/* Fields of /proc/PID/stat: state, parent, group, session. */
static char stat_of(pid_t pid, int *parent, int *group, int *session) {
    char text[4096], state = 0;
    strcpy(text, get(of(pid, "stat")));
    EQUAL(atoi(text), pid);
    char *end = strrchr(text, ')');
    CHECK(end && sscanf(end + 1, " %c %d %d %d", &state, parent, group, session) == 4);
    return state;
}

static int waits(void) {
    setpgid(0, 0);
    pause();
    return 0;
}

static void test_other(void) {
    char own[4096], exe[4096], other[4096];
    int parent = 0, group = 0, session = 0;
    pid_t pid = start(waits);
    setpgid(pid, pid);
    EQUAL(is_listed("/proc", pid), 1);
    EQUAL(is_listed("/proc", getpid()), 1);
    strcpy(own, get("/proc/self/comm"));
    CHECK(own[0] && !strcmp(own, get(of(pid, "comm"))));
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe);
    CHECK(length > 0 && readlink(of(pid, "exe"), other, sizeof other) == length && !memcmp(exe, other, length));
    strcpy(own, get("/proc/self/cmdline"));
    CHECK(own[0] && !strcmp(own, get(of(pid, "cmdline"))));
    stat_of(pid, &parent, &group, &session);
    CHECK(parent == getpid() && group == pid && session == getsid(0));
    stat_of(getpid(), &parent, &group, &session);
    CHECK(parent == getppid() && group == getpgrp() && session == getsid(0));
    char line[64];
    snprintf(line, sizeof line, "\nPid:\t%d\nPPid:\t%d\n", pid, getpid());
    CHECK(strstr(get(of(pid, "status")), line));
    FAILS(open(of(pid, "nothing"), O_RDONLY), ENOENT);
    EQUAL(kill(pid, SIGKILL), 0);
    siginfo_t info;
    EQUAL(waitid(P_PID, pid, &info, WEXITED | WNOWAIT), 0);
    EQUAL(stat_of(pid, &parent, &group, &session), 'Z');
    EQUAL(strlen(get(of(pid, "cmdline"))), 0);
    EQUAL(is_listed("/proc", pid), 1);
    EQUAL(ended(pid), 128 + SIGKILL);
    EQUAL(is_listed("/proc", pid), 0);
    FAILS(open(of(pid, "stat"), O_RDONLY), ENOENT);
    struct stat status;
    FAILS(stat("/proc/0", &status), ENOENT);
    FAILS(stat("/proc/01", &status), ENOENT);
    FAILS(stat("/proc/1x", &status), ENOENT);
    EQUAL(stat("/proc/1", &status), 0);
}

static void *ends(void *gate) {
    pthread_mutex_lock(gate);
    return NULL;
}

static void test_threads(void) {
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&gate);
    pthread_t thread;
    EQUAL(pthread_create(&thread, NULL, ends, &gate), 0);
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;
    int count = 0;
    while ((entry = readdir(dir)))
        count += entry->d_name[0] != '.';
    closedir(dir);
    EQUAL(count, 2);
    EQUAL(is_listed("/proc/self/task", getpid()), 1);
    CHECK(strstr(get("/proc/self/status"), "\nThreads:\t2\n"));
    pthread_mutex_unlock(&gate);
    pthread_join(thread, NULL);
}

static void test_machine(void) {
    int running = 0, all = 0, last = 0;
    EQUAL(sscanf(get("/proc/loadavg"), "%*f %*f %*f %d/%d %d", &running, &all, &last), 3);
    CHECK(running >= 1 && all >= running && last >= getpid());
    CHECK(!strncmp(get("/proc/stat"), "cpu  ", 5));
    CHECK(strstr(get("/proc/meminfo"), "MemAvailable:"));
    double up = 0;
    CHECK(sscanf(get("/proc/uptime"), "%lf", &up) == 1 && up > 0);
    CHECK(!strncmp(get("/proc/cpuinfo"), "processor\t: 0\n", 14));
}

int main(void) {
    limit(60);
    test_other();
    test_threads();
    test_machine();
    return finish("proc_others");
}
