# python3's http.server and urllib.
seq 20000 >numbers
/usr/bin/python3 -m http.server --bind 127.0.0.1 8002 >log 2>&1 &
wait_for 8002
/usr/bin/python3 -c '
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8002/numbers").read() == open("numbers", "rb").read())
try:
    urllib.request.urlopen("http://127.0.0.1:8002/nothing")
except urllib.error.HTTPError as error:
    print(error)
'
kill %1
grep -c '"GET /n' log
