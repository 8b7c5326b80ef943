# busybox httpd and wget: a page that is there, and one that is not.
mkdir www && seq 20000 >www/numbers
busybox httpd -f -p 127.0.0.1:8001 -h www &
wait_for 8001
busybox wget -q -O got http://127.0.0.1:8001/numbers && cmp got www/numbers && echo same
busybox wget -q -O /dev/null http://127.0.0.1:8001/nothing || echo not there
kill %1
