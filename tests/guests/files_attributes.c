/* stat family, chmod, chown, utimensat, access, statfs, xattrs: what is told about a file, and errno. */
#include "check.h"
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>

static struct stat st;

static void test_stat(void) {
    umask(022);
    put("f", "12345");
    EQUAL(stat("f", &st), 0);
    EQUAL(st.st_mode, S_IFREG | 0644);
    EQUAL(st.st_size, 5);
    EQUAL(st.st_nlink, 1);
    EQUAL(st.st_uid, geteuid());
    CHECK(st.st_blksize >= 512 && st.st_ino != 0);
    struct stat by_fd, by_at;
    int fd = open("f", O_RDONLY);
    EQUAL(fstat(fd, &by_fd), 0);
    EQUAL(fstatat(fd, "", &by_at, AT_EMPTY_PATH), 0);
    EQUAL(st.st_ino == by_fd.st_ino && st.st_ino == by_at.st_ino && st.st_dev == by_fd.st_dev, 1);
    FAILS(fstatat(fd, "", &by_at, 0), ENOENT);
    FAILS(fstatat(AT_FDCWD, "f", &by_at, 1), EINVAL);
    FAILS(fstat(99, &by_at), EBADF);
    FAILS(syscall(SYS_newfstatat, AT_FDCWD, "f", (void *)8, 0), EFAULT);
    FAILS(stat("f/x", &by_at), ENOTDIR);
    FAILS(stat("f/", &by_at), ENOTDIR);
    FAILS(stat("f/.", &by_at), ENOTDIR);
    FAILS(stat("", &by_at), ENOENT);
    EQUAL(fstatat(AT_FDCWD, "", &by_at, AT_EMPTY_PATH), 0);
    EQUAL(S_ISDIR(by_at.st_mode), 1);
    close(fd);
    EQUAL(stat("/..", &by_at), 0);
    EQUAL(stat("/", &by_fd), 0);
    EQUAL(by_at.st_ino, by_fd.st_ino);

    struct statx sx;
    memset(&sx, 0xa5, sizeof sx);
    EQUAL(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &sx), 0);
    EQUAL(sx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    EQUAL(sx.stx_ino, st.st_ino);
    EQUAL(sx.stx_size, 5);
    EQUAL(sx.stx_mode, S_IFREG | 0644);
    EQUAL(makedev(sx.stx_dev_major, sx.stx_dev_minor), st.st_dev);
    EQUAL(sx.stx_mtime.tv_sec, st.st_mtim.tv_sec);
    EQUAL(sx.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
    FAILS(statx(AT_FDCWD, "f", 0, 0x80000000, &sx), EINVAL);
    FAILS(statx(AT_FDCWD, "f", AT_STATX_SYNC_TYPE, STATX_BASIC_STATS, &sx), EINVAL);
    FAILS(statx(AT_FDCWD, "absent", 0, STATX_BASIC_STATS, &sx), ENOENT);
    EQUAL(symlink("f", "link"), 0);
    EQUAL(statx(AT_FDCWD, "link", AT_SYMLINK_NOFOLLOW, STATX_TYPE, &sx), 0);
    EQUAL(sx.stx_mode & S_IFMT, S_IFLNK);
}

static mode_t mode_of(const char *path) {
    return stat(path, &st) ? 0 : st.st_mode & 07777;
}

static void test_chmod(void) {
    EQUAL(chmod("f", 0600), 0);
    EQUAL(mode_of("f"), 0600);
    EQUAL(chmod("link", 0640), 0); /* through the link */
    EQUAL(mode_of("f"), 0640);
    EQUAL(chmod("f", 04755), 0);
    EQUAL(mode_of("f"), 04755);
    int fd = open("f", O_RDONLY);
    EQUAL(fchmod(fd, 0100644), 0); /* bits of the type are ignored */
    EQUAL(mode_of("f"), 0644);
    close(fd);
    EQUAL(syscall(SYS_fchmodat, AT_FDCWD, "f", 0604), 0);
    EQUAL(mode_of("f"), 0604);
    FAILS(chmod("absent", 0600), ENOENT);
    FAILS(syscall(SYS_fchmod, 99, 0600), EBADF);
    EQUAL(mkdir("d", 0755), 0);
    EQUAL(chmod("d", 01777), 0);
    EQUAL(mode_of("d"), 01777);
    EQUAL(stat("f", &st), 0);
    struct timespec before = st.st_ctim, mtime = st.st_mtim;
    EQUAL(chmod("f", 0644), 0);
    EQUAL(stat("f", &st), 0);
    CHECK(st.st_ctim.tv_sec > before.tv_sec ||
          (st.st_ctim.tv_sec == before.tv_sec && st.st_ctim.tv_nsec >= before.tv_nsec));
    EQUAL(st.st_mtim.tv_nsec, mtime.tv_nsec);
}

static void test_chown(void) {
    uid_t uid = geteuid();
    gid_t gid = getegid();
    EQUAL(chown("f", uid, gid), 0);
    EQUAL(chown("f", -1, -1), 0);
    EQUAL(stat("f", &st), 0);
    EQUAL(st.st_uid == uid && st.st_gid == gid, 1);
    FAILS(chown("absent", uid, gid), ENOENT);
    FAILS(fchown(99, uid, gid), EBADF);
    FAILS(fchownat(AT_FDCWD, "f", uid, gid, 1), EINVAL);
    int fd = open("f", O_RDONLY);
    EQUAL(fchown(fd, uid, gid), 0);
    EQUAL(fchownat(fd, "", uid, gid, AT_EMPTY_PATH), 0);
    close(fd);
    if (uid)
        return;
    EQUAL(chmod("f", 06755), 0);
    EQUAL(chown("f", 1234, 5678), 0);
    EQUAL(stat("f", &st), 0);
    EQUAL(st.st_uid == 1234 && st.st_gid == 5678, 1);
    EQUAL(st.st_mode & 07777, 0755); /* a new owner takes suid and sgid away */
    EQUAL(lchown("link", 11, 22), 0);
    EQUAL(lstat("link", &st), 0);
    EQUAL(st.st_uid == 11 && st.st_gid == 22, 1);
    EQUAL(stat("f", &st), 0);
    EQUAL(st.st_uid, 1234);
    EQUAL(fchownat(AT_FDCWD, "link", 0, -1, 0), 0);
    EQUAL(stat("f", &st), 0);
    EQUAL(st.st_uid == 0 && st.st_gid == 5678, 1);
}

static void test_times(void) {
    struct timespec times[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
    EQUAL(utimensat(AT_FDCWD, "f", times, 0), 0);
    EQUAL(stat("f", &st), 0);
    EQUAL(st.st_atim.tv_sec == 1000000000 && st.st_atim.tv_nsec == 123456789, 1);
    EQUAL(st.st_mtim.tv_sec == 1100000000 && st.st_mtim.tv_nsec == 987654321, 1);
    times[0].tv_nsec = UTIME_OMIT;
    times[1] = (struct timespec){-5, 7};
    EQUAL(utimensat(AT_FDCWD, "f", times, 0), 0);
    EQUAL(stat("f", &st), 0);
    EQUAL(st.st_atim.tv_sec, 1000000000);
    EQUAL(st.st_mtim.tv_sec, -5);
    EQUAL(st.st_mtim.tv_nsec, 7);
    time_t start = time(NULL);
    times[0].tv_nsec = UTIME_NOW;
    times[1].tv_nsec = UTIME_OMIT;
    EQUAL(utimensat(AT_FDCWD, "f", times, 0), 0);
    EQUAL(stat("f", &st), 0);
    CHECK(st.st_atim.tv_sec >= start - 1 && st.st_atim.tv_sec <= time(NULL));
    EQUAL(st.st_mtim.tv_sec, -5);
    EQUAL(utimensat(AT_FDCWD, "f", NULL, 0), 0);
    EQUAL(stat("f", &st), 0);
    CHECK(st.st_mtim.tv_sec >= start - 1);
    times[0].tv_nsec = 1000000000;
    FAILS(utimensat(AT_FDCWD, "f", times, 0), EINVAL);
    times[0].tv_nsec = times[1].tv_nsec = UTIME_OMIT;
    EQUAL(utimensat(AT_FDCWD, "f", times, 0), 0);
    EQUAL(utimensat(AT_FDCWD, "absent", times, 1), 0); /* nothing to set: nothing is looked at */
    times[1] = (struct timespec){42, 0};
    FAILS(utimensat(AT_FDCWD, "f", times, 1), EINVAL);
    EQUAL(utimensat(AT_FDCWD, "link", times, AT_SYMLINK_NOFOLLOW), 0);
    EQUAL(lstat("link", &st), 0);
    EQUAL(st.st_mtim.tv_sec, 42);
    int fd = open("f", O_RDONLY);
    EQUAL(futimens(fd, times), 0);
    EQUAL(fstat(fd, &st), 0);
    EQUAL(st.st_mtim.tv_sec, 42);
    close(fd);
    FAILS(utimensat(AT_FDCWD, "absent", times, 0), ENOENT);
    FAILS(utimensat(AT_FDCWD, "", times, 0), ENOENT);
    /* A write moves mtime and ctime, a change in a directory moves the directory's. */
    put("f", "longer");
    EQUAL(stat("f", &st), 0);
    CHECK(st.st_mtim.tv_sec >= start - 1 && st.st_ctim.tv_sec >= start - 1);
    EQUAL(utimensat(AT_FDCWD, "d", times, 0), 0);
    put("d/new", "");
    EQUAL(stat("d", &st), 0);
    CHECK(st.st_mtim.tv_sec >= start - 1);
}

static void test_access(void) {
    EQUAL(access("f", F_OK), 0);
    EQUAL(access("f", R_OK | W_OK), 0);
    EQUAL(chmod("f", 0600), 0);
    FAILS(access("f", X_OK), EACCES); /* for root too: nobody may execute it */
    EQUAL(access("d", R_OK | W_OK | X_OK), 0);
    FAILS(access("absent", F_OK), ENOENT);
    FAILS(access("f", 8), EINVAL);
    FAILS(access("f/x", F_OK), ENOTDIR);
    EQUAL(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS), 0);
    EQUAL(symlink("nowhere", "dangling"), 0);
    FAILS(access("dangling", F_OK), ENOENT);
    long result = syscall(SYS_faccessat2, AT_FDCWD, "dangling", F_OK, AT_SYMLINK_NOFOLLOW);
    CHECK(result == 0 || errno == ENOSYS);
}

static void test_statfs(void) {
    struct statfs fs, by_fd;
    EQUAL(statfs(".", &fs), 0);
    CHECK(fs.f_bsize >= 512 && fs.f_blocks > 0 && fs.f_bfree <= fs.f_blocks && fs.f_bavail <= fs.f_bfree);
    EQUAL(fs.f_namelen, 255);
    int fd = open("f", O_RDONLY);
    EQUAL(fstatfs(fd, &by_fd), 0);
    EQUAL(by_fd.f_type == fs.f_type && by_fd.f_bsize == fs.f_bsize, 1);
    close(fd);
    FAILS(statfs("absent", &fs), ENOENT);
    FAILS(fstatfs(99, &fs), EBADF);
}

static void test_xattrs(void) {
    char value[64], list[256];
    put("x", "");
    EQUAL(setxattr("x", "user.one", "value", 5, 0), 0);
    EQUAL(setxattr("x", "user.two", "", 0, XATTR_CREATE), 0);
    EQUAL(getxattr("x", "user.one", value, sizeof value), 5);
    EQUAL(memcmp(value, "value", 5), 0);
    EQUAL(getxattr("x", "user.one", NULL, 0), 5);
    EQUAL(getxattr("x", "user.two", value, sizeof value), 0);
    FAILS(getxattr("x", "user.one", value, 3), ERANGE);
    FAILS(getxattr("x", "user.three", value, sizeof value), ENODATA);
    FAILS(setxattr("x", "user.one", "v", 1, XATTR_CREATE), EEXIST);
    FAILS(setxattr("x", "user.three", "v", 1, XATTR_REPLACE), ENODATA);
    FAILS(setxattr("x", "user.three", "v", 1, 8), EINVAL);
    EQUAL(setxattr("x", "user.one", "changed", 7, XATTR_REPLACE), 0);
    EQUAL(getxattr("x", "user.one", value, sizeof value), 7);
    FAILS(setxattr("x", "nonsense", "v", 1, 0), EOPNOTSUPP);
    FAILS(setxattr("absent", "user.one", "v", 1, 0), ENOENT);
    FAILS(getxattr("absent", "user.one", value, 1), ENOENT);
    char name[300] = "user.";
    memset(name + 5, 'n', 251);
    FAILS(setxattr("x", name, "v", 1, 0), ERANGE);
    static char huge[70000];
    FAILS(setxattr("x", "user.huge", huge, 65537, 0), E2BIG);
    ssize_t length = listxattr("x", list, sizeof list);
    int ones = 0, twos = 0;
    for (ssize_t i = 0; i < length; i += (ssize_t)strlen(list + i) + 1)
        ones += !strcmp(list + i, "user.one"), twos += !strcmp(list + i, "user.two");
    EQUAL(ones == 1 && twos == 1, 1);
    EQUAL(listxattr("x", NULL, 0), length);
    FAILS(listxattr("x", list, 3), ERANGE);
    EQUAL(removexattr("x", "user.two"), 0);
    FAILS(removexattr("x", "user.two"), ENODATA);
    int fd = open("x", O_RDWR);
    EQUAL(fsetxattr(fd, "user.fd", "1", 1, 0), 0);
    EQUAL(fgetxattr(fd, "user.fd", value, 1), 1);
    EQUAL(fremovexattr(fd, "user.fd"), 0);
    CHECK(flistxattr(fd, list, sizeof list) >= 9);
    close(fd);
    FAILS(fgetxattr(99, "user.fd", value, 1), EBADF);
    EQUAL(symlink("x", "xlink"), 0);
    EQUAL(getxattr("xlink", "user.one", value, sizeof value), 7);
    FAILS(lsetxattr("xlink", "user.one", "v", 1, 0), EPERM); /* user.* is for files and directories */
    EQUAL(setxattr("d", "user.dir", "v", 1, 0), 0);
}

int main(void) {
    test_stat();
    test_chmod();
    test_chown();
    test_times();
    test_access();
    test_statfs();
    test_xattrs();
    return finish("files_attributes");
}
