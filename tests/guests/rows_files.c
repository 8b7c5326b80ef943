/* Calls on files that C libraries seldom make, each by its number, and what each changes. */
#include "check.h"
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <utime.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static long size_of(const char *path) {
    struct stat s;
    return stat(path, &s) ? -1 : (long)s.st_size;
}

static void test_vectors(void) {
    char a[4] = "", b[8] = "";
    struct iovec out[] = {{"abc", 3}, {"defg", 4}}, in[] = {{a, 3}, {b, 4}};
    int fd = open("vector", O_RDWR | O_CREAT, 0644);
    EQUAL(syscall(SYS_pwritev2, fd, out, 2, 2, 0, 0), 7);
    EQUAL(lseek(fd, 0, SEEK_CUR), 0);
    EQUAL(syscall(SYS_preadv2, fd, in, 2, 2, 0, 0), 7);
    EQUAL(memcmp(a, "abc", 3) || memcmp(b, "defg", 4), 0);
    EQUAL(lseek(fd, 0, SEEK_CUR), 0);
    EQUAL(syscall(SYS_pwritev2, fd, out, 1, -1L, -1L, 0), 3); /* -1: at the offset of the description */
    EQUAL(lseek(fd, 0, SEEK_CUR), 3);
    EQUAL(syscall(SYS_preadv2, fd, in, 1, -1L, -1L, 0), 3);
    EQUAL(memcmp(a, "bcd", 3), 0);
    EQUAL(lseek(fd, 0, SEEK_CUR), 6);
    EQUAL(syscall(SYS_preadv, fd, in, 2, 3, 0), 6);
    EQUAL(memcmp(a, "bcd", 3) || memcmp(b, "efg", 3), 0);
    EQUAL(syscall(SYS_pwritev, fd, out, 2, 20, 0), 7);
    EQUAL(size_of("vector"), 27);
    FAILS(syscall(SYS_preadv2, fd, in, 1, -2L, -1L, 0), EINVAL);
    FAILS(syscall(SYS_pwritev2, fd, out, 1025, 0, 0, 0), EINVAL);
    FAILS(syscall(SYS_preadv2, fd, in, 2, 0, 0, 1 << 30), EOPNOTSUPP);
    close(fd);
}

static void test_open(void) {
    struct open_how how = {.flags = O_WRONLY | O_CREAT | O_EXCL, .mode = 0640};
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, "how", &how, sizeof how);
    CHECK(fd >= 0);
    EQUAL(write(fd, "text", 4), 4);
    close(fd);
    struct stat s;
    EQUAL(stat("how", &s), 0);
    EQUAL(s.st_mode, S_IFREG | 0640);
    EQUAL(s.st_size, 4);
    FAILS(syscall(SYS_openat2, AT_FDCWD, "how", &how, sizeof how), EEXIST);
    how = (struct open_how){.flags = O_RDONLY, .mode = 0640};
    FAILS(syscall(SYS_openat2, AT_FDCWD, "how", &how, sizeof how), EINVAL);
    FAILS(syscall(SYS_openat2, AT_FDCWD, "how", &how, 8), EINVAL);
    unsigned long longer[4] = {O_RDONLY, 0, 0, 0};
    fd = (int)syscall(SYS_openat2, AT_FDCWD, "how", longer, sizeof longer);
    CHECK(fd >= 0);
    close(fd);
    longer[3] = 1;
    FAILS(syscall(SYS_openat2, AT_FDCWD, "how", longer, sizeof longer), E2BIG);
#ifdef SYS_creat
    fd = (int)syscall(SYS_creat, "how", 0600); /* truncates, keeps the mode */
    CHECK(fd >= 0);
    EQUAL(size_of("how"), 0);
    EQUAL(stat("how", &s) || s.st_mode != (S_IFREG | 0640), 0);
    FAILS(read(fd, &s, 1), EBADF);
    EQUAL(write(fd, "new", 3), 3);
    close(fd);
    EQUAL(strcmp(get("how"), "new"), 0);
#endif
}

static void test_copying(void) {
    put("source", "0123456789");
    put("target", "----------");
    int in = open("source", O_RDONLY), out = open("target", O_RDWR);
    off_t from = 2, to = 4;
    EQUAL(syscall(SYS_copy_file_range, in, &from, out, &to, 3, 0), 3);
    EQUAL(from, 5);
    EQUAL(to, 7);
    EQUAL(strcmp(get("target"), "----234---"), 0);
    EQUAL(lseek(in, 0, SEEK_CUR) + lseek(out, 0, SEEK_CUR), 0);
    EQUAL(syscall(SYS_copy_file_range, in, NULL, out, NULL, 2, 0), 2);
    EQUAL(lseek(in, 0, SEEK_CUR), 2);
    EQUAL(strcmp(get("target"), "01--234---"), 0);
    FAILS(syscall(SYS_copy_file_range, in, NULL, out, NULL, 2, 1), EINVAL);
    FAILS(syscall(SYS_copy_file_range, out, NULL, in, NULL, 2, 0), EBADF);
    from = 6;
    EQUAL(syscall(SYS_sendfile, out, in, &from, 100), 4);
    EQUAL(from, 10);
    EQUAL(lseek(in, 0, SEEK_CUR), 2);
    EQUAL(syscall(SYS_sendfile, out, in, NULL, 3), 3);
    EQUAL(lseek(in, 0, SEEK_CUR), 5);
    EQUAL(strcmp(get("target"), "016789234-"), 0);
    FAILS(syscall(SYS_sendfile, in, out, NULL, 3), EBADF);
    int left = 0;
    EQUAL(syscall(SYS_ioctl, in, FIONREAD, &left), 0);
    EQUAL(left, 5);
    FAILS(syscall(SYS_ioctl, in, 0x5401, &left), ENOTTY);
    EQUAL(syscall(SYS_ioctl, in, FIOCLEX, 0), 0);
    EQUAL(fcntl(in, F_GETFD), FD_CLOEXEC);
    EQUAL(syscall(SYS_ioctl, in, FIONCLEX, 0), 0);
    EQUAL(fcntl(in, F_GETFD), 0);
    EQUAL(syscall(SYS_readahead, in, 0, 4096), 0); /* a hint: nothing may change */
    EQUAL(lseek(in, 0, SEEK_CUR), 5);
    FAILS(syscall(SYS_readahead, 99, 0, 4096), EBADF);
    EQUAL(syscall(SYS_fadvise64, in, 0, 0, 3), 0);
    EQUAL(syscall(SYS_syncfs, in), 0);
    FAILS(syscall(SYS_syncfs, 99), EBADF);
    EQUAL(strcmp(get("target"), "016789234-"), 0);
    close(in);
    close(out);
}

/* Number of entries beyond . and .. that SYS_getdents gives, by its own layout; -1 if one is not understood. */
__attribute__((unused)) static int entries_of(long number, const char *path, const char *wanted, int kind) {
    char buffer[1024];
    int fd = open(path, O_RDONLY | O_DIRECTORY), count = 0, found = 0;
    for (long got, at; (got = syscall(number, fd, buffer, sizeof buffer)) > 0;)
        for (at = 0; at < got; at += *(unsigned short *)(buffer + at + 16)) {
            char *name = buffer + at + 18, type = buffer[at + *(unsigned short *)(buffer + at + 16) - 1];
            count += strcmp(name, ".") && strcmp(name, "..");
            found += !strcmp(name, wanted) && type == kind;
        }
    close(fd);
    return found == 1 ? count : -1;
}

static void test_names(void) {
    int here = open(".", O_RDONLY | O_DIRECTORY);
    struct stat s;
    EQUAL(syscall(SYS_mkdirat, here, "made", 0751), 0);
    EQUAL(stat("made", &s) || s.st_mode != (S_IFDIR | 0751 % 01000), 0);
    FAILS(syscall(SYS_mkdirat, here, "made", 0751), EEXIST);
    put("made/file", "contents");
    int made = open("made", O_RDONLY | O_DIRECTORY);
#ifdef SYS_renameat
    EQUAL(syscall(SYS_renameat, made, "file", here, "renamed"), 0);
    EQUAL(strcmp(get("renamed"), "contents"), 0);
    EQUAL(access("made/file", F_OK), -1);
    EQUAL(syscall(SYS_renameat, here, "renamed", made, "file"), 0);
#endif
    EQUAL(syscall(SYS_faccessat, made, "file", R_OK | W_OK), 0);
    FAILS(syscall(SYS_faccessat, made, "file", X_OK), EACCES);
    FAILS(syscall(SYS_faccessat, made, "absent", F_OK), ENOENT);
    long got = syscall(SYS_fchmodat2, made, "file", 0700, 0);
    CHECK(got == 0 || (got == -1 && errno == ENOSYS)); /* Linux has it since 6.6 */
    EQUAL(stat("made/file", &s) || s.st_mode != (S_IFREG | (got ? 0644 : 0700)), 0);
    EQUAL(syscall(SYS_faccessat, made, "file", X_OK), got);
#ifdef SYS_getdents
    EQUAL(symlink("file", "made/link"), 0);
    EQUAL(entries_of(SYS_getdents, "made", "file", 8), 2);
    EQUAL(entries_of(SYS_getdents, "made", "link", 10), 2);
    EQUAL(unlink("made/link"), 0);
#endif
    close(made);
    close(here);
}

static void test_times(void) {
    put("timed", "");
    struct stat s;
#ifdef SYS_utime
    struct utimbuf seconds = {1000000000, 1100000000};
    EQUAL(syscall(SYS_utime, "timed", &seconds), 0);
    EQUAL(stat("timed", &s), 0);
    EQUAL(s.st_atim.tv_sec, 1000000000);
    EQUAL(s.st_mtim.tv_sec, 1100000000);
    EQUAL(s.st_mtim.tv_nsec, 0);
    EQUAL(syscall(SYS_utime, "timed", NULL), 0);
    EQUAL(stat("timed", &s) || s.st_mtim.tv_sec < 1600000000, 0);
    struct timeval parts[] = {{1200000000, 250000}, {1300000000, 750000}}, bad[] = {{1, 1000000}, {1, 0}};
    EQUAL(syscall(SYS_utimes, "timed", parts), 0);
    EQUAL(stat("timed", &s), 0);
    EQUAL(s.st_atim.tv_sec, 1200000000);
    EQUAL(s.st_mtim.tv_nsec, 750000000);
    FAILS(syscall(SYS_utimes, "timed", bad), EINVAL);
    parts[0].tv_sec = 1400000000;
    EQUAL(syscall(SYS_futimesat, AT_FDCWD, "timed", parts), 0);
    EQUAL(stat("timed", &s), 0);
    EQUAL(s.st_atim.tv_sec, 1400000000);
    int fd = open("timed", O_RDONLY);
    parts[1].tv_sec = 1500000000;
    EQUAL(syscall(SYS_futimesat, fd, NULL, parts), 0);
    close(fd);
    EQUAL(stat("timed", &s) || s.st_mtim.tv_sec != 1500000000, 0);
#endif
    struct timespec omit[] = {{0, UTIME_OMIT}, {1450000000, 123456789}};
    EQUAL(syscall(SYS_utimensat, AT_FDCWD, "timed", omit, 0), 0);
    EQUAL(stat("timed", &s) || s.st_mtim.tv_sec != 1450000000 || s.st_mtim.tv_nsec != 123456789, 0);
}

/* On the symlink itself user attributes are refused; on a file the l forms are the plain ones. */
static void test_attributes(void) {
    char value[16] = "", list[64];
    put("attributed", "");
    EQUAL(symlink("attributed", "to-attributed"), 0);
    EQUAL(syscall(SYS_lsetxattr, "attributed", "user.one", "value", 5, 0), 0);
    EQUAL(getxattr("attributed", "user.one", value, sizeof value), 5);
    EQUAL(memcmp(value, "value", 5), 0);
    FAILS(syscall(SYS_lsetxattr, "attributed", "user.one", "value", 5, XATTR_CREATE), EEXIST);
    FAILS(syscall(SYS_lsetxattr, "to-attributed", "user.one", "value", 5, 0), EPERM);
    memset(value, 0, sizeof value);
    EQUAL(syscall(SYS_lgetxattr, "attributed", "user.one", value, sizeof value), 5);
    EQUAL(memcmp(value, "value", 5), 0);
    CHECK(syscall(SYS_lgetxattr, "to-attributed", "user.one", value, sizeof value) == -1);
    EQUAL(syscall(SYS_llistxattr, "attributed", list, sizeof list), 9);
    EQUAL(memcmp(list, "user.one", 9), 0);
    EQUAL(syscall(SYS_llistxattr, "to-attributed", list, sizeof list), 0);
    EQUAL(syscall(SYS_lremovexattr, "attributed", "user.one"), 0);
    FAILS(getxattr("attributed", "user.one", value, sizeof value), ENODATA);
    FAILS(syscall(SYS_lremovexattr, "attributed", "user.one"), ENODATA);
}

int main(void) {
    test_vectors();
    test_open();
    test_copying();
    test_names();
    test_times();
    test_attributes();
    return finish("rows_files");
}
