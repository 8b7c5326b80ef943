# nc, both ways: a file there, another one back.
seq 1 30000 >there
seq 30000 -1 1 >back
nc -l 127.0.0.1 8003 >got.there <back &
for _ in $(seq 100); do nc -N 127.0.0.1 8003 <there >got.back 2>/dev/null && break; sleep 0.1; done
wait
cmp there got.there && cmp back got.back && echo same
