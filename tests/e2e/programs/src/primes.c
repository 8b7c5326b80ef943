#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The primes below a number, by a sieve. */
int main(int argc, char **argv) {
    long limit = argc > 1 ? atol(argv[1]) : 100, count = 0, last = 0;
    char *composite = calloc(limit + 1, 1);
    for (long n = 2; n < limit; n++) {
        if (composite[n])
            continue;
        count++;
        last = n;
        for (long m = n * n; m < limit; m += n)
            composite[m] = 1;
    }
    free(composite);
    printf("%ld primes below %ld, the last is %ld\n", count, limit, last);
    return 0;
}
