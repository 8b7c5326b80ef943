/* fork while threads come, go and hold locks; exec from a thread while others run. Argument: rounds. */
#include "children.h"
#include <pthread.h>

extern char **environ;
static volatile int stop;
static char self[200];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long sum;

static void *short_lived(void *value) { return value; }

/* Makes threads and memory all the time. */
static void *makes(void *none) {
    while (!stop) {
        pthread_t thread;
        void *result = NULL;
        char *memory = malloc(1000 + sum % 5000);
        memory[0] = 1;
        if (pthread_create(&thread, NULL, short_lived, memory) == 0)
            pthread_join(thread, &result);
        pthread_mutex_lock(&mutex);
        sum += result == memory;
        pthread_mutex_unlock(&mutex);
        free(memory);
    }
    return none;
}

static void *computes(void *none) {
    volatile long n = 0;
    while (!stop)
        n++;
    return none;
}

/* The child has one thread, works, and the parent's threads go on. */
static void fork_against_threads(int total) {
    pthread_t threads[3];
    for (int n = 0; n < 3; n++)
        EQUAL(pthread_create(&threads[n], NULL, n == 2 ? computes : makes, NULL), 0);
    int wrong = 0;
    for (int n = 0; n < total; n++) {
        pid_t pid = fork();
        if (pid == 0) {
            char *memory = malloc(3000); /* the library's locks are free in the child */
            memory[2999] = (char)n;
            _exit(syscall(SYS_gettid) == getpid() && memory[2999] == (char)n ? n & 63 : 99);
        }
        int status = ended(pid);
        wrong += status != (n & 63);
    }
    EQUAL(wrong, 0);
    stop = 1;
    for (int n = 0; n < 3; n++)
        EQUAL(pthread_join(threads[n], NULL), 0);
    CHECK(sum > 0);
}

static void *executes(void *none) {
    char *arguments[] = {self, "-", "child", NULL};
    execve(self, arguments, environ);
    _exit(98);
    return none;
}

static void *blocks(void *fd) {
    char byte;
    while (read(*(int *)fd, &byte, 1) >= 0)
        ;
    return NULL;
}

static int thread_executes(int round) {
    int fds[2];
    pthread_t threads[4];
    stop = 0;
    if (pipe2(fds, O_CLOEXEC))
        return 97;
    void *(*acts[4])(void *) = {computes, blocks, makes, executes};
    for (int n = 0; n < 4; n++)
        pthread_create(&threads[n], NULL, acts[(n + round) % 4], fds);
    for (;;)
        pause();
}

static void exec_against_threads(int total) {
    int wrong = 0;
    for (int n = 0; n < total; n++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(thread_executes(n));
        wrong += ended(pid) != 5;
    }
    EQUAL(wrong, 0);
}

int main(int argc, char **argv) {
    if (argc > 2)
        return syscall(SYS_gettid) == getpid() ? 5 : 96;
    limit(500);
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return 1;
    fork_against_threads(rounds(argc, argv));
    exec_against_threads(rounds(argc, argv) / 4);
    return finish("race_threads");
}
