// Goroutines over several threads, channels, timers, a collector of garbage, signals, children and files.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func check(what string, holds bool) {
	if !holds {
		fmt.Println("FAILED:", what)
		os.Exit(1)
	}
}

func primes(limit int) int {
	numbers := make(chan int)
	go func() {
		for n := 2; n < limit; n++ {
			numbers <- n
		}
		close(numbers)
	}()
	count := 0
	for source := (<-chan int)(numbers); ; count++ {
		prime, more := <-source
		if !more {
			return count
		}
		sieved := make(chan int)
		go func(from <-chan int, to chan<- int) {
			for n := range from {
				if n%prime != 0 {
					to <- n
				}
			}
			close(to)
		}(source, sieved)
		source = sieved
	}
}

func counts() {
	var total int64
	var locked int
	var mutex sync.Mutex
	var group sync.WaitGroup
	for n := 0; n < 16; n++ {
		group.Add(1)
		go func() {
			defer group.Done()
			runtime.LockOSThread() // a thread of the system for each
			for i := 0; i < 500; i++ {
				atomic.AddInt64(&total, 1)
				mutex.Lock()
				locked++
				mutex.Unlock()
			}
		}()
	}
	group.Wait()
	check("counts", total == 8000 && locked == 8000)
}

func computes() {
	var stop int32
	done := make(chan int)
	for n := 0; n < 3; n++ {
		go func() {
			rounds := 0
			for atomic.LoadInt32(&stop) == 0 {
				rounds++
			}
			done <- rounds
		}()
	}
	time.Sleep(30 * time.Millisecond) // while they compute: preemption by signals
	runtime.GC()
	atomic.StoreInt32(&stop, 1)
	for n := 0; n < 3; n++ {
		check("computing goroutines got on", <-done > 0)
	}
}

func garbage() {
	kept := map[int]string{}
	for n := 0; n < 20000; n++ {
		kept[n%100] = strings.Repeat("x", n%1000)
	}
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	check("garbage was collected", memory.NumGC > 0 && len(kept) == 100)
}

func signals() {
	received := make(chan os.Signal, 10)
	signal.Notify(received, syscall.SIGUSR1)
	for n := 0; n < 5; n++ {
		check("kill", syscall.Kill(os.Getpid(), syscall.SIGUSR1) == nil)
		select {
		case <-received:
		case <-time.After(20 * time.Second):
			check("a signal came", false)
		}
	}
	defer func() {
		check("a fault is an error", strings.Contains(fmt.Sprint(recover()), "nil pointer"))
	}()
	var nothing *int
	*nothing = 1
}

func children() {
	var group sync.WaitGroup
	outputs := make([]string, 4)
	for n := range outputs {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			command := exec.Command("/proc/self/exe", "child", fmt.Sprint(n))
			command.Stdin = strings.NewReader("input")
			output, err := command.Output()
			failed, is := err.(*exec.ExitError)
			check("exit status", is && failed.ExitCode() == n+1)
			outputs[n] = string(output)
		}(n)
	}
	group.Wait()
	sort.Strings(outputs)
	check("outputs", strings.Join(outputs, ",") == "0 input,1 input,2 input,3 input")
}

func main() {
	if len(os.Args) > 2 {
		var input bytes.Buffer
		input.ReadFrom(os.Stdin)
		fmt.Print(os.Args[2], " ", input.String())
		os.Exit(1 + int(os.Args[2][0]-'0'))
	}
	runtime.GOMAXPROCS(4)
	check("primes", primes(300) == 62)
	counts()
	computes()
	garbage()
	signals()
	children()
	fmt.Println("go: all checks passed")
}
