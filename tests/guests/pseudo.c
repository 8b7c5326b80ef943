/* /proc/self/{exe,maps,fd,cmdline,status} and /dev/{null,zero,full,urandom,tty}. */
#include "slurp.h"
#include <dirent.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

/* Permissions of the mapping that holds the address ("r-xp"), "" if none; what it is named is put into name. */
static const char *mapping_of(const void *address, char *name) {
    static char mode[8];
    slurp("/proc/self/maps", 4096);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long start, end;
        int at = 0;
        if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %*u %n", &start, &end, mode, &at) != 3)
            return line;
        if ((unsigned long)address >= start && (unsigned long)address < end) {
            strcpy(name, at ? line + at : "");
            return mode;
        }
    }
    return "";
}

static void test_self(const char *path) {
    char name[PATH_MAX], real[PATH_MAX], other[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", name, sizeof name);
    CHECK(length > 0);
    name[length > 0 ? length : 0] = 0;
    CHECK(realpath(path, real) != NULL);
    EQUAL(strcmp(name, real), 0);
    EQUAL(readlink("/proc/self/exe", name, 3), 3);
    unsigned char magic[4];
    int fd = open("/proc/self/exe", O_RDONLY);
    EQUAL(read(fd, magic, 4), 4);
    EQUAL(memcmp(magic, "\x7f" "ELF", 4), 0);
    struct stat by_link, by_name;
    EQUAL(stat("/proc/self/exe", &by_link) || stat(path, &by_name), 0);
    EQUAL(by_link.st_ino, by_name.st_ino);
    EQUAL(lstat("/proc/self/exe", &by_link), 0);
    EQUAL(by_link.st_mode & S_IFMT, S_IFLNK);
    close(fd);
    snprintf(other, sizeof other, "/proc/%d/cmdline", getpid());
    EQUAL(access(other, R_OK), 0);
    length = readlink("/proc/self", name, sizeof name);
    CHECK(length > 0);
    name[length > 0 ? length : 0] = 0;
    EQUAL(atoi(name), getpid());
    FAILS(open("/proc/self/absent", O_RDONLY), ENOENT);
    FAILS(open("/proc/999999999", O_RDONLY), ENOENT);
    FAILS(open("/proc/self/exe/x", O_RDONLY), ENOTDIR);
}

static void test_cmdline(int argc, char **argv) {
    for (size_t step = 1; step < 5000; step += 4999 / 2) {
        size_t length = slurp("/proc/self/cmdline", step), at = 0;
        for (int i = 0; i < argc; i++) {
            EQUAL(strcmp(text + at, argv[i]), 0);
            at += strlen(text + at) + 1;
        }
        EQUAL(at, length);
    }
    char head[32];
    snprintf(head, sizeof head, "\nPid:\t%d\n", getpid());
    slurp("/proc/self/status", 4096);
    CHECK(!strncmp(text, "Name:\t", 6));
    CHECK(strstr(text, head) != NULL);
    snprintf(head, sizeof head, "\nUid:\t%d\t%d\t", getuid(), geteuid());
    CHECK(strstr(text, head) != NULL);
    CHECK(strstr(text, "\nThreads:\t1\n") != NULL);
    CHECK(strstr(text, "\nVmRSS:\t") != NULL);
}

static void test_maps(void) {
    static int data = 1;
    static const char constant[] = "constant";
    char name[PATH_MAX], exe[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[length > 0 ? length : 0] = 0;
    EQUAL(strcmp(mapping_of((void *)(uintptr_t)test_maps, name), "r-xp"), 0);
    EQUAL(strcmp(name, exe), 0);
    EQUAL(strcmp(mapping_of(&data, name), "rw-p"), 0);
    EQUAL(strcmp(mapping_of(constant, name), "r--p"), 0);
    EQUAL(strcmp(mapping_of(name, name), "rw-p"), 0);
    char *a = mmap(NULL, 3 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EQUAL(strcmp(mapping_of(a, name), "r--p"), 0);
    EQUAL(mprotect(a + 4096, 4096, PROT_READ | PROT_WRITE), 0);
    EQUAL(strcmp(mapping_of(a + 4096, name), "rw-p"), 0);
    EQUAL(strcmp(mapping_of(a + 8192, name), "r--p"), 0);
    munmap(a, 3 * 4096);
    EQUAL(strcmp(mapping_of(a, name), ""), 0);
    char here = 0;
    EQUAL(strcmp(mapping_of(&here, name), "rw-p"), 0);
    EQUAL(strcmp(name, "[stack]"), 0);
}

static void test_descriptors(void) {
    char target[PATH_MAX], expected[PATH_MAX], path[64];
    put("opened", "text");
    int fd = open("opened", O_RDONLY);
    CHECK(lseek(fd, 2, SEEK_SET) == 2);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, target, sizeof target - 1);
    CHECK(length > 0 && realpath("opened", expected) != NULL);
    target[length > 0 ? length : 0] = 0;
    EQUAL(strcmp(target, expected), 0);
    int again = open(path, O_RDONLY); /* a new description of the same file */
    CHECK(again >= 0);
    EQUAL(lseek(again, 0, SEEK_CUR), 0);
    close(again);
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir != NULL);
    int found = 0, standard = 0;
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        found += entry->d_name[0] != '.' && atoi(entry->d_name) == fd;
        standard += entry->d_name[0] != '.' && atoi(entry->d_name) < 3;
    }
    EQUAL(found, 1);
    EQUAL(standard, 3);
    closedir(dir);
    close(fd);
    FAILS(readlink(path, target, sizeof target), ENOENT);
}

static void test_devices(void) {
    char bytes[4096], more[64];
    struct stat st;
    memset(bytes, 7, sizeof bytes);
    int fd = open("/dev/null", O_RDWR);
    EQUAL(write(fd, bytes, sizeof bytes), sizeof bytes);
    EQUAL(read(fd, bytes, sizeof bytes), 0);
    EQUAL(fstat(fd, &st), 0);
    EQUAL(S_ISCHR(st.st_mode), 1);
    EQUAL(st.st_rdev, makedev(1, 3));
    EQUAL(lseek(fd, 10, SEEK_SET), 0);
    close(fd);
    fd = open("/dev/zero", O_RDWR);
    EQUAL(read(fd, bytes, sizeof bytes), sizeof bytes);
    EQUAL(bytes[0] | bytes[4095], 0);
    EQUAL(write(fd, bytes, 100), 100);
    close(fd);
    fd = open("/dev/full", O_RDWR);
    EQUAL(read(fd, bytes, 16), 16);
    FAILS(write(fd, "x", 1), ENOSPC);
    close(fd);
    fd = open("/dev/urandom", O_RDONLY);
    memset(more, 0, sizeof more);
    EQUAL(read(fd, more, sizeof more), sizeof more);
    EQUAL(read(fd, bytes, sizeof more), sizeof more);
    CHECK(memcmp(more, bytes, sizeof more) != 0);
    close(fd);
    fd = open("/dev/tty", O_RDWR);
    CHECK(fd >= 0 || errno == ENXIO); /* without a terminal: ENXIO */
    if (fd >= 0)
        close(fd);
    EQUAL(stat("/dev/tty", &st), 0);
    EQUAL(st.st_rdev, makedev(5, 0));
    EQUAL(stat("/dev/urandom", &st), 0);
    EQUAL(st.st_rdev, makedev(1, 9));
    EQUAL(isatty(open("/dev/null", O_RDONLY)), 0);
    EQUAL(errno, ENOTTY);
}

int main(int argc, char **argv) {
    test_self(argv[0]);
    test_cmdline(argc, argv);
    test_maps();
    test_descriptors();
    test_devices();
    return finish("pseudo");
}
