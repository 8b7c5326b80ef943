/* futex wait against wake, between threads and between processes: no wake is lost. Argument: rounds. */
#include "children.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>

struct game {
    int turn, total, shared;
};

static long futex(int *at, int operation, int value) {
    return syscall(SYS_futex, at, operation, value, NULL, NULL, 0);
}

/* Plays every second turn: waits until it has come, and passes it on. */
static void play(struct game *game, int mine) {
    int private = game->shared ? 0 : FUTEX_PRIVATE_FLAG;
    for (int n = 0; n < game->total; n++) {
        int turn;
        while ((turn = __atomic_load_n(&game->turn, __ATOMIC_SEQ_CST)) % 2 != mine)
            if (futex(&game->turn, FUTEX_WAIT | private, turn) == -1 && errno != EAGAIN && errno != EINTR)
                _exit(9);
        __atomic_store_n(&game->turn, turn + 1, __ATOMIC_SEQ_CST);
        if (futex(&game->turn, FUTEX_WAKE | private, 1) < 0)
            _exit(8);
    }
}

static void *second(void *game) {
    play(game, 1);
    return NULL;
}

static void between_threads(int total) {
    struct game game = {.total = total};
    pthread_t thread;
    EQUAL(pthread_create(&thread, NULL, second, &game), 0);
    play(&game, 0);
    EQUAL(pthread_join(thread, NULL), 0);
    EQUAL(game.turn, 2 * total);
}

static void between_processes(int total) {
    struct game *game = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *game = (struct game){.total = total, .shared = 1};
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        play(game, 1);
        _exit(0);
    }
    play(game, 0);
    EQUAL(ended(pid), 0);
    EQUAL(game->turn, 2 * total);
}

/* Many threads that meet at a barrier of one futex, again and again. */
enum { THREADS = 4 };

static pthread_barrier_t barrier;
static int arrived[THREADS], late;

static void *meets(void *number) {
    long me = (long)number;
    for (int n = 1; n <= 100; n++) {
        arrived[me] = n;
        pthread_barrier_wait(&barrier);
        for (int other = 0; other < THREADS; other++)
            if (arrived[other] < n)
                late++;
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void at_a_barrier(int total) {
    pthread_t threads[THREADS];
    for (int round = 0; round < total; round += 100) {
        EQUAL(pthread_barrier_init(&barrier, NULL, THREADS), 0);
        for (long n = 0; n < THREADS; n++)
            EQUAL(pthread_create(&threads[n], NULL, meets, (void *)n), 0);
        for (int n = 0; n < THREADS; n++)
            EQUAL(pthread_join(threads[n], NULL), 0);
        EQUAL(pthread_barrier_destroy(&barrier), 0);
    }
    EQUAL(late, 0);
}

int main(int argc, char **argv) {
    limit(300);
    between_threads(rounds(argc, argv));
    between_processes(rounds(argc, argv));
    at_a_barrier(rounds(argc, argv));
    return finish("race_futex");
}
