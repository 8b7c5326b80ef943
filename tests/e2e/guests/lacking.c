/* Says what becomes of each thing that a file server may not offer: "name: ok" or the errno's name. A server that
   offers everything, and native Linux, say ok to all. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *named(int number) {
    switch (number) {
    case 0: return "ok";
    case ENOSYS: return "ENOSYS";
    case EOPNOTSUPP: return "EOPNOTSUPP";
    case ENOLCK: return "ENOLCK";
    case EPERM: return "EPERM";
    case ENODEV: return "ENODEV";
    case ENODATA: return "ENODATA";
    default: return strerror(number);
    }
}

static void say(const char *name, int failed) {
    printf("%s: %s\n", name, named(failed ? errno : 0));
    fflush(stdout);
}

static void must(int holds, const char *what) {
    if (!holds) {
        printf("wrong: %s\n", what);
        exit(1);
    }
}

static int lock(int fd, int command, short type) {
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_len = 10};
    return fcntl(fd, command, &range);
}

static void attributes(void) {
    char value[8];
    say("setxattr", setxattr("file", "user.name", "value", 5, 0) < 0);
    int got = getxattr("file", "user.name", value, sizeof value);
    must(got != 5 || !memcmp(value, "value", 5), "the attribute's value");
    say("getxattr", got < 0 && errno != ENODATA);
    say("listxattr", listxattr("file", value, 0) < 0);
    say("removexattr", removexattr("file", "user.name") < 0 && errno != ENODATA);
}

static void names(void) {
    say("link", link("file", "second") < 0);
    say("symlink", symlink("file", "soft") < 0);
    say("mknod", mknod("fifo", S_IFIFO | 0600, 0) < 0);
    struct statfs found;
    say("statfs", statfs("/", &found) < 0);
}

static void locks(int fd) {
    say("flock", flock(fd, LOCK_EX | LOCK_NB) < 0);
    say("setlk", lock(fd, F_SETLK, F_WRLCK) < 0);
    say("getlk", lock(fd, F_GETLK, F_WRLCK) < 0);
    int held[2];
    must(pipe(held) == 0, "pipe");
    must(lock(fd, F_SETLK, F_UNLCK) == 0 || errno == ENOLCK, "unlock");
    pid_t child = fork();
    must(child >= 0, "fork");
    if (!child) {
        int mine = open("file", O_RDWR);
        int failed = lock(mine, F_SETLK, F_WRLCK) < 0;
        must(write(held[1], "x", 1) == 1, "write to a pipe");
        usleep(100000);
        _exit(failed);
    }
    char byte;
    must(read(held[0], &byte, 1) == 1, "read from a pipe");
    say("setlkw", lock(fd, F_SETLKW, F_WRLCK) < 0);
    must(waitpid(child, NULL, 0) == child, "waitpid");
}

static void mappings(int fd) {
    char *seen = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    must(seen != MAP_FAILED && !memcmp(seen, "content", 7), "a private mapping");
    seen = mmap(NULL, 8192, PROT_READ, MAP_SHARED, open("file", O_RDONLY), 0);
    must(seen != MAP_FAILED && !memcmp(seen, "content", 7), "a shared mapping that is read");
    char *stored = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    say("mmap", stored == MAP_FAILED);
    if (stored == MAP_FAILED)
        return;
    char found[8] = "";
    memcpy(stored, "CONTENT", 7);
    must(msync(stored, 8192, MS_SYNC) == 0, "msync");
    must(munmap(stored, 8192) == 0, "munmap");
    must(pread(fd, found, 7, 0) == 7 && !memcmp(found, "CONTENT", 7), "what was stored");
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    int fd = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    must(fd >= 0 && write(fd, "content", 7) == 7, "writing a file");
    must(ftruncate(fd, 1 << 20) == 0 && pwrite(fd, "end", 3, 1 << 20) == 3, "a file with a hole");
    attributes();
    names();
    say("fallocate", fallocate(fd, 0, 0, 2 << 20) < 0);
    off_t hole = lseek(fd, 0, SEEK_HOLE), data = lseek(fd, 1 << 16, SEEK_DATA);
    struct stat status;
    must(fstat(fd, &status) == 0 && hole > 0 && hole <= status.st_size && data >= 1 << 16, "holes and data");
    printf("hole: %s\n", hole < 1 << 20 ? "ok" : "none");
    locks(fd);
    mappings(fd);
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    say("shared memory", shared == MAP_FAILED);
    must(close(fd) == 0 && unlink("file") == 0, "removing a file");
    printf("done\n");
    return 0;
}
