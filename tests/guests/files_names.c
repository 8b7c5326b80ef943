/* mkdir, rmdir, rename family, link, symlink, readlink, unlink, mknod, getdents64, chdir, getcwd: names and errno. */
#include "check.h"
#include <dirent.h>

#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2

static int rename2(const char *from, const char *to, unsigned flags) {
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static ino_t ino(const char *path) {
    struct stat st;
    return lstat(path, &st) ? 0 : st.st_ino;
}

static nlink_t links(const char *path) {
    struct stat st;
    return lstat(path, &st) ? 0 : st.st_nlink;
}

static void test_directories(void) {
    umask(022);
    EQUAL(mkdir("d", 0777), 0);
    struct stat st;
    EQUAL(stat("d", &st), 0);
    EQUAL(st.st_mode, S_IFDIR | 0755);
    FAILS(mkdir("d", 0777), EEXIST);
    FAILS(mkdir("d/", 0777), EEXIST);
    FAILS(mkdir("", 0777), ENOENT);
    FAILS(mkdir("/", 0777), EEXIST);
    FAILS(mkdir("x/y", 0777), ENOENT);
    put("f", "file");
    FAILS(mkdir("f/y", 0777), ENOTDIR);
    FAILS(mkdir("f", 0777), EEXIST);
    EQUAL(mkdir("d/slash/", 0777), 0);
    EQUAL(symlink("nowhere", "dangling"), 0);
    FAILS(mkdir("dangling", 0777), EEXIST);
    FAILS(rmdir("d"), ENOTEMPTY);
    FAILS(rmdir("f"), ENOTDIR);
    FAILS(rmdir("absent"), ENOENT);
    FAILS(rmdir("d/slash/."), EINVAL);
    FAILS(rmdir("d/slash/.."), ENOTEMPTY);
    FAILS(unlink("d"), EISDIR);
    FAILS(unlinkat(AT_FDCWD, "f", AT_REMOVEDIR), ENOTDIR);
    FAILS(unlinkat(AT_FDCWD, "f", 1), EINVAL);
    EQUAL(unlinkat(AT_FDCWD, "d/slash", AT_REMOVEDIR), 0);
    EQUAL(rmdir("d/"), 0);
    EQUAL(access("d", F_OK), -1);
    FAILS(unlink("f/"), ENOTDIR);
    EQUAL(unlink("f"), 0);
    FAILS(unlink("f"), ENOENT);
    EQUAL(unlink("dangling"), 0);
}

static void test_links(void) {
    put("a", "contents");
    EQUAL(link("a", "b"), 0);
    EQUAL(links("a"), 2);
    EQUAL(ino("a"), ino("b"));
    FAILS(link("a", "b"), EEXIST);
    FAILS(link("absent", "c"), ENOENT);
    FAILS(link("a", "x/c"), ENOENT);
    FAILS(link("a", "b/c"), ENOTDIR);
    EQUAL(mkdir("dir", 0755), 0);
    FAILS(link("dir", "c"), EPERM);
    EQUAL(unlink("a"), 0);
    EQUAL(links("b"), 1);
    EQUAL(strcmp(get("b"), "contents"), 0);
    EQUAL(symlink("b", "s"), 0);
    EQUAL(link("s", "hard-s"), 0); /* the link itself */
    EQUAL(ino("s"), ino("hard-s"));
    EQUAL(linkat(AT_FDCWD, "s", AT_FDCWD, "hard-b", AT_SYMLINK_FOLLOW), 0);
    EQUAL(ino("hard-b"), ino("b"));
    FAILS(linkat(AT_FDCWD, "s", AT_FDCWD, "n", 1), EINVAL);

    char target[PATH_MAX];
    memset(target, '?', sizeof target);
    EQUAL(readlink("s", target, sizeof target), 1);
    EQUAL(target[0] == 'b' && target[1] == '?', 1); /* no NUL is added */
    EQUAL(symlink("a-longer-target/with/parts", "s2"), 0);
    EQUAL(readlink("s2", target, 8), 8);
    EQUAL(memcmp(target, "a-longer?", 9), 0);
    struct stat st;
    EQUAL(lstat("s2", &st), 0);
    EQUAL(st.st_mode, S_IFLNK | 0777);
    EQUAL(st.st_size, 26);
    FAILS(readlink("b", target, 10), EINVAL);
    FAILS(readlink("absent", target, 10), ENOENT);
    FAILS(syscall(SYS_readlinkat, AT_FDCWD, "s", target, 0), EINVAL);
    FAILS(syscall(SYS_readlinkat, AT_FDCWD, "s", target, -1), EINVAL);
    FAILS(symlink("x", "s"), EEXIST);
    FAILS(symlink("", "empty"), ENOENT);
    FAILS(symlink("x", ""), ENOENT);
    int fd = open("dir", O_RDONLY | O_DIRECTORY);
    EQUAL(symlinkat("../b", fd, "up"), 0);
    EQUAL(strcmp(get("dir/up"), "contents"), 0);
    EQUAL(readlinkat(fd, "up", target, sizeof target), 4);
    EQUAL(linkat(fd, "up", fd, "down", 0), 0);
    EQUAL(unlinkat(fd, "down", 0), 0);
    close(fd);
    char cwd[PATH_MAX], path[PATH_MAX];
    CHECK(getcwd(cwd, sizeof cwd - 8) != NULL);
    snprintf(path, sizeof path, "%s/b", cwd);
    EQUAL(symlink(path, "absolute"), 0);
    EQUAL(strcmp(get("absolute"), "contents"), 0);
    EQUAL(symlink("dir/../s", "twice"), 0);
    EQUAL(strcmp(get("./twice"), "contents"), 0);
    FAILS(open("absolute/", O_RDONLY), ENOTDIR);
}

static void test_rename(void) {
    put("one", "1");
    put("two", "2");
    ino_t first = ino("one");
    EQUAL(rename("one", "two"), 0);
    EQUAL(ino("two"), first);
    FAILS(open("one", O_RDONLY), ENOENT);
    EQUAL(strcmp(get("two"), "1"), 0);
    EQUAL(rename("two", "two"), 0);
    FAILS(rename("absent", "two"), ENOENT);
    FAILS(rename("two", "x/y"), ENOENT);
    EQUAL(link("two", "same"), 0);
    EQUAL(rename("two", "same"), 0); /* two names of one file: nothing happens */
    EQUAL(access("two", F_OK), 0);
    EQUAL(mkdir("r", 0755), 0);
    EQUAL(mkdir("r/sub", 0755), 0);
    EQUAL(mkdir("empty", 0755), 0);
    EQUAL(mkdir("full", 0755), 0);
    put("full/x", "x");
    FAILS(rename("r", "r/sub/inside"), EINVAL);
    FAILS(rename("r", "full"), ENOTEMPTY);
    FAILS(rename("two", "r"), EISDIR);
    FAILS(rename("r", "two"), ENOTDIR);
    FAILS(rename("two/", "three"), ENOTDIR);
    FAILS(rename("r/.", "q"), EBUSY);
    FAILS(rename("r/sub", "r"), ENOTEMPTY);
    EQUAL(rename("r", "empty"), 0);
    EQUAL(access("empty/sub", F_OK), 0);
    EQUAL(rename("empty/", "r/"), 0);
    nlink_t before = links(".");
    EQUAL(rename("r/sub", "sub"), 0);
    CHECK(links(".") == before + 1 || links(".") == before); /* some file systems do not count */
    FAILS(rename2("two", "sub", RENAME_NOREPLACE), EEXIST);
    FAILS(rename2("two", "two", RENAME_NOREPLACE), EEXIST);
    EQUAL(rename2("two", "new", RENAME_NOREPLACE), 0);
    put("other", "other");
    ino_t a = ino("new"), b = ino("other"), d = ino("sub");
    EQUAL(rename2("new", "other", RENAME_EXCHANGE), 0);
    EQUAL(ino("new") == b && ino("other") == a, 1);
    EQUAL(rename2("new", "sub", RENAME_EXCHANGE), 0); /* a file and a directory */
    EQUAL(ino("new") == d && ino("sub") == b, 1);
    FAILS(rename2("new", "absent", RENAME_EXCHANGE), ENOENT);
    put("new/below", "");
    FAILS(rename2("new", "new/below", RENAME_EXCHANGE), EINVAL);
    FAILS(rename2("new", "sub", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    FAILS(rename2("new", "sub", 64), EINVAL);
    EQUAL(symlink("sub", "alias"), 0);
    EQUAL(rename("alias", "alias2"), 0); /* the link, not what it names */
    EQUAL(ino("sub"), b);
    int fd = open("other", O_RDONLY);
    put("replaced", "r");
    EQUAL(rename("replaced", "other"), 0);
    char byte;
    EQUAL(read(fd, &byte, 1), 1); /* what was replaced stays readable */
    EQUAL(byte, '1');
    close(fd);
}

static int count_entries(int fd, size_t room, char *seen) {
    char buffer[65536];
    int count = 0;
    long length;
    while ((length = syscall(SYS_getdents64, fd, buffer, room)) > 0)
        for (char *p = buffer; p < buffer + length;) {
            struct dirent *entry = (struct dirent *)p;
            int number = -1;
            if (sscanf(entry->d_name, "entry-%d", &number) == 1) {
                seen[number]++;
                CHECK(entry->d_type == (number % 3 ? DT_REG : DT_DIR));
                CHECK(entry->d_ino != 0);
            } else
                CHECK(!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."));
            CHECK(entry->d_reclen % 8 == 0);
            p += entry->d_reclen;
            count++;
        }
    return length < 0 ? -1 : count;
}

static void test_listing(void) {
    EQUAL(mkdir("many", 0755), 0);
    char path[64];
    for (int i = 0; i < 300; i++) {
        snprintf(path, sizeof path, "many/entry-%d", i);
        if (i % 3)
            put(path, "");
        else
            EQUAL(mkdir(path, 0755), 0);
    }
    size_t rooms[] = {65536, 4096, 280};
    for (int r = 0; r < 3; r++) {
        char seen[300] = {0};
        int fd = open("many", O_RDONLY | O_DIRECTORY);
        EQUAL(count_entries(fd, rooms[r], seen), 302);
        for (int i = 0; i < 300; i++)
            CHECK(seen[i] == 1);
        EQUAL(lseek(fd, 0, SEEK_SET), 0);
        EQUAL(count_entries(fd, rooms[r], seen), 302);
        char small[8];
        EQUAL(lseek(fd, 0, SEEK_SET), 0);
        FAILS(syscall(SYS_getdents64, fd, small, sizeof small), EINVAL);
        close(fd);
    }
    /* Removing what was read does not disturb the rest. */
    DIR *dir = opendir("many");
    struct dirent *entry;
    int removed = 0;
    while ((entry = readdir(dir)))
        if (!strncmp(entry->d_name, "entry-", 6))
            removed += unlinkat(dirfd(dir), entry->d_name, entry->d_type == DT_DIR ? AT_REMOVEDIR : 0) == 0;
    EQUAL(removed, 300);
    closedir(dir);
    EQUAL(rmdir("many"), 0);
    put("plain", "");
    int fd = open("plain", O_RDONLY);
    char buffer[512];
    FAILS(syscall(SYS_getdents64, fd, buffer, sizeof buffer), ENOTDIR);
    close(fd);
    EQUAL(mkdir("doomed", 0755), 0);
    fd = open("doomed", O_RDONLY | O_DIRECTORY);
    EQUAL(rmdir("doomed"), 0);
    FAILS(syscall(SYS_getdents64, fd, buffer, sizeof buffer), ENOENT);
    FAILS(openat(fd, "x", O_CREAT | O_RDWR, 0600), ENOENT);
    close(fd);
}

static void test_cwd(void) {
    char start[PATH_MAX], here[PATH_MAX];
    CHECK(getcwd(start, sizeof start) != NULL);
    EQUAL(mkdir("cwd", 0755), 0);
    EQUAL(symlink("cwd", "cwd-link"), 0);
    EQUAL(chdir("cwd-link"), 0);
    CHECK(getcwd(here, sizeof here) != NULL);
    EQUAL(strcmp(here + strlen(start), "/cwd"), 0);
    put("inside", "in");
    EQUAL(strcmp(get("../cwd/inside"), "in"), 0);
    FAILS(chdir("inside"), ENOTDIR);
    FAILS(chdir("absent"), ENOENT);
    EQUAL(syscall(SYS_getcwd, here, sizeof here), strlen(start) + 5);
    FAILS(syscall(SYS_getcwd, here, 2), ERANGE);
    EQUAL(rename("../cwd", "../moved"), 0);
    CHECK(getcwd(here, sizeof here) != NULL);
    EQUAL(strcmp(here + strlen(start), "/moved"), 0);
    int fd = open(start, O_RDONLY | O_DIRECTORY);
    EQUAL(fchdir(fd), 0);
    close(fd);
    FAILS(fchdir(99), EBADF);
    EQUAL(strcmp(get("moved/inside"), "in"), 0);
    EQUAL(chdir("/"), 0);
    EQUAL(chdir(".."), 0);
    EQUAL(strcmp(getcwd(here, sizeof here), "/"), 0);
    EQUAL(chdir(start), 0);
}

static void test_nodes(void) {
    struct stat st;
    EQUAL(mknod("node", S_IFREG | 0600, 0), 0);
    EQUAL(stat("node", &st), 0);
    EQUAL(st.st_mode, S_IFREG | 0600);
    EQUAL(mknod("fifo", S_IFIFO | 0644, 0), 0);
    EQUAL(stat("fifo", &st), 0);
    EQUAL(st.st_mode, S_IFIFO | 0644);
    EQUAL(mknodat(AT_FDCWD, "sock", S_IFSOCK | 0600, 0), 0);
    FAILS(open("sock", O_RDONLY), ENXIO);
    FAILS(mknod("node", S_IFREG | 0600, 0), EEXIST);
    FAILS(mknod("bad", S_IFDIR | 0600, 0), EPERM);
    FAILS(mknod("bad", S_IFLNK | 0600, 0), EINVAL);
}

int main(void) {
    test_directories();
    test_links();
    test_rename();
    test_listing();
    test_cwd();
    test_nodes();
    return finish("files_names");
}
