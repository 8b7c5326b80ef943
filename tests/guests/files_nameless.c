/* O_TMPFILE: files without a name, which may get one. */
#include "check.h"
#include <sys/mman.h>

static int nlink_of(int fd) {
    struct stat found;
    return fstat(fd, &found) ? -1 : (int)found.st_nlink;
}

static void test_nameless(void) {
    struct stat found;
    char text[8] = {0};
    umask(022);
    int file = open(".", O_TMPFILE | O_RDWR, 0666);
    CHECK(file >= 0);
    EQUAL(fstat(file, &found), 0);
    EQUAL(found.st_mode, S_IFREG | 0644);
    EQUAL(found.st_nlink, 0);
    EQUAL(write(file, "nameless", 8), 8);
    EQUAL(pread(file, text, 8, 0), 8);
    CHECK(!memcmp(text, "nameless", 8));
    EQUAL(fcntl(file, F_GETFL) & O_ACCMODE, O_RDWR);
    char *mapped = mmap(NULL, 8, PROT_READ, MAP_PRIVATE, file, 0);
    CHECK(mapped != MAP_FAILED && !memcmp(mapped, "nameless", 8));
    munmap(mapped, 8);
    /* By a descriptor of its own, and by its magic link. */
    EQUAL(linkat(file, "", AT_FDCWD, "named", AT_EMPTY_PATH), 0);
    EQUAL(nlink_of(file), 1);
    CHECK(!strcmp(get("named"), "nameless"));
    FAILS(linkat(file, "", AT_FDCWD, "named", AT_EMPTY_PATH), EEXIST);
    EQUAL(unlink("named"), 0);
    EQUAL(nlink_of(file), 0);
    FAILS(linkat(file, "", AT_FDCWD, "again", AT_EMPTY_PATH), ENOENT);
    close(file);
}

static void test_magic_link(void) {
    char link[64];
    int file = open("/tmp", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(file >= 0);
    EQUAL(fcntl(file, F_GETFD), FD_CLOEXEC);
    EQUAL(write(file, "x", 1), 1);
    close(file);
    file = open(".", O_TMPFILE | O_WRONLY, 0600);
    EQUAL(write(file, "linked", 6), 6);
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    EQUAL(linkat(AT_FDCWD, link, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW), 0);
    CHECK(!strcmp(get("linked"), "linked"));
    unlink("linked");
    close(file);
}

static void test_refusals(void) {
    put("file", "");
    FAILS(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
    FAILS(open(".", O_TMPFILE | O_RDWR | O_CREAT, 0600), EINVAL);
    FAILS(open(".", (O_TMPFILE & ~O_DIRECTORY) | O_RDWR, 0600), EINVAL);
    FAILS(open("file", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
    FAILS(open("missing", O_TMPFILE | O_RDWR, 0600), ENOENT);
    int file = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    CHECK(file >= 0);
    FAILS(linkat(file, "", AT_FDCWD, "never", AT_EMPTY_PATH), ENOENT);
    close(file);
    unlink("file");
}

int main(void) {
    test_nameless();
    test_magic_link();
    test_refusals();
    return finish("files_nameless");
}
