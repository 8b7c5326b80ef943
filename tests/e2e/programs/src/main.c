int primes_main(int, char **);

int main(void) {
    char *arguments[] = {"primes", "500", 0};
    return primes_main(2, arguments);
}
