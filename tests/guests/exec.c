/* execve: what the new program gets, what stays, what is reset, what is refused; from a thread, too. */
#include "children.h"
#include <pthread.h>

static char self[200];

static int becomes(char *const argv[], char *const envp[]) {
    pid_t pid = fork();
    if (pid == 0) {
        execve(argv[0], argv, envp);
        _exit(100 + errno);
    }
    return ended(pid);
}

#define BECOMES(...) becomes((char *[]){__VA_ARGS__, NULL}, (char *[]){"A=1", "B=two words", NULL})

static void test_arguments(void) {
    EQUAL(BECOMES(self, "arguments", "", "x y"), 0);
    static char *many[3003];
    many[0] = self;
    many[1] = "count";
    for (int n = 2; n < 3002; n++)
        many[n] = "argument";
    EQUAL(becomes(many, (char *[]){NULL}), 3002 & 255);
}

static void test_refused(void) {
    put("plain", "text\n");
    put("unexecutable", "#!/bin/sh\n");
    put("script", "#!/missing/interpreter\n");
    put("empty", "");
    put("broken", "\177ELF nothing more");
    for (int n = 0; n < 4; n++)
        EQUAL(chmod((char *[]){"plain", "script", "empty", "broken"}[n], 0755), 0);
    EQUAL(symlink("loop", "loop"), 0);
    EQUAL(BECOMES("missing"), 100 + ENOENT);
    EQUAL(BECOMES("unexecutable"), 100 + EACCES);
    EQUAL(BECOMES("script"), 100 + ENOENT);
    EQUAL(BECOMES("plain"), 100 + ENOEXEC);
    EQUAL(BECOMES("empty"), 100 + ENOEXEC);
    EQUAL(BECOMES("broken"), 100 + ENOEXEC);
    EQUAL(BECOMES("/"), 100 + EACCES);
    EQUAL(BECOMES("plain/x"), 100 + ENOTDIR);
    EQUAL(BECOMES("loop"), 100 + ELOOP);
    FAILS(execve((void *)8, NULL, NULL), EFAULT);
    FAILS(execve(self, (void *)8, NULL), EFAULT);
    static char huge[200 << 10];
    memset(huge, 'x', sizeof huge - 1);
    EQUAL(BECOMES(self, huge), 100 + E2BIG);
    char *names[] = {"plain", "unexecutable", "script", "empty", "broken", "loop"};
    for (int n = 0; n < 6; n++)
        EQUAL(unlink(names[n]), 0);
}

static void test_scripts(void) {
    char text[300];
    snprintf(text, sizeof text, "#! %s  script \nrest is ignored\n", self);
    put("script", text);
    EQUAL(chmod("script", 0755), 0);
    EQUAL(BECOMES("./script", "last"), 0);
    put("nested", "#!./script\n");
    EQUAL(chmod("nested", 0755), 0);
    EQUAL(BECOMES("./nested", "last"), 33); /* interpreters of interpreters */
    EQUAL(unlink("script"), 0);
    EQUAL(unlink("nested"), 0);
}

static void handler(int number) { (void)number; }

/* Descriptors but those marked, ignored signals, mask and pending signals stay; handlers go. */
static void test_what_stays(void) {
    pid_t pid = fork();
    if (pid == 0) {
        int kept = open("/dev/null", O_RDONLY), closed = open("/dev/null", O_RDONLY | O_CLOEXEC);
        dup2(kept, 10);
        dup2(closed, 11);
        dup3(closed, 12, O_CLOEXEC);
        fcntl(closed, F_DUPFD_CLOEXEC, 13);
        signal(SIGUSR1, handler);
        signal(SIGUSR2, SIG_IGN);
        sigset_t mask;
        sigemptyset(&mask);
        sigaddset(&mask, SIGHUP);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        raise(SIGHUP);
        umask(0);
        char before[20];
        snprintf(before, sizeof before, "%d", getpid());
        execl(self, self, "stays", before, NULL);
        _exit(99);
    }
    EQUAL(ended(pid), 0);
}

static void *in_thread(void *path) {
    execl(path, path, "thread", NULL);
    return NULL;
}

static void *waits(void *none) {
    for (;;)
        pause();
    return none;
}

/* The other threads end; the program goes on under the process's id. */
static void test_from_a_thread(void) {
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t one, two;
        char number[20];
        snprintf(number, sizeof number, "%d", getpid());
        setenv("PID", number, 1);
        pthread_create(&one, NULL, waits, NULL);
        pthread_create(&two, NULL, in_thread, self);
        waits(NULL);
    }
    EQUAL(ended(pid), 0);
}

static int as_child(int argc, char **argv, char **envp) {
    if (!strcmp(argv[1], "arguments"))
        return argc != 4 || *argv[2] || strcmp(argv[3], "x y") || strcmp(envp[0], "A=1") || envp[2];
    if (!strcmp(argv[1], "count"))
        return argc & 255;
    if (!strcmp(argv[1], "script"))
        return !strcmp(argv[2], "./script") && !strcmp(argv[argc - 1], "last") ? (argc == 4 ? 0 : 33) : 1;
    if (!strcmp(argv[1], "thread"))
        return getpid() != atoi(getenv("PID")) || syscall(SYS_gettid) != getpid();
    struct sigaction one, two;
    sigset_t mask, pending;
    sigaction(SIGUSR1, NULL, &one);
    sigaction(SIGUSR2, NULL, &two);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    sigpending(&pending);
    CHECK(one.sa_handler == SIG_DFL && two.sa_handler == SIG_IGN);
    CHECK(sigismember(&mask, SIGHUP) && sigismember(&pending, SIGHUP));
    EQUAL(getpid(), atoi(argv[2]));
    EQUAL(fcntl(10, F_GETFD), 0);
    EQUAL(fcntl(11, F_GETFD), 0); /* dup2 does not copy the mark */
    FAILS(fcntl(12, F_GETFD), EBADF);
    FAILS(fcntl(13, F_GETFD), EBADF);
    EQUAL(umask(022), 0);
    return failures;
}

int main(int argc, char **argv, char **envp) {
    if (argc > 1)
        return as_child(argc, argv, envp);
    limit(60);
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(length > 0);
    test_arguments();
    test_refused();
    test_scripts();
    test_what_stays();
    test_from_a_thread();
    return finish("exec");
}
