/* A loop without system calls is ended by RLIMIT_CPU: SIGXCPU, whose default action ends the process. */
#include <stdio.h>
#include <sys/resource.h>

int main(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_CPU, &limit);
    limit.rlim_cur = 2;
    if (setrlimit(RLIMIT_CPU, &limit))
        return 1;
    puts("looping");
    fflush(stdout);
    for (volatile unsigned long i = 0;; i++)
        ;
}
