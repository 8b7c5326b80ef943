CFLAGS = -O1 -Wall
program: primes.o main.o
	$(CC) -o $@ $^

primes.o: CFLAGS += -Dmain=primes_main
run: program
	./program
	rm -f program *.o
.PHONY: run
