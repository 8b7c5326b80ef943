# redis-server, redis-cli and redis-benchmark.
# On ARM64 it looks into /proc/self/smaps for a flaw of old kernels.
redis-server --port 8004 --save '' --appendonly no --dir . >log 2>&1 &
wait_for 8004
redis-cli -p 8004 set key value
redis-cli -p 8004 get key
redis-cli -p 8004 incrby number 41
printf 'incr number\r\n%.0s' 1 2 3 | redis-cli -p 8004
redis-cli -p 8004 lpush list a b c
redis-cli -p 8004 lrange list 0 -1
redis-benchmark -p 8004 -n 300 -c 10 -q -t set,get,lpush | tr '\r' '\n' | grep -c 'requests per second'
redis-cli -p 8004 shutdown nosave
wait
grep -c 'ready to exit' log
