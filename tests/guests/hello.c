/* Greets and shows its arguments: the least that can go wrong. */
#include "check.h"

int main(int argc, char **argv) {
    printf("hello, world\n");
    for (int i = 1; i < argc; i++)
        printf("argv[%d] = %s\n", i, argv[i]);
    return argc - 1;
}
