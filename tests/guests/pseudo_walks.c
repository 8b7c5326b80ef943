/* Walks through /proc and /dev: slashes, dots, magic links, working directories there, and what opens anew. */
#include "check.h"

#include <dirent.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static const char *here(void) {
    static char path[4096];
    return getcwd(path, sizeof path) ? path : strerror(errno);
}

static mode_t type(const char *path, int flags) {
    struct stat st;
    return fstatat(AT_FDCWD, path, &st, flags) ? 0 : st.st_mode & S_IFMT;
}

static void slashes_and_dots(void) {
    struct stat st;
    EQUAL(type("/proc/self", AT_SYMLINK_NOFOLLOW), S_IFLNK);
    EQUAL(type("/proc/self/", AT_SYMLINK_NOFOLLOW), S_IFDIR);
    EQUAL(type("/proc/self/.", AT_SYMLINK_NOFOLLOW), S_IFDIR);
    EQUAL(type("/dev/fd", AT_SYMLINK_NOFOLLOW), S_IFLNK);
    EQUAL(type("/dev/fd/", AT_SYMLINK_NOFOLLOW), S_IFDIR);
    EQUAL(type("/proc/self/exe", AT_SYMLINK_NOFOLLOW), S_IFLNK);
    EQUAL(type("/proc/self/exe", 0), S_IFREG);
    FAILS(stat("/proc/version/", &st), ENOTDIR);
    FAILS(stat("/proc/version/.", &st), ENOTDIR);
    FAILS(stat("/proc/version/..", &st), ENOTDIR);
    FAILS(stat("/proc/version/x", &st), ENOTDIR);
    FAILS(stat("/dev/null/", &st), ENOTDIR);
    FAILS(stat("/dev/null/..", &st), ENOTDIR);
    FAILS(stat("/proc/self/exe/", &st), ENOTDIR);
    FAILS(lstat("/proc/self/exe/", &st), ENOTDIR);
    FAILS(stat("/proc/self/exe/..", &st), ENOTDIR);
    FAILS(stat("/proc/self/exe/x", &st), ENOTDIR);
    FAILS(stat("/proc/self/nowhere", &st), ENOENT);
    FAILS(stat("/proc/nowhere/..", &st), ENOENT);
    EQUAL(stat("/proc/..", &st), 0);
    EQUAL(stat("/proc/./self/../../proc/version", &st), 0);
    EQUAL(stat("/dev/../proc//self///status", &st), 0);
    FAILS(stat("/proc/../proc/version/", &st), ENOTDIR);
    FAILS(open("/proc/self/status/", O_RDONLY), ENOTDIR);
    FAILS(open("/proc", O_RDWR), EISDIR);
    FAILS(open("/proc", O_RDONLY | O_CREAT, 0600), EISDIR);
    FAILS(open("/proc/version", O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(open("/proc/version", O_RDONLY | O_CREAT | O_EXCL, 0600), EEXIST);
    FAILS(open("/proc/self", O_RDONLY | O_NOFOLLOW), ELOOP);
    FAILS(mkdir("/proc", 0700), EEXIST);
    FAILS(mkdir("/proc/self/", 0700), EEXIST);
    FAILS(rename("/proc/version", "x"), EXDEV);
    FAILS(link("/dev/null", "x"), EXDEV);
    FAILS(readlink("/proc/version", (char[9]){0}, 9), EINVAL);
}

static void directories_there(void) {
    char before[4096];
    CHECK(getcwd(before, sizeof before));
    CHECK(!chdir("/proc/self/fd/.."));
    CHECK(!strncmp(here(), "/proc/", 6) && strlen(here()) > 6);
    CHECK(!strncmp(get("comm"), "pseudo_walks", 12));
    CHECK(!strncmp(get("../version"), "Linux", 5));
    EQUAL(type("../../dev/null", 0), S_IFCHR);
    CHECK(!chdir("../.."));
    CHECK(!strcmp(here(), "/"));
    CHECK(!chdir("proc/self/cwd"));
    CHECK(!strcmp(here(), "/"));
    CHECK(!chdir("dev"));
    CHECK(!strcmp(here(), "/dev"));
    EQUAL(type("null", 0), S_IFCHR);
    EQUAL(type(".", 0), S_IFDIR);
    EQUAL(type("../proc", 0), S_IFDIR);
    FAILS(chdir("null"), ENOTDIR);
    CHECK(!chdir("/proc/self/cwd/.."));
    CHECK(!strcmp(here(), "/"));
    CHECK(!chdir(before));
    CHECK(!chdir("/proc/self/cwd/"));
    CHECK(!strcmp(here(), before));
}

static void by_descriptor(void) {
    struct stat st, other;
    char path[64];
    CHECK(!mkdir("d", 0700));
    put("d/file", "text\n");
    int d = open("d", O_RDONLY | O_DIRECTORY), proc = open("/proc", O_RDONLY), dev = open("/dev", O_PATH);
    snprintf(path, sizeof path, "/proc/self/fd/%d/file", d);
    CHECK(!strcmp(get(path), "text\n"));
    snprintf(path, sizeof path, "/dev/fd/%d/../d/file", d);
    CHECK(!strcmp(get(path), "text\n"));
    snprintf(path, sizeof path, "/proc/self/fd/%d/self/comm", proc);
    CHECK(!strncmp(get(path), "pseudo_walks", 12));
    snprintf(path, sizeof path, "/proc/self/fd/%d/", d);
    EQUAL(type(path, AT_SYMLINK_NOFOLLOW), S_IFDIR);
    EQUAL(fstatat(proc, "self/exe", &st, 0), 0);
    EQUAL(fstatat(dev, "null", &st, 0), 0);
    CHECK(S_ISCHR(st.st_mode));
    EQUAL(fstatat(dev, "", &st, AT_EMPTY_PATH), 0);
    CHECK(S_ISDIR(st.st_mode));
    FAILS(fstatat(dev, "", &st, 0), ENOENT);
    FAILS(openat(proc, "", O_RDONLY), ENOENT);
    EQUAL(faccessat(dev, "null", W_OK, 0), 0);
    FAILS(fstatat(proc, "version/", &st, 0), ENOTDIR);
    int null = open("/dev/null", O_RDONLY), file = open("d/file", O_RDONLY);
    FAILS(fstatat(null, "x", &st, 0), ENOTDIR);
    FAILS(fstatat(file, "x", &st, 0), ENOTDIR);
    EQUAL(fstatat(null, "/dev/zero", &st, 0), 0);
    snprintf(path, sizeof path, "/dev/fd/%d", null); /* opened anew, with other rights */
    int again = open(path, O_WRONLY);
    EQUAL(write(again, "x", 1), 1);
    FAILS(write(null, "x", 1), EBADF);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    int anew = open(path, O_RDWR);
    EQUAL(lseek(file, 2, SEEK_SET), 2);
    EQUAL(lseek(anew, 0, SEEK_CUR), 0);
    EQUAL(fstat(file, &st) + fstat(anew, &other), 0);
    EQUAL(st.st_ino, other.st_ino);
    int version = open("/proc/version", O_RDONLY);
    char byte;
    EQUAL(read(version, &byte, 1), 1);
    snprintf(path, sizeof path, "/dev/fd/%d", version);
    CHECK(!strncmp(get(path), "Linux", 5));
    int name = open("/dev/null", O_PATH); /* a name is no right to the data */
    EQUAL(fstat(name, &st), 0);
    CHECK(S_ISCHR(st.st_mode));
    FAILS(read(name, &byte, 1), EBADF);
    FAILS(write(name, &byte, 1), EBADF);
    EQUAL(fcntl(name, F_GETFL) & O_PATH, O_PATH);
    int link = open("/proc/self", O_PATH | O_NOFOLLOW);
    EQUAL(fstat(link, &st), 0);
    CHECK(S_ISLNK(st.st_mode));
    int all[] = {d, proc, dev, null, file, again, anew, version, name, link};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        EQUAL(close(all[i]), 0);
    CHECK(!unlink("d/file") && !rmdir("d"));
}

static int count(DIR *dir) {
    int n = 0;
    while (readdir(dir))
        n++;
    return n;
}

static void listings(void) {
    DIR *dir = opendir("/proc/self/fd");
    int first = count(dir);
    CHECK(first >= 6); /* . .. 0 1 2 and its own */
    rewinddir(dir);
    EQUAL(count(dir), first);
    rewinddir(dir);
    readdir(dir);
    readdir(dir);
    long at = telldir(dir);
    struct dirent *entry = readdir(dir);
    char name[256];
    strcpy(name, entry ? entry->d_name : "");
    seekdir(dir, at);
    entry = readdir(dir);
    CHECK(entry && !strcmp(entry->d_name, name));
    closedir(dir);
    CHECK(!mkdir("many", 0700));
    for (int i = 0; i < 700; i++) {
        snprintf(name, sizeof name, "many/%0200d", i);
        put(name, "");
    }
    dir = opendir("many");
    EQUAL(count(dir), 702);
    rewinddir(dir);
    for (int i = 0; i < 600; i++)
        readdir(dir);
    at = telldir(dir);
    EQUAL(count(dir), 102);
    seekdir(dir, at);
    EQUAL(count(dir), 102);
    closedir(dir);
    for (int i = 0; i < 700; i++) {
        snprintf(name, sizeof name, "many/%0200d", i);
        CHECK(!unlink(name));
    }
    CHECK(!rmdir("many"));
}

/* A copy that fails moves no offset; the part that succeeded before an error is told. */
static void copies(void) {
    char big[8192];
    put("source", "0123456789");
    int in = open("source", O_RDWR), full = open("/dev/full", O_WRONLY), out = open("target", O_RDWR | O_CREAT, 0600);
    EQUAL(sendfile(full, in, 0, 10), -1); /* ENOSPC or EINVAL: newer kernels cannot splice into it */
    EQUAL(lseek(in, 0, SEEK_CUR), 0);
    EQUAL(sendfile(out, in, 0, 4), 4);
    EQUAL(lseek(in, 0, SEEK_CUR), 4);
    off_t at = 8;
    EQUAL(sendfile(out, in, &at, 100), 2);
    EQUAL(at, 10);
    EQUAL(lseek(in, 0, SEEK_CUR), 4);
    EQUAL(pread(out, big, 100, 0), 6);
    CHECK(!memcmp(big, "012389", 6));
    EQUAL(pread(in, big, 100, 10), 0);
    EQUAL(pread(in, big, 100, 7), 3);
    FAILS(pread(in, big, 1, -1), EINVAL);
    FAILS(pwrite(in, big, 1, -1), EINVAL);
    FAILS(lseek(in, -1, SEEK_SET), EINVAL);
    FAILS(lseek(in, -100, SEEK_CUR), EINVAL);
    EQUAL(lseek(in, 0, SEEK_CUR), 4);
    EQUAL(lseek(in, 5, SEEK_END), 15);
    EQUAL(read(in, big, 10), 0);
    EQUAL(write(in, big, 0), 0);
    EQUAL(lseek(in, 0, SEEK_END), 10);
    int append = open("source", O_WRONLY | O_APPEND);
    EQUAL(pwrite(append, "ab", 2, 0), 2); /* O_APPEND wins */
    EQUAL(lseek(append, 0, SEEK_CUR), 0);
    EQUAL(write(append, "c", 1), 1);
    EQUAL(lseek(append, 0, SEEK_CUR), 13);
    EQUAL(fcntl(append, F_SETFL, 0), 0);
    EQUAL(pwrite(append, "X", 1, 0), 1);
    EQUAL(fcntl(in, F_SETFL, O_APPEND), 0);
    EQUAL(write(in, "d", 1), 1);
    CHECK(!strcmp(get("source"), "X123456789abcd"));
    CHECK(!close(in) && !close(full) && !close(out) && !close(append) && !unlink("source") && !unlink("target"));
}

/* 3 MiB in one call, into memory that several mappings make up. */
static void large(void) {
    static char data[3 << 20], back[3 << 20];
    for (unsigned i = 0; i < sizeof data; i++)
        data[i] = i * 7 >> 3;
    int fd = open("large", O_RDWR | O_CREAT, 0600);
    EQUAL(write(fd, data, sizeof data), sizeof data);
    EQUAL(pread(fd, back, sizeof back, 0), sizeof back);
    CHECK(!memcmp(data, back, sizeof data));
    memset(back, 0, sizeof back);
    struct iovec parts[3] = {{back, 1}, {back + 1, (2 << 20) + 3}, {back + (2 << 20) + 4, 1 << 20}};
    EQUAL(preadv(fd, parts, 3, 5), sizeof data - 5);
    CHECK(!memcmp(data + 5, back, sizeof data - 5));
    CHECK(!close(fd) && !unlink("large"));
}

int main(void) {
    slashes_and_dots();
    directories_there();
    by_descriptor();
    listings();
    copies();
    large();
    return finish("pseudo_walks");
}
