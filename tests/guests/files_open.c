/* open(2), openat(2), close, dup family, fcntl: flags, rights, errno. */
#include "check.h"
#include <sys/resource.h>

static void test_creation(void) {
    FAILS(open("absent", O_RDONLY), ENOENT);
    FAILS(open("absent/file", O_RDWR | O_CREAT, 0600), ENOENT);
    FAILS(open("", O_RDONLY), ENOENT);
    umask(027);
    int fd = open("made", O_RDWR | O_CREAT | O_EXCL, 0666);
    CHECK(fd >= 3);
    struct stat st;
    EQUAL(fstat(fd, &st), 0);
    EQUAL(st.st_mode, S_IFREG | 0640);
    EQUAL(st.st_size, 0);
    EQUAL(umask(022), 027);
    EQUAL(close(fd), 0);
    FAILS(close(fd), EBADF);
    FAILS(open("made", O_RDWR | O_CREAT | O_EXCL, 0666), EEXIST);
    fd = open("made", O_RDWR | O_CREAT, 0777);
    EQUAL(fstat(fd, &st), 0);
    EQUAL(st.st_mode, S_IFREG | 0640); /* the mode counts only for a new file */
    EQUAL(write(fd, "0123456789", 10), 10);
    close(fd);
    fd = open("made", O_WRONLY | O_TRUNC);
    EQUAL(fstat(fd, &st), 0);
    EQUAL(st.st_size, 0);
    close(fd);
    fd = creat("made2", 0400);
    EQUAL(write(fd, "x", 1), 1); /* the rights of the descriptor, not of the mode */
    char byte;
    FAILS(read(fd, &byte, 1), EBADF);
    close(fd);
    /* Suid and sticky bits of a new file. */
    fd = open("sticky", O_CREAT | O_RDONLY, 01755);
    EQUAL(fstat(fd, &st), 0);
    EQUAL(st.st_mode & 01777, 01755);
    FAILS(write(fd, "x", 1), EBADF);
    close(fd);
    char name[300];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    fd = open(name, O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0);
    close(fd);
    name[255] = 'n', name[256] = 0;
    FAILS(open(name, O_CREAT | O_WRONLY, 0600), ENAMETOOLONG);
    char path[5000];
    for (size_t i = 0; i < sizeof path; i += 2)
        memcpy(path + i, "./", 2);
    memcpy(path + 4090, "made", 5);
    fd = open(path, O_RDONLY); /* 4094 bytes and a NUL */
    CHECK(fd >= 0);
    close(fd);
    path[4094] = '/', path[4095] = '/', path[4096] = 0;
    FAILS(open(path, O_RDONLY), ENAMETOOLONG);
    FAILS(syscall(SYS_openat, AT_FDCWD, (char *)8, O_RDONLY), EFAULT);
}

static void test_kinds(void) {
    EQUAL(mkdir("dir", 0755), 0);
    EQUAL(symlink("made", "link"), 0);
    EQUAL(symlink("nowhere", "dangling"), 0);
    EQUAL(symlink("loop", "loop"), 0);
    FAILS(open("dir", O_WRONLY), EISDIR);
    FAILS(open("dir", O_RDWR | O_CREAT, 0600), EISDIR);
    FAILS(open("dir", O_RDONLY | O_CREAT, 0600), EISDIR);
    FAILS(open("made", O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(open("made/", O_RDONLY), ENOTDIR);
    FAILS(open("made/x", O_RDONLY), ENOTDIR);
    FAILS(open("new/", O_RDWR | O_CREAT, 0600), EISDIR);
    FAILS(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
    FAILS(open("loop", O_RDONLY), ELOOP);
    FAILS(open("loop/x", O_RDONLY), ELOOP);
    FAILS(open("dangling", O_RDONLY), ENOENT);
    FAILS(open("dangling", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    FAILS(open("link", O_RDONLY | O_DIRECTORY), ENOTDIR);
    int fd = open("dangling", O_RDWR | O_CREAT, 0600); /* creates what the link names */
    CHECK(fd >= 0);
    close(fd);
    EQUAL(access("nowhere", F_OK), 0);
    EQUAL(symlink("made", "chain0"), 0);
    char from[16], to[16];
    for (int i = 1; i < 41; i++) {
        snprintf(from, sizeof from, "chain%d", i - 1);
        snprintf(to, sizeof to, "chain%d", i);
        EQUAL(symlink(from, to), 0);
    }
    fd = open("chain39", O_RDONLY); /* 40 links */
    CHECK(fd >= 0);
    close(fd);
    FAILS(open("chain40", O_RDONLY), ELOOP);
    char byte;
    fd = open("dir", O_RDONLY | O_DIRECTORY);
    FAILS(read(fd, &byte, 1), EISDIR);
    FAILS(pread(fd, &byte, 1, 0), EISDIR);
    FAILS(write(fd, "x", 1), EBADF);
    int inside = openat(fd, "inside", O_CREAT | O_RDWR, 0600);
    CHECK(inside >= 0);
    close(inside);
    EQUAL(access("dir/inside", F_OK), 0);
    CHECK((inside = openat(fd, "../made", O_RDONLY)) >= 0);
    close(inside);
    CHECK((inside = openat(-1, "/", O_RDONLY)) >= 0); /* absolute: the directory does not matter */
    close(inside);
    FAILS(openat(-1, "made", O_RDONLY), EBADF);
    close(fd);
    fd = open("made", O_RDONLY);
    FAILS(openat(fd, "x", O_RDONLY), ENOTDIR);
    close(fd);
}

static void test_path_descriptors(void) {
    int fd = open("made", O_PATH);
    char byte;
    struct stat st, by_name;
    CHECK(fd >= 0);
    FAILS(read(fd, &byte, 1), EBADF);
    FAILS(write(fd, "x", 1), EBADF);
    FAILS(lseek(fd, 0, SEEK_SET), EBADF);
    FAILS(syscall(SYS_fchmod, fd, 0600), EBADF);
    EQUAL(fstat(fd, &st), 0);
    EQUAL(stat("made", &by_name), 0);
    EQUAL(st.st_ino, by_name.st_ino);
    EQUAL(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
    close(fd);
    fd = open("link", O_PATH | O_NOFOLLOW);
    EQUAL(fstatat(fd, "", &st, AT_EMPTY_PATH), 0);
    EQUAL(st.st_mode & S_IFMT, S_IFLNK);
    char target[16];
    EQUAL(readlinkat(fd, "", target, sizeof target), 4);
    close(fd);
    fd = open("dir", O_PATH);
    int inside = openat(fd, "inside", O_RDONLY);
    CHECK(inside >= 0);
    close(inside);
    close(fd);
}

static void test_descriptors(void) {
    int fd = open("made", O_RDWR | O_TRUNC);
    EQUAL(fcntl(fd, F_GETFD), 0);
    EQUAL(fcntl(fd, F_SETFD, FD_CLOEXEC), 0);
    EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    int copy = dup(fd);
    EQUAL(copy, fd + 1);
    EQUAL(fcntl(copy, F_GETFD), 0);
    EQUAL(write(fd, "abc", 3), 3);
    EQUAL(lseek(copy, 0, SEEK_CUR), 3); /* one description, one offset */
    EQUAL(fcntl(fd, F_SETFL, O_APPEND), 0);
    EQUAL(fcntl(copy, F_GETFL) & O_APPEND, O_APPEND);
    EQUAL(fcntl(copy, F_GETFL) & O_ACCMODE, O_RDWR);
    EQUAL(lseek(fd, 0, SEEK_SET), 0);
    EQUAL(write(copy, "def", 3), 3);
    EQUAL(lseek(fd, 0, SEEK_CUR), 6);
    EQUAL(fcntl(fd, F_SETFL, 0), 0);
    EQUAL(dup2(fd, 77), 77);
    EQUAL(dup2(77, 77), 77);
#ifdef SYS_dup2
    FAILS(syscall(SYS_dup2, 78, 78), EBADF);
#endif
    FAILS(dup2(78, 77), EBADF);
    EQUAL(fcntl(77, F_GETFD), 0); /* a failed dup2 left it alone */
    FAILS(dup2(fd, -1), EBADF);
    FAILS(dup3(fd, fd, 0), EINVAL);
    FAILS(dup3(fd, 79, O_APPEND), EINVAL);
    EQUAL(dup3(fd, 79, O_CLOEXEC), 79);
    EQUAL(fcntl(79, F_GETFD), FD_CLOEXEC);
    EQUAL(fcntl(fd, F_DUPFD, 100), 100);
    EQUAL(fcntl(fd, F_DUPFD, 100), 101);
    EQUAL(fcntl(fd, F_DUPFD_CLOEXEC, 100), 102);
    EQUAL(fcntl(102, F_GETFD), FD_CLOEXEC);
    FAILS(fcntl(fd, F_DUPFD, -1), EINVAL);
    FAILS(fcntl(fd, 12345, 0), EINVAL);
    FAILS(fcntl(200, F_GETFD), EBADF);
    EQUAL(close(fd), 0);
    EQUAL(write(77, "g", 1), 1); /* the description lives as long as one descriptor */
    int opened[] = {copy, 77, 79, 100, 101, 102};
    for (size_t i = 0; i < sizeof opened / sizeof *opened; i++)
        EQUAL(close(opened[i]), 0);
    EQUAL(strcmp(get("made"), "abcdefg"), 0);
    CHECK((fd = open("made", O_RDONLY)) == 3); /* the lowest free number */
    close(fd);

    struct rlimit limit, old;
    EQUAL(getrlimit(RLIMIT_NOFILE, &old), 0);
    limit = old;
    limit.rlim_cur = 8;
    EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int last = -1, count = 0;
    while ((fd = open("made", O_RDONLY)) >= 0)
        last = fd, count++;
    EQUAL(errno, EMFILE);
    EQUAL(last, 7);
    EQUAL(count, 5);
    FAILS(dup(0), EMFILE);
    FAILS(fcntl(0, F_DUPFD, 8), EINVAL);
    for (fd = 3; fd < 8; fd++)
        EQUAL(close(fd), 0);
    EQUAL(setrlimit(RLIMIT_NOFILE, &old), 0);
}

static void test_close_range(void) {
    int a = open("made", O_RDONLY), b = open("made", O_RDONLY), c = open("made", O_RDONLY);
    long result = syscall(SYS_close_range, b, c, 0);
    if (result < 0 && errno == ENOSYS) { /* a kernel before 5.9 */
        close(b);
        close(c);
    } else
        EQUAL(result, 0);
    EQUAL(fcntl(a, F_GETFD), 0);
    FAILS(fcntl(b, F_GETFD), EBADF);
    FAILS(fcntl(c, F_GETFD), EBADF);
    close(a);
}

int main(void) {
    test_creation();
    test_kinds();
    test_path_descriptors();
    test_descriptors();
    test_close_range();
    return finish("files_open");
}
