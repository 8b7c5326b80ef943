/* Where a mapped file ends: the rest of its last page is zero, the page after it is SIGBUS, and EFAULT for a call. */
#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096 };

int main(void) {
    char path[] = "mapped";
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    EQUAL(write(fd, "0123456789", 10), 10);
    EQUAL(lseek(fd, PAGE + 5, SEEK_SET), PAGE + 5);
    EQUAL(write(fd, "x", 1), 1);
    char *map = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(map != MAP_FAILED);
    EQUAL(map[9], '9');
    EQUAL(map[10] + map[PAGE - 1], 0);
    EQUAL(map[PAGE + 5], 'x');
    map[2 * PAGE - 1] = 'y'; /* still the last page of the file */
    EQUAL(map[2 * PAGE - 1], 'y');
    /* The third page is wholly behind the file: a call that needs it fails, and says so. */
    FAILS(write(fd, map + 2 * PAGE, 1), EFAULT);
    EQUAL(lseek(fd, 0, SEEK_SET), 0);
    FAILS(read(fd, map + 2 * PAGE, 1), EFAULT);
    EQUAL(read(fd, map + PAGE, 3), 3);
    EQUAL(map[PAGE + 2], '2');
    EQUAL(munmap(map, 4 * PAGE), 0);
    EQUAL(close(fd), 0);
    EQUAL(unlink(path), 0);
    return finish("mapping_end");
}
