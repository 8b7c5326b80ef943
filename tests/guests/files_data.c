/* read, write, pread, pwrite, append, lseek, truncate, fallocate, fsync, sendfile-free copies: contents, sizes, errno. */
#include "check.h"
#include <sys/uio.h>

static char block[1 << 20], back[1 << 20];

static off_t size_of(const char *path) {
    struct stat st;
    return stat(path, &st) ? -1 : st.st_size;
}

static void fill(unsigned seed) {
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)((i * 2654435761u + seed) >> 13);
}

static void test_offsets(void) {
    int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
    char text[32];
    EQUAL(write(fd, "hello world", 11), 11);
    EQUAL(read(fd, text, 10), 0);
    EQUAL(lseek(fd, 6, SEEK_SET), 6);
    EQUAL(read(fd, text, 100 > sizeof text ? sizeof text : 100), 5);
    EQUAL(memcmp(text, "world", 5), 0);
    EQUAL(pread(fd, text, 5, 0), 5);
    EQUAL(lseek(fd, 0, SEEK_CUR), 11); /* pread leaves it */
    EQUAL(pwrite(fd, "HELLO", 5, 0), 5);
    EQUAL(lseek(fd, 0, SEEK_CUR), 11);
    EQUAL(pread(fd, text, 5, 11), 0);
    EQUAL(pread(fd, text, 5, 1000000), 0);
    FAILS(pread(fd, text, 5, -1), EINVAL);
    FAILS(pwrite(fd, text, 5, -1), EINVAL);
    EQUAL(lseek(fd, -1, SEEK_END), 10);
    EQUAL(lseek(fd, 2, SEEK_CUR), 12);
    FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
    FAILS(lseek(fd, 0, 99), EINVAL);
    FAILS(lseek(fd, -100, SEEK_CUR), EINVAL);
    EQUAL(lseek(fd, 0, SEEK_CUR), 12); /* failures leave it too */
    EQUAL(lseek(fd, 20, SEEK_SET), 20);
    EQUAL(size_of("data"), 11);
    EQUAL(write(fd, "!", 1), 1);
    EQUAL(size_of("data"), 21);
    EQUAL(pread(fd, text, 21, 0), 21);
    EQUAL(memcmp(text, "HELLO world\0\0\0\0\0\0\0\0\0!", 21), 0);
    EQUAL(read(fd, text, 0), 0);
    EQUAL(write(fd, text, 0), 0);
    FAILS(read(99, text, 1), EBADF);
    FAILS(write(fd, (void *)8, 1), EFAULT);
    EQUAL(lseek(fd, 0, SEEK_SET), 0);
    FAILS(read(fd, (void *)8, 1), EFAULT);
    EQUAL(lseek(fd, 0, SEEK_CUR), 0);
    EQUAL(close(fd), 0);
}

static void test_append(void) {
    put("log", "one\n");
    int fd = open("log", O_WRONLY | O_APPEND), other = open("log", O_WRONLY | O_APPEND);
    EQUAL(write(fd, "two\n", 4), 4);
    EQUAL(write(other, "three\n", 6), 6);
    EQUAL(lseek(other, 0, SEEK_CUR), 14);
    EQUAL(lseek(fd, 0, SEEK_SET), 0);
    EQUAL(write(fd, "four\n", 5), 5);
    EQUAL(lseek(fd, 0, SEEK_CUR), 19);
    EQUAL(pwrite(fd, "five\n", 5, 0), 5); /* Linux: the offset is ignored (pwrite(2), BUGS) */
    EQUAL(strcmp(get("log"), "one\ntwo\nthree\nfour\nfive\n"), 0);
    close(fd);
    close(other);
}

static void test_large(void) {
    int fd = open("large", O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (unsigned i = 0; i < 6; i++) {
        fill(i);
        EQUAL(write(fd, block, sizeof block), sizeof block);
    }
    EQUAL(size_of("large"), 6 << 20);
    for (unsigned i = 6; i-- > 0;) {
        fill(i);
        EQUAL(pread(fd, back, sizeof back, (off_t)i << 20), sizeof back);
        EQUAL(memcmp(block, back, sizeof back), 0);
    }
    /* Overwriting across the borders of whatever the store cuts files into. */
    for (unsigned i = 0; i < 40; i++) {
        off_t offset = (off_t)i * 131071 + 65530;
        EQUAL(pwrite(fd, "0123456789abcdef", 16, offset), 16);
        EQUAL(pread(fd, back, 18, offset - 1), 18);
        EQUAL(memcmp(back + 1, "0123456789abcdef", 16), 0);
    }
    EQUAL(size_of("large"), 6 << 20);
    EQUAL(ftruncate(fd, 100000), 0);
    EQUAL(ftruncate(fd, 200000), 0);
    EQUAL(pread(fd, back, 200000, 0), 200000);
    fill(0);
    memcpy(block + 65530, "0123456789abcdef", 16);
    EQUAL(memcmp(back, block, 100000), 0);
    int zeros = 1;
    for (int i = 100000; i < 200000; i++)
        zeros &= back[i] == 0;
    CHECK(zeros); /* nothing of the old contents comes back */
    close(fd);
}

static void test_truncate(void) {
    put("short", "0123456789");
    EQUAL(truncate("short", 4), 0);
    EQUAL(strcmp(get("short"), "0123"), 0);
    EQUAL(truncate("short", 6), 0);
    EQUAL(size_of("short"), 6);
    FAILS(truncate("short", -1), EINVAL);
    FAILS(truncate("absent", 0), ENOENT);
    FAILS(truncate(".", 0), EISDIR);
    FAILS(truncate("short/x", 0), ENOTDIR);
    int fd = open("short", O_RDONLY);
    FAILS(ftruncate(fd, 0), EINVAL);
    close(fd);
    FAILS(ftruncate(99, 0), EBADF);
    fd = open("short", O_RDWR);
    EQUAL(lseek(fd, 0, SEEK_END), 6);
    EQUAL(ftruncate(fd, 2), 0);
    EQUAL(lseek(fd, 0, SEEK_CUR), 6);
    EQUAL(write(fd, "x", 1), 1);
    EQUAL(size_of("short"), 7);
    close(fd);
}

static void test_holes(void) {
    int fd = open("sparse", O_RDWR | O_CREAT | O_TRUNC, 0600);
    off_t far = (off_t)5 << 30;
    EQUAL(pwrite(fd, "end", 3, far), 3);
    EQUAL(size_of("sparse"), far + 3);
    struct stat st;
    EQUAL(fstat(fd, &st), 0);
    CHECK(st.st_blocks < 4096); /* no memory for the hole */
    EQUAL(pread(fd, back, 4096, far / 2), 4096);
    EQUAL(back[0] + back[4095], 0);
    off_t data = lseek(fd, 0, SEEK_DATA), hole = lseek(fd, 0, SEEK_HOLE);
    CHECK(data >= 0 && data <= far);
    CHECK(hole == 0 || hole == far + 3);
    EQUAL(lseek(fd, far, SEEK_DATA), far);
    EQUAL(lseek(fd, far, SEEK_HOLE), far + 3); /* the end is a hole */
    FAILS(lseek(fd, far + 3, SEEK_DATA), ENXIO);
    FAILS(lseek(fd, far + 3, SEEK_HOLE), ENXIO);
    FAILS(lseek(fd, -1, SEEK_DATA), ENXIO);
    EQUAL(ftruncate(fd, 0), 0);
    FAILS(lseek(fd, 0, SEEK_DATA), ENXIO);
    close(fd);
}

static void test_allocation(void) {
    int fd = open("allocated", O_RDWR | O_CREAT | O_TRUNC, 0600);
    EQUAL(fallocate(fd, 0, 0, 10000), 0);
    EQUAL(size_of("allocated"), 10000);
    EQUAL(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 20000), 0);
    EQUAL(size_of("allocated"), 10000);
    EQUAL(pwrite(fd, block, 10000, 0), 10000);
    EQUAL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000, 5000), 0);
    EQUAL(pread(fd, back, 10000, 0), 10000);
    EQUAL(memcmp(back, block, 1000) || memcmp(back + 6000, block + 6000, 4000), 0);
    EQUAL(back[1000] | back[3000] | back[5999], 0);
    FAILS(fallocate(fd, 0, -1, 10), EINVAL);
    FAILS(fallocate(fd, 0, 0, 0), EINVAL);
    FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP);
    EQUAL(syscall(SYS_fadvise64, fd, 0, 0, POSIX_FADV_SEQUENTIAL), 0);
    FAILS(syscall(SYS_fadvise64, fd, 0, 0, 99), EINVAL);
    EQUAL(fsync(fd), 0);
    EQUAL(fdatasync(fd), 0);
    close(fd);
    FAILS(fsync(99), EBADF);
    fd = open("allocated", O_RDONLY);
    FAILS(fallocate(fd, 0, 0, 10), EBADF);
    EQUAL(fsync(fd), 0);
    close(fd);
    sync();
}

static void test_unlinked(void) {
    put("gone", "still here");
    int fd = open("gone", O_RDWR);
    EQUAL(unlink("gone"), 0);
    struct stat st;
    EQUAL(fstat(fd, &st), 0);
    EQUAL(st.st_nlink, 0);
    EQUAL(pread(fd, back, 10, 0), 10);
    EQUAL(memcmp(back, "still here", 10), 0);
    EQUAL(pwrite(fd, "and there", 9, 10), 9);
    EQUAL(fstat(fd, &st), 0);
    EQUAL(st.st_size, 19);
    put("gone", "another"); /* the name again, another file */
    EQUAL(pread(fd, back, 5, 0), 5);
    EQUAL(memcmp(back, "still", 5), 0);
    close(fd);
    EQUAL(strcmp(get("gone"), "another"), 0);
}

int main(void) {
    fill(0);
    test_offsets();
    test_append();
    test_large();
    test_truncate();
    test_holes();
    test_allocation();
    test_unlinked();
    return finish("files_data");
}
