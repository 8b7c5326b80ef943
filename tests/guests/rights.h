/* Descriptions passed beside one byte (SCM_RIGHTS, unix(7)). After "children.h". */
#include <sys/socket.h>

enum { RIGHTS_MAX = 300 };

/* As sendmsg. */
static ssize_t pass(int fd, const int *fds, int count) {
    char control[CMSG_SPACE(RIGHTS_MAX * sizeof(int))] = {0};
    struct iovec data = {"!", 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
    return sendmsg(fd, &message, 0);
}

/* Receives them: how many came, or -1; the message's flags. */
static int take_some(int fd, int *fds, int room, int flags, int *told) {
    char control[CMSG_SPACE(RIGHTS_MAX * sizeof(int))], byte;
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_LEN(room * sizeof(int))};
    if (!room)
        message.msg_controllen = 0;
    if (recvmsg(fd, &message, flags) != 1)
        return -1;
    *told = message.msg_flags;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    if (!rights)
        return 0;
    int count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(rights), count * sizeof(int));
    return count;
}
