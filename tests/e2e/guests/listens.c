/* Greets whoever connects to port 7000. A listening socket that is lost gets a successor as soon as there can be one. */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void say(const char *text) {
    if (write(1, text, strlen(text)) < 0)
        _exit(99);
}

int main(void) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(7000)};
    for (;; usleep(10000)) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), taken;
        if (fd < 0)
            continue;
        if (!bind(fd, (void *)&name, sizeof name) && !listen(fd, 9)) {
            say("listening\n");
            while ((taken = accept(fd, NULL, NULL)) >= 0) {
                if (write(taken, "hello\n", 6) != 6)
                    return 1;
                close(taken);
            }
            say("lost\n");
        }
        close(fd);
    }
}
