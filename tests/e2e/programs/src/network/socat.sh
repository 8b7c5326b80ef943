# socat: an echo that forks for each connection, IPv6, and datagrams. -t: it would wait 0.5 s for who answers late.
socat -t60 TCP-LISTEN:8005,reuseaddr,fork EXEC:'tr a-z A-Z' &
wait_for 8005
for i in 1 2 3; do echo "hello $i" | socat -t60 - TCP:127.0.0.1:8005; done
socat -t60 TCP6-LISTEN:8006,reuseaddr,fork PIPE &
wait_for 8006
echo six | socat -t60 - 'TCP6:[::1]:8006'
socat -u UDP-RECVFROM:8007 OPEN:datagram,creat &
for _ in $(seq 50); do echo datagram | socat -u - UDP-SENDTO:127.0.0.1:8007; [ -s datagram ] && break; sleep 0.1; done
cat datagram
kill %1 %2
