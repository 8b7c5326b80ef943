/* Takes memory in pieces of argv[1] MiB until ENOMEM, at most argv[2] pieces; gives it back; takes it again. Every
   page of the last piece is touched: what was granted must be there. Prints how many pieces there were. */
#include "check.h"
#include <sys/mman.h>

int main(int argc, char **argv) {
    size_t piece = (size_t)(argc > 1 ? atoi(argv[1]) : 1) << 20;
    int most = argc > 2 ? atoi(argv[2]) : 1, count = 0;
    char **pieces = calloc((size_t)most + 1, sizeof *pieces);
    for (; count < most; count++) {
        pieces[count] = mmap(NULL, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pieces[count] == MAP_FAILED)
            break;
    }
    CHECK(count < most);
    EQUAL(errno, ENOMEM);
    CHECK(count > 0);
    if (count == 0)
        return finish("quota");
    FAILS(mmap(NULL, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    FAILS(mremap(pieces[0], piece, 2 * piece, MREMAP_MAYMOVE), ENOMEM);
    for (size_t i = 0; i < piece; i += 4096)
        pieces[count - 1][i] = 1;
    EQUAL(pieces[count - 1][piece - 4096], 1);
    EQUAL(munmap(pieces[0], piece), 0);
    pieces[0] = mmap(NULL, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pieces[0] != MAP_FAILED);
    for (int i = 0; i < count; i++)
        EQUAL(munmap(pieces[i], piece), 0);
    char *again = mmap(NULL, piece * (size_t)count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(again != MAP_FAILED); /* all of it in one */
    printf("%d pieces\n", count);
    return finish("quota");
}
