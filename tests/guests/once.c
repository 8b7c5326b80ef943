/* Changes of which each must take effect once, whatever becomes of the file server meanwhile: a test kills it
   in each of them. Between "begin" and "done" stands one call; what it did is looked at in the end. */
#include "check.h"
#include <dirent.h>

enum { LARGE = 200000 };

static void say(const char *word, const char *change) {
    char line[64];
    int length = snprintf(line, sizeof line, "%s %s\n", word, change);
    if (write(1, line, length) != length)
        _exit(99);
}

#define CHANGE(name, call, expected) \
    do { \
        say("begin", name); \
        EQUAL(call, expected); \
        say("done", name); \
    } while (0)

static char large[LARGE];

static void check_log(int log) {
    static char found[LARGE + 64];
    EQUAL(lseek(log, 0, SEEK_END), 5 + LARGE);
    int fd = open("log", O_RDONLY);
    EQUAL(read(fd, found, sizeof found), 5 + LARGE);
    CHECK(!memcmp(found, "line\n", 5) && !memcmp(found + 5, large, LARGE));
    EQUAL(close(fd), 0);
}

/* The offset is the one that the first read left, and moved on with the write. */
static void check_book(int book) {
    char found[64] = "";
    EQUAL(lseek(book, 0, SEEK_CUR), 14);
    EQUAL(read(book, found, 4), 4);
    CHECK(!strcmp(found, "opqr"));
    CHECK(!strcmp(get("book"), "abcdefghij0123opqrstuvwxyz"));
}

static void check_gone(int gone) {
    struct stat status;
    char found[64] = "";
    FAILS(access("gone", F_OK), ENOENT);
    EQUAL(fstat(gone, &status), 0);
    EQUAL(status.st_nlink, 0);
    EQUAL(status.st_size, 12);
    EQUAL(read(gone, found, sizeof found - 1), 9); /* three were read while it had a name */
    CHECK(!strcmp(found, " without\n"));
}

static void check_names(ino_t old) {
    struct stat status;
    FAILS(access("old", F_OK), ENOENT);
    EQUAL(stat("new", &status), 0);
    EQUAL(status.st_ino, old);
    EQUAL(status.st_nlink, 2);
    EQUAL(stat("second", &status), 0);
    EQUAL(status.st_ino, old);
    CHECK(!strcmp(get("new"), "renamed\n"));
    EQUAL(stat("directory", &status), 0);
    EQUAL(status.st_nlink, 2);
    CHECK(S_ISDIR(status.st_mode));
    FAILS(mkdir("directory", 0755), EEXIST);
    FAILS(open("fresh", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
}

static void check_listing(void) {
    static const char *names[] = {"log", "book", "gone", "old", "new", "second", "directory", "fresh"};
    static const int wanted[] = {1, 1, 0, 0, 1, 1, 1, 1};
    int found[8] = {0};
    DIR *directory = opendir(".");
    CHECK(directory);
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        for (int at = 0; at < 8; at++)
            found[at] += !strcmp(entry->d_name, names[at]);
    for (int at = 0; at < 8; at++)
        EQUAL(found[at], wanted[at]);
    if (directory)
        closedir(directory);
}

int main(void) {
    char text[64] = "";
    struct stat old;
    memset(large, 'x', sizeof large);
    put("book", "abcdefghijklmnopqrstuvwxyz");
    put("old", "renamed\n");
    put("gone", "gon without\n");
    int log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644);
    int book = open("book", O_RDWR), gone = open("gone", O_RDONLY), fresh;
    EQUAL(read(book, text, 10), 10);
    EQUAL(read(gone, text, 3), 3);
    EQUAL(stat("old", &old), 0);

    CHANGE("append", write(log, "line\n", 5), 5);
    CHANGE("mkdir", mkdir("directory", 0755), 0);
    CHANGE("rename", rename("old", "new"), 0);
    CHANGE("unlink", unlink("gone"), 0);
    CHANGE("create", (fresh = open("fresh", O_WRONLY | O_CREAT | O_EXCL, 0644)) > gone, 1);
    CHANGE("write", write(book, "0123", 4), 4);
    CHANGE("link", link("new", "second"), 0);
    CHANGE("large-append", write(log, large, LARGE), LARGE);

    check_log(log);
    check_book(book);
    check_gone(gone);
    check_names(old.st_ino);
    check_listing();
    EQUAL(write(fresh, "mine", 4), 4);
    CHECK(!strcmp(get("fresh"), "mine"));
    return finish("once");
}
