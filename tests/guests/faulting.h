/* Acts that end in a signal, and what its handler was told. */
#include <setjmp.h>
#include <signal.h>

static sigjmp_buf env;
static siginfo_t told;

static void handler(int number, siginfo_t *info, void *context) {
    (void)context;
    told = *info;
    siglongjmp(env, number);
}

/* Does it; what it ended with must be this signal, code and address. */
#define FAULTS(act, signal, code, address) \
    do { \
        if (sigsetjmp(env, 1) == 0) { \
            act; \
            CHECK(!"it faults"); \
        } else { \
            EQUAL(told.si_signo, signal); \
            EQUAL(told.si_code, code); \
            CHECK(told.si_addr == (void *)(address)); \
        } \
    } while (0)
