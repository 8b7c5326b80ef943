# openssl s_server and s_client, TLS 1.3.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2 -keyout key -out cert 2>/dev/null
openssl s_server -accept 127.0.0.1:8008 -key key -cert cert -rev -quiet >log 2>&1 &
server=$!
wait_for 8008
coproc client {
    timeout 60 openssl s_client -connect 127.0.0.1:8008 -CAfile cert -verify_return_error -quiet -no_ign_eof 2>/dev/null
}
echo stressed >&"${client[1]}"
read -r answer <&"${client[0]}"
echo "$answer"
kill "$server"
wait
